"""What the documents name is there: commands, options, log lines, events and fields, metrics."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from docs.derived import PROGRAMS, metric_names
from spnhub.schemas.codec import camel
from tests.docs.pages import PAGES, ROOT, fenced, name, spans

COMMANDS: dict[str, Any] = {program: typer.main.get_command(app) for program, app in PROGRAMS.items()}
FOREIGN = {"--build", "--privileged", "--quick", "--scale", "--step", "--volume"}
"""Options of other programs that documents name."""
GUIDES = [page for page in PAGES if name(page) == "README.md" or page.is_relative_to(ROOT / "docs")]
CATALOGUES = ("schemas/README.md", "docs/specification.md", "docs/decisions.md")
SOURCE = "\n".join(
    path.read_text(encoding="utf-8")
    for room in ("src/spnhub", "transport", "actors", "events", "schemas")
    for path in (ROOT / room).rglob("*.py")
)


def _options(command: Any) -> dict[str, bool]:
    """Whether each of a command's options has a value."""
    found = {"--help": False}
    for parameter in command.params:
        if parameter.param_type_name == "option":
            found |= dict.fromkeys([*parameter.opts, *parameter.secondary_opts], not parameter.is_flag)
    return found


def _faults(line: str) -> Iterator[str]:
    """What no program of ours understands of a shell's command line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = iter(list(lexer))
    for word in words:
        if (command := COMMANDS.get(Path(word).name)) is None:
            continue
        said = [word]
        for argument in itertools.takewhile(lambda word: not re.fullmatch(r"[;&|()<>]+", word), words):
            said.append(argument)
            option, equals, _ = argument.partition("=")
            if argument.startswith("-"):
                if option not in _options(command):
                    yield " ".join(said)
                elif _options(command)[option] and not equals:
                    next(words, None)
            elif argument in getattr(command, "commands", {}):
                command = command.commands[argument]
            elif hasattr(command, "commands") and argument not in {"…", "COMMAND"}:
                yield " ".join(said)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_command_lines(page: Path) -> None:
    """Every command line of ours in a block, or in a code span, has commands and options that are there."""
    lines = [
        line
        for language, text, _ in fenced(page)
        if language in {"", "sh", "bash", "console"}
        for line in text.replace("\\\n", " ").splitlines()
        if re.search(r"\bspn(?:hub|agent|log)\b", line) and not re.search("[═─│]", line)
    ]
    lines += [span for span in spans(page) if re.match(r"spn(?:hub|agent|log) ", span)]
    assert [fault for line in lines for fault in _faults(line)] == []


@pytest.mark.parametrize(
    ("line", "faults"),
    [
        ("spnhub check --diff --ops 127.0.0.1:1 && curl --fast  # --nothing", []),
        ("ID=$(spnlog replay --sideways ./journal | jq .x)", ["spnlog replay --sideways"]),
        ("kill -TERM 1; spnhub run --hub-id check", ["spnhub run"]),
        (".venv/bin/spnagent provider --weight=3 --bind", [".venv/bin/spnagent provider --weight=3 --bind"]),
    ],
)
def test_faults_are_found(line: str, faults: list[str]) -> None:
    """Those, and no others."""
    assert list(_faults(line)) == faults


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_options(page: Path) -> None:
    """An option that stands by itself is one of some command."""
    commands = [*COMMANDS.values(), *(one for group in COMMANDS.values() for one in group.commands.values())]
    known = FOREIGN.union(*map(_options, commands))
    assert {span for span in spans(page) if re.fullmatch(r"--[\w-]+", span)} - known == set()


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_log_lines(page: Path) -> None:
    """A log line that is named is one that the code writes."""
    lines = {span for span in spans(page) if re.fullmatch(r"[a-z]+\.[a-z_]+", span)} - {"spnhub.pki", "spn.events"}
    assert [line for line in sorted(lines) if not _written(line) and not line.endswith(".md")] == []


def _written(line: str) -> bool:
    """Whether the name of a log line is in the code, or made there of its parts."""
    first, _, second = line.partition(".")
    return f'"{line}"' in SOURCE or (f'f"{first}.{{' in SOURCE and f'"{second}"' in SOURCE)


@pytest.mark.parametrize("page", [page for page in GUIDES if name(page) not in CATALOGUES], ids=name)
def test_events_and_fields(page: Path) -> None:
    """What is written like an event, or a field of one, is in the catalogue, or is the inventory's, or a value."""
    known = (ROOT / "schemas" / "README.md").read_text(encoding="utf-8")
    fields = re.findall(r"^    (\w+): ", (ROOT / "src/spnhub/inventory/model.py").read_text(), re.MULTILINE)
    known += " ".join(map(camel, fields))
    named = {span for span in spans(page) if re.fullmatch(r"[a-z]+(?:[A-Z][a-z]+)+", span)}
    assert [one for one in sorted(named) if f'"{one}"' not in SOURCE and not re.search(rf"\b{one}\b", known)] == []


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_metrics(page: Path) -> None:
    """A metric that is named is exposed."""
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"\bspn(?:hub|log)_[a-z_]*[a-z]\b", text))
    assert named - metric_names() == set()
