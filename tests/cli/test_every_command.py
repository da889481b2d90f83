"""What users expect of any command: its version, short help, completion."""

from __future__ import annotations

import os

import pytest

import spnhub
from tests.support import forked

_FIRST = {"spnhub": "inventory", "spnagent": "consumer", "spnlog": "explain"}


def run(program: str, *arguments: str, **environment: str) -> str:
    """What it prints; it succeeds, and has nothing to complain about."""
    done = forked.run(program, *arguments, env=os.environ | environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.outside
@pytest.mark.parametrize("program", _FIRST)
def test_any_command(program: str) -> None:
    """``--version``, ``-h`` of it and of its parts; a shell completes the name of a part, and an option's."""
    assert run(program, "--version") == f"{spnhub.__version__}\n"
    part = _FIRST[program]
    for words in ((), (part,)):
        assert run(program, *words, "-h") == run(program, *words, "--help")
    asked = f"_{program.upper()}_COMPLETE"
    assert run(program, COMP_WORDS=f"{program} {part[:3]}", COMP_CWORD="1", **{asked: "complete_bash"}) == f"{part}\n"
    assert "--help" in run(program, COMP_WORDS=f"{program} {part} --he", COMP_CWORD="2", **{asked: "complete_bash"})
