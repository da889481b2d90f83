"""``python -m tests.fuzz [NAME …]``: each harness for a while, in processes of its own; status 1: one found something.

What is found is written to ``build/fuzz/NAME/``; where it isn't the harness's own fault it is mended, and the file goes
to ``tests/fuzz/corpus/NAME/``.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.fuzz.run import run_changed
from tests.fuzz.table import HARNESSES

_FOUND: Final = Path("build/fuzz")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(HARNESSES)}; none: all")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each (10)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--here", action="store_true", help="changed inputs only, of one, in this process")
    options = parser.parse_args()
    if unknown := set(options.names) - set(HARNESSES):
        parser.error(f"no harness {', '.join(sorted(unknown))}")
    if options.here:
        return run_changed(options.names[0], options.seconds, options.seed, _FOUND)
    parts = ["changed", "guided"] if importlib.util.find_spec("atheris") else ["changed"]
    if len(parts) == 1:
        print("atheris is not installed: nothing is led by coverage")
    failed = []
    for name in options.names or HARNESSES:
        for part in parts:
            began = time.monotonic()
            done = _run(part, name, options.seconds / len(parts), options.seed)
            print(f"{name:18} {part:8} {time.monotonic() - began:6.1f} s  {_summary(part, done)}", flush=True)
            if done.returncode:
                failed.append(name)
                print(done.stdout[-3000:], done.stderr[-3000:], flush=True)
    if failed:
        print(f"found something: {', '.join(failed)}; inputs in {_FOUND}")
    return 1 if failed else 0


def _run(part: str, name: str, seconds: float, seed: int) -> subprocess.CompletedProcess[str]:
    if part == "changed":
        arguments = ["tests.fuzz", name, "--here", "--seconds", str(seconds), "--seed", str(seed)]
    else:
        arguments = ["tests.fuzz.guided", name, str(max(1, round(seconds))), str(seed), str(_FOUND)]
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=False)


def _summary(part: str, done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stdout.splitlines()
    if part == "guided":  # libFuzzer's line of its last step
        lines = [line for line in done.stderr.splitlines() if line.startswith("#") and "cov:" in line]
    return lines[-1] if lines else "nothing"


if __name__ == "__main__":
    sys.exit(main())
