"""One harness for a while, in this process, with changed inputs of a fixed seed."""

from __future__ import annotations

import hashlib
import itertools
import logging
import time
import traceback
from pathlib import Path

from tests.fuzz.mutation import mutations
from tests.fuzz.table import HARNESSES

__all__ = ["run_changed"]


def run_changed(name: str, seconds: float, seed: int, found: Path) -> int:
    """What is kept, then changed inputs; 1: something was found. Goes on behind it, and writes each kind once."""
    logging.disable(logging.WARNING)
    harness = HARNESSES[name]
    end = time.monotonic() + seconds
    count = taken = 0
    kinds: set[str] = set()
    for data in itertools.chain(harness.corpus, mutations(harness.corpus, harness.words, seed)):
        if time.monotonic() > end:
            break
        count += 1
        try:
            taken += harness.take(data)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            frames = traceback.extract_tb(error.__traceback__)[-4:]
            kind = f"{type(error).__name__} {' '.join(f'{one.filename}:{one.lineno}' for one in frames)}"
            if kind not in kinds:
                kinds.add(kind)
                path = found / name / hashlib.sha256(data).hexdigest()[:12]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                print(f"{path}: {kind}: {error}", flush=True)
    print(f"{count:,} inputs, {taken:,} taken; found {len(kinds)}", flush=True)
    return 1 if kinds else 0
