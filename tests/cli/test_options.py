"""One field, and what follows from it: flag, variable, key of a file, check, help; which wins, and who is named."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import typer

from spnhub import logging
from spnhub.agent_settings import ConsumerSettings, ProviderSettings
from spnhub.cli import agent, hub, log
from spnhub.cli.command_line import run_command_line
from spnhub.cli.config_file import SIZE_LIMIT
from spnhub.cli.options import GroupedCommand, Reader, takes
from spnhub.hub_settings import HubSettings
from spnhub.options import (
    UnusableOption,
    build,
    check_options,
    nested,
    option,
    option_fields,
    parse_addresses,
    parse_size,
)
from tests.inventory.documents import sound, written

_basic = partial(option, group="Basic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    """Options that a room of its own declares."""

    servers: tuple[str, ...] = _basic(parse=parse_addresses, help="Where to.")
    rounds: int = _basic(3, "How often.", at_least=1, at_most=9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The same, with defaults of the whole's own."""

    speed: float = _basic(1.0, "Of all.", above=0, unit="knots")

    name: str = "fast"
    """No option, though another class has one of that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A field of each kind."""

    name: str = option(group="Who", help="Whose it is.", missing=", or ask")
    token: str | None = option(None, "Of the name.", group="Who", secret=True, from_file=True)
    mode: Literal["slow", "fast"] = _basic("slow", "Slow or fast.", choices=("slow", "fast"))
    loud: bool = _basic(False, "Whether it is.")
    folder: Path = _basic(Path("here"), "Where it is.")
    size: int | None = _basic(4096, "How large it is.", parse=parse_size, default_text="4K", flag="bytes")
    label: str | None = _basic(None, "What is on it.", variables=("SAMPLE_TAG", "OLD_TAG"))
    sizes: Sizes = nested(Sizes, Sizes(speed=2.5))
    inner: Inner | None = nested(Inner, None)

    def __post_init__(self) -> None:
        check_options(self)
        if self.loud and self.sizes.speed > 10:
            raise UnusableOption("loud", f" doesn't go with {{other}} above 10 ({self.sizes.speed:g})", "speed")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPNHUB_CONFIG", "SPNHUB_INVENTORY_URL"):
        monkeypatch.delenv(name, raising=False)


def made(*arguments: str, only: tuple[str, ...] | None = None) -> tuple[int, Sample | None]:
    """What the words, the environment and a file make of a sample."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    found: list[Sample] = []

    @app.command(cls=GroupedCommand)
    @takes(Sample, "SAMPLE_", only)
    def sample(_: typer.Context, read: Reader[Sample]) -> int:
        """A sample."""
        found.append(read())
        return 0

    return run_command_line(app, "spnhub", arguments), found[0] if found else None


def settings(*arguments: str) -> Sample:
    """The same, where it is no fault."""
    status, found = made(*arguments)
    assert status == 0
    assert found is not None
    return found


def fault(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said of what can't be used; one line, and status 2."""
    status, found = made(*arguments)
    captured = capsys.readouterr()
    assert (status, found, captured.out) == (2, None, "")
    assert captured.err.startswith("spnhub: ")
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("spnhub: ").removesuffix("\n")


def config(folder: Path, text: str) -> str:
    """A file, as an argument."""
    path = folder / "sample.toml"
    path.write_text(text)
    return f"--config={path}"


KINDS: list[Any] = [
    ("name", "SAMPLE_NAME", None, ("f", "v", '"c"'), lambda s: s.name, ("f", "v", "c", None)),
    ("mode", "SAMPLE_MODE", "slow", ("fast", "slow", '"fast"'), lambda s: s.mode, ("fast", "slow", "fast", "slow")),
    ("folder", "SAMPLE_FOLDER", None, ("f", "v", '"c"'), lambda s: s.folder, tuple(map(Path, ("f", "v", "c", "here")))),
    ("bytes", "SAMPLE_BYTES", None, ("1K", "2K", '"3K"'), lambda s: s.size, (1024, 2048, 3072, 4096)),
    ("speed", "SAMPLE_SPEED", None, ("1", "2", "3"), lambda s: s.sizes.speed, (1.0, 2.0, 3.0, 2.5)),
    ("label", "SAMPLE_TAG", None, ("f", "v", '"c"'), lambda s: s.label, ("f", "v", "c", None)),
    ("label", "OLD_TAG", None, ("f", "v", '"c"'), lambda s: s.label, ("f", "v", "c", None)),
    (
        "servers",
        "SAMPLE_SERVERS",
        None,
        ("f:1", "v:1,v:2", '["c:1", "c:2"]'),
        lambda s: s.inner and s.inner.servers,
        (("f:1",), ("v:1", "v:2"), ("c:1", "c:2"), None),
    ),
    ("token", "SAMPLE_TOKEN", None, ("f", "v", '"c"'), lambda s: s.token, ("f", "v", "c", None)),
]


