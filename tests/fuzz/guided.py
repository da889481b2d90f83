"""One harness led by coverage: inputs that reach new branches of ours are changed further.

A program of its own, for what is imported is made to tell where it goes. libFuzzer ends the process with what it has
found; what has led on is kept beside it, and is where the next run begins.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["spnhub", "aioquic", "yaml", "h11"], enable_loader_override=False):
    from tests.fuzz.table import HARNESSES


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{one:02x}" for one in word)


def main(name: str, seconds: int, seed: int, found: Path) -> None:
    """Doesn't return."""
    logging.disable(logging.CRITICAL)
    harness = HARNESSES[name]
    kept = found / name / "corpus"
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        seeds, words = Path(folder) / "seeds", Path(folder) / "words"
        seeds.mkdir()
        for number, data in enumerate(harness.corpus):
            (seeds / str(number)).write_bytes(data)
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in harness.words if 0 < len(word) < 64))
        arguments = [
            f"-max_total_time={seconds}",
            f"-seed={seed}",
            "-max_len=20000",
            "-timeout=30",
            "-rss_limit_mb=2048",
            f"-artifact_prefix={found / name}/",
            f"-dict={words}",
            str(kept),
            str(seeds),
        ]
        atheris.Setup([sys.argv[0], *arguments], harness.take)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