@pytest.mark.parametrize(
    ("flag", "variable", "_", "given", "value", "expected"), KINDS, ids=[f"{k[0]}-{k[1]}" for k in KINDS]
)
def test_which_source_wins(
    flag: str,
    variable: str,
    _: Any,
    given: tuple[str, str, str],
    value: Callable[[Sample], Any],
    expected: tuple[Any, Any, Any, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The flag before the variable, that before the file, that before the default."""
    name = () if flag == "name" else ("--name", "n")
    in_file = config(tmp_path, f"{flag} = {given[2]}\n")
    if flag != "name":
        assert value(settings(*name)) == expected[3]
    assert value(settings(*name, in_file)) == expected[2]
    monkeypatch.setenv(variable, given[1])
    assert value(settings(*name, in_file)) == expected[1]
    assert value(settings(*name, in_file, f"--{flag}", given[0])) == expected[0]
    # An empty variable is none.
    monkeypatch.setenv(variable, "")
    assert value(settings(*name, in_file)) == expected[2]


def test_a_flag_without_a_value_wins_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a file or a variable turns on can be turned off."""
    on = config(tmp_path, "loud = true\n")
    assert settings("--name", "n", on).loud
    assert not settings("--name", "n", on, "--no-loud").loud
    monkeypatch.setenv("SAMPLE_LOUD", "0")
    assert not settings("--name", "n", on).loud
    assert settings("--name", "n", on, "--loud").loud


def test_the_file_may_be_named_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is the flag without dashes; underscores do as well."""
    path = config(tmp_path, '# mine\nname = "n"\nspeed = 7\nrounds = 2\nservers = "a:1"\n').partition("=")[2]
    monkeypatch.setenv("SAMPLE_CONFIG", path)
    found = settings()
    assert (found.name, found.sizes.speed, found.inner) == ("n", 7.0, Inner(servers=("a:1",), rounds=2))


def test_what_is_nested_and_not_given(tmp_path: Path) -> None:
    """Without what it needs there is none, whatever else is given of it."""
    assert settings("--name", "n", "--rounds", "9").inner is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name = "n"\nspede = 1\n', ":2: spede is unknown; did you mean speed?"),
        ('name = "n"\n\n# x\ncolour = 1\n', ":4: colour is unknown"),
        ('name = "n"\n"to ken" = "x"\n', ":2: to ken is unknown; did you mean token?"),
        ('name = "n"\n[inner]\nrounds = 3\n', ":2: inner is unknown"),
        ('name = "n"\n[speed]\nknots = 3\n', ":2: speed is an option, and no table"),
        ('name = """\nn\n"""\nspeed = "fast"\n', ":4: speed: 'fast' is not a number"),
        ('name = "n"\nspeed = true\n', ":2: speed: 'True' is not a number"),
        ('name = "n"\nrounds = 1.5\n', ":2: rounds: '1.5' is not a whole number"),
        ('name = "n"\nloud = "yes"\n', ":2: loud: 'yes' is not true or false"),
        ("name = 3\n", ":1: name: '3' is not a text"),
        ('name = "n"\nfolder = ["a"]\n', ":2: folder: \"['a']\" is not a text"),
        ('name = "n"\nservers = [1]\n', ":2: servers: '[1]' is not a text"),
        ('name = "n"\ntoken = 12345\n', ":2: token: the value is not a text"),
        ('name = "n"\nmode = "quick"\n', ":2: mode: 'quick' is none of slow, fast"),
        ('name = "n"\nspeed = -1\n', ":2: speed: -1 is not above 0 knots"),
        ('name = "n"\nservers = "a:1"\nrounds = 10\n', ":3: rounds: 10 is not between 1 and 9"),
        ('name = "n"\nservers = ["a:1", "b"]\n', ":2: servers: 'b' is not HOST:PORT"),
        ('name = "n"\nbytes = "many"\n', ":2: bytes: 'many' is not a size: bytes, or a number with K, M, G or T"),
        ('name = "n"\nlabel = "a\\u200bb"\n', ":2: label: the value holds U+200B (ZERO WIDTH SPACE), which doesn't"),
        ('name = "n"\nspeed = 1\nspeed = 2\n', ":3: Cannot overwrite a value"),
        ('name = "n"\nold-tag = 2\nold_tag = 2\n', ":2: old-tag is unknown"),
        ('name = "n"\ntoken-file = "a"\ntoken_file = "b"\n', ":3: token_file is there twice, with underscores"),
        ('name = "n\n', ":1: Illegal character"),
        ("name = [\n1,\n", ":3: "),
        ('name = "n"\nloud = true\nspeed = 11\n', ":2: loud doesn't go with --speed above 10 (11)"),
    ],
)
def test_what_is_wrong_in_a_file(text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Is named with the file and the line that its statement begins in; a secret isn't shown."""
    found = fault(capsys, config(tmp_path, text))
    assert found.startswith(f"{tmp_path}/sample.toml{said}")
    assert "12345" not in found


def test_a_file_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whoever named it, and why."""
    assert fault(capsys, "--config", "/none") == "--config: /none: can't be read: No such file or directory"
    monkeypatch.setenv("SAMPLE_CONFIG", str(tmp_path))
    assert fault(capsys) == f"--config (SAMPLE_CONFIG): {tmp_path}: can't be read: Is a directory"
    path = tmp_path / "x.toml"
    path.write_bytes(b"name = '\xff'")
    assert fault(capsys, "--config", str(path)) == f"--config: {path} is not UTF-8"
    path.write_bytes(b"#" * (SIZE_LIMIT + 1))
    assert fault(capsys, "--config", str(path)) == f"--config: {path} has more than {SIZE_LIMIT} bytes"
    path.write_bytes(b"\xef\xbb\xbfname = 'n'\r\n")
    assert settings("--config", str(path)).name == "n"


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--speed", "0"], {}, "--speed: 0 is not above 0 knots"),
        ([], {"SAMPLE_SPEED": "0"}, "--speed (SAMPLE_SPEED): 0 is not above 0 knots"),
        ([], {"OLD_TAG": "\u200b"}, "OLD_TAG: the value holds U+200B"),
        (
            [],
            {"SAMPLE_SPEED": "x"},
            "Invalid value for '--speed' (env var: 'SAMPLE_SPEED'): Input should be a valid number",
        ),
        (["--bytes", "x"], {}, "--bytes: 'x' is not a size"),
        ([], {"SAMPLE_BYTES": "x"}, "--bytes (SAMPLE_BYTES): 'x' is not a size"),
        (["--bytes", ""], {}, "--bytes: '' is not a size"),
        (["--name", ""], {}, "--name is missing (environment: SAMPLE_NAME, or ask)"),
        (["--loud", "--speed", "11"], {}, "--loud doesn't go with --speed above 10 (11)"),
        (["--sped", "1"], {}, "No such option: --sped (Possible options: --speed)"),
    ],
)
def test_who_gave_it_is_named(
    arguments: list[str],
    environment: Mapping[str, str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Flag, or flag and variable."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert fault(capsys, "--name", "n", *arguments).startswith(said)


def test_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """Says how it can be given."""
    assert fault(capsys) == "--name is missing (environment: SAMPLE_NAME, or ask)"


def test_a_secret_in_a_file_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By flag, variable and key, each as strong as the secret itself there; the end of the line isn't part of it."""
    for name in "fvc":
        (tmp_path / name).write_text(f"of {name}\n")
    flag = ("--token-file", str(tmp_path / "f"))
    in_file = config(tmp_path, f'name = "n"\ntoken-file = "{tmp_path}/c"\n')
    found = settings(in_file)
    assert found.token == "of c"
    assert "of c" not in repr(found)
    monkeypatch.setenv("SAMPLE_TOKEN", "plain")
    assert settings(in_file).token == "plain"
    assert settings(in_file, *flag).token == "of f"
    monkeypatch.setenv("SAMPLE_TOKEN_FILE", str(tmp_path / "v"))
    both = "--token (SAMPLE_TOKEN) and --token-file (SAMPLE_TOKEN_FILE) are both given"
    assert fault(capsys, in_file) == both
    monkeypatch.delenv("SAMPLE_TOKEN")
    assert settings(in_file).token == "of v"
    assert settings(in_file, "--token", "plain").token == "plain"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"sesame \n", ": the value begins or ends with a blank"),
        (b"sesame\x00\n", ": the value holds U+0000, which doesn't show"),
        (b"sesame\nsesame\n", ": the value holds U+000A, which doesn't show"),
        (b"sesame\xff", "is not UTF-8"),
    ],
)
def test_a_secret_that_cannot_be_used(
    content: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Is never shown."""
    path = tmp_path / "secret"
    path.write_bytes(content)
    found = fault(capsys, "--name", "n", "--token-file", str(path))
    assert found.startswith(f"--token-file: {path}")
    assert said in found
    assert "sesame" not in found


def test_a_secret_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Named by the place that names it."""
    said = fault(capsys, config(tmp_path, 'name = "n"\ntoken-file = "/none"\n'))
    assert said == f"{tmp_path}/sample.toml:2: token-file: /none: can't be read: No such file or directory"


def test_help_has_groups_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    """A heading for each group, with what belongs to none at the end."""
    assert made("--help")[0] == 0
    text = capsys.readouterr().out
    headings = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Who:", "Basic:", "General:"]
    words = " ".join(text.split())
    assert "Slow or fast. [env var: SAMPLE_MODE; default: slow]" in words
    assert "How large it is. [env var: SAMPLE_BYTES; default: 4K]" in words
    assert "Of all. [env var: SAMPLE_SPEED; default: 2.5]" in words
    assert "What is on it. [env var: SAMPLE_TAG, OLD_TAG]" in words


def test_a_command_with_some_of_the_flags(tmp_path: Path) -> None:
    """The file is the same for all, and all of it is checked."""
    in_file = config(tmp_path, 'name = "n"\nspeed = 7\n')
    _, found = made(in_file, only=("name",))
    assert found is not None
    assert found.sizes.speed == 7
    assert made("--speed", "1", in_file, only=("name",))[0] == 2
    assert made(config(tmp_path, 'name = "n"\nspeed = 0\n'), only=("name",))[0] == 2


def test_a_field_that_no_text_can_be_made_of_is_kept() -> None:
    """What a program builds by itself goes the same way."""
    assert build(Sample, {"name": "n", "servers": ("a:1",)}) == Sample(name="n", inner=Inner(servers=("a:1",)))
    assert build(Sample, {}) is None
    assert [field.name for field in option_fields(Sample) if field.required and not field.optional] == ["name"]


# ---- the programs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [HubSettings, ConsumerSettings, ProviderSettings])
def test_each_option_has_its_own_name(model: type) -> None:
    """Of the field, by which it is found, and on the command line."""
    fields = list(option_fields(model))
    assert len({field.name for field in fields}) == len({field.flag for field in fields}) == len(fields)


def test_the_examples_of_the_documents() -> None:
    """Every key of the two files in the reference is an option of its program."""
    text = (Path(__file__).parents[2] / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    examples = [tomllib.loads(found) for found in re.findall(r"```toml\n(.*?)```", text, re.DOTALL)]
    for model, example in zip((HubSettings, ProviderSettings), examples, strict=True):
        known = {field.flag for field in option_fields(model)}
        known |= {f"{field.flag}-file" for field in option_fields(model) if field.option.from_file}
        assert example.keys() - known == set()


def test_nothing_that_people_script_against_is_gone() -> None:
    """Flags and variables as they were before one model had them, subcommand by subcommand."""
    path = Path(__file__).with_name("promised_options.jsonl")
    promised = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(promised) > 100
    found: dict[str, Any] = {}
    for program, module in (("spnhub", hub), ("spnagent", agent), ("spnlog", log)):
        found[program] = typer.main.get_command(module.app)
        found |= {f"{program} {name}": command for name, command in found[program].commands.items()}
    for command, flags, variables in promised:
        parameter = next(one for one in found[command].params if set(flags) <= set(one.opts))
        read = [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or []
        assert set(variables) <= set(read)


def test_check_reads_the_hubs_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``spnhub check --config``: the settings, and the inventory that they name."""
    monkeypatch.setattr(logging, "configure", lambda *a, **k: None)
    path = tmp_path / "hub.toml"

    def check(text: str) -> tuple[int, str, str]:
        path.write_text(text)
        monkeypatch.setattr(sys, "argv", ["spnhub", "check", "--config", str(path)])
        status = hub.main()
        return status, *capsys.readouterr()

    url = written(sound(), tmp_path).as_uri()
    assert check(f'inventory = "{url}"\nidle-timeout = 30\n') == (
        0,
        f"{url}: 2 realms, 3 hubs, 3 services: no faults\n",
        "",
    )
    kafka = 'kafka = ["a:1"]\nkafka-security-protocol = "SASL_SSL"\nkafka-sasl-mechanism = "PLAIN"\n'
    missing = "spnhub: --kafka-sasl-username is missing (SASL_SSL needs it)\n"
    assert check(f'inventory = "{url}"\n{kafka}') == (2, "", missing)
    wrong = f"spnhub: {path}:2: probe-timeout: 30 is not above 0 and at most --idle-timeout (20)\n"
    assert check(f'inventory = "{url}"\nprobe-timeout = 30\n') == (2, "", wrong)
    slip = f"spnhub: {path}:1: idel-timeout is unknown; did you mean idle-timeout?\n"
    assert check("idel-timeout = 3\n") == (2, "", slip)
