"""Values from options and the environment: what doesn't show is taken off or refused; a variable that nobody reads."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from spnhub.cli import agent, hub, log
from spnhub.cli.variables import cleaned_arguments, cleaned_variables, unread, variables_of
from spnhub.settings import SettingsError
from spnhub.transport.text import meant, oddity, quoted
from tests.inventory.documents import sound, written
from tests.support.command import environment as environment_of
from tests.support.forked import run

URN = "urn:chip-in:service:acme:main:web"


def command(
    program: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one of the three to its end."""
    return run(program, *arguments, env=environment_of(environment or {}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("web\r", "holds U+000D, which doesn't show"),
        ("web\n", "holds U+000A, which doesn't show"),
        ("web ", "begins or ends with a blank"),
        (" web", "begins or ends with a blank"),
        ("we\u00a0b", "holds U+00A0 (NO-BREAK SPACE), which doesn't show"),
        ("web\u200b", "holds U+200B (ZERO WIDTH SPACE), which doesn't show"),
        ("\ufeffweb", "holds U+FEFF (ZERO WIDTH NO-BREAK SPACE), which doesn't show"),
        ("we\u00adb", "holds U+00AD (SOFT HYPHEN), which doesn't show"),
        ("web\u202e", "holds U+202E (RIGHT-TO-LEFT OVERRIDE), which doesn't show"),
        ("web\ufe0f", "holds U+FE0F (VARIATION SELECTOR-16), which doesn't show"),
        ("a b", None),
        ("田中", None),
        ("", None),
    ],
)
def test_what_does_not_show_is_found_and_shown(text: str, said: str | None) -> None:
    """By its number and name, and escaped where it is quoted."""
    assert oddity(text) == said
    shown = quoted(text)
    assert shown.isascii() == (text != "田中")
    assert shown.startswith("'")


def test_a_quotation_is_bounded_and_shows_no_pem() -> None:
    """It may be a key in the wrong place."""
    assert len(quoted("x" * 100_000)) < 200
    assert quoted("-----BEGIN PRIVATE KEY-----\nAAAA") == "a PEM text"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("serverPrt", "serverPort"),
        ("ServerPort", "serverPort"),
        ("server_port", "serverPort"),
        ("server port", "serverPort"),
        ("\ufeffserverPort", "serverPort"),
        ("ｓｅｒｖｅｒＰｏｒｔ", "serverPort"),
        ("colour", None),
        ("", None),
        ("x" * 100_000, None),
    ],
)
def test_what_may_have_been_meant(name: str, found: str | None) -> None:
    """Another case, blanks, underscores, or a slip; nothing that is only a little alike."""
    assert meant(name, ("serverPort", "serverAddress", "name")) == found


@pytest.mark.parametrize(
    ("given", "clean"),
    [
        (["--hub-url", "https://x\r\n", "--service-urn=\turn "], ["--hub-url", "https://x", "--service-urn=urn"]),
        (["--certificate", "-----BEGIN CERTIFICATE-----\nA\n"], ["--certificate", "-----BEGIN CERTIFICATE-----\nA\n"]),
        (["--kafka-sasl-password", "a b"], ["--kafka-sasl-password", "a b"]),
        (["replay", "/tmp/\udce4"], ["replay", "/tmp/\udce4"]),
        ([], []),
    ],
)
def test_white_space_around_an_argument_is_taken_off(given: list[str], clean: list[str]) -> None:
    """PEM has line ends, and the name of a file may be no UTF-8."""
    assert cleaned_arguments(given) == clean


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ["--service-urn", "urn\u200b"],
            "--service-urn: the value holds U+200B (ZERO WIDTH SPACE), which doesn't show: ",
        ),
        (["--service-urn=u\trn"], "--service-urn: the value holds U+0009, which doesn't show: 'u\\trn'"),
        (["replay", "jour\u00a0nal"], "argument: the value holds U+00A0 (NO-BREAK SPACE)"),
        (["--kafka-sasl-password", "secret "], "--kafka-sasl-password: the value begins or ends with a blank"),
        (["--inventory-token=secret\r"], "--inventory-token: the value holds U+000D, which doesn't show"),
        (["--certificate-key", "secret.pem "], "--certificate-key: the value begins or ends with a blank"),
    ],
)
def test_what_cannot_be_taken_off_is_refused(given: list[str], said: str) -> None:
    """By the option's name; a secret is not quoted, and nothing is taken off it."""
    with pytest.raises(SettingsError) as caught:
        cleaned_arguments(given)
    assert str(caught.value).startswith(said)
    assert "secret" not in str(caught.value)


def test_variables_are_cleaned_likewise() -> None:
    """Only those that are read; an empty one is one that isn't set, a blank one is neither."""
    environment = {"SPN_HUB_URL": "https://x\r", "SPN_SERVICE_URN": URN, "OTHER": " ", "SPN_RESOLVER": ""}
    known = ("SPN_HUB_URL", "SPN_SERVICE_URN", "SPN_RESOLVER", "SPN_TRUST")
    assert cleaned_variables(known, environment) == {"SPN_HUB_URL": "https://x"}
    with pytest.raises(SettingsError, match="SPN_RESOLVER: holds white space only"):
        cleaned_variables(known, {"SPN_RESOLVER": " \r"})


@pytest.mark.parametrize(
    ("app", "prefixes", "name", "found"),
    [
        (hub.app, ("SPNHUB_",), "SPNHUB_KAKFA", "SPNHUB_KAFKA"),
        (hub.app, ("SPNHUB_",), "SPNHUB_INVENTORY", "SPNHUB_INVENTORY_URL"),
        (hub.app, ("SPNHUB_",), "SPNHUB_KAFKA_USERNAME", "SPNHUB_KAFKA_SASL_USERNAME"),
        (hub.app, ("SPNHUB_",), "SPNHUB_LOGLEVEL", "SPNHUB_LOG_LEVEL"),
        (hub.app, ("SPNHUB_",), "spnhub_log_level", "SPNHUB_LOG_LEVEL"),
        (hub.app, ("SPNHUB_",), "SPN_HUB_KAFKA", "SPNHUB_KAFKA"),
        (hub.app, ("SPNHUB_",), "SPN_HUB_URL", None),
        (hub.app, ("SPNHUB_",), "SPNHUB_SERVICE_HOST", None),
        (hub.app, ("SPNHUB_",), "SPNHUB_PORT_443_UDP_ADDR", None),
        (hub.app, ("SPNHUB_",), "SPNHUB_TEST_KAFKA", None),
        (hub.app, ("SPNHUB_",), "SPNHUB_KAFKA", None),
        (agent.app, ("SPN_",), "SPN_SERVICE_URL", "SPN_SERVICE_URN"),
        (agent.app, ("SPN_",), "SPN_BIND_ADDRESS", "BIND_ADDRESS"),
        (agent.app, ("SPN_",), "SPNHUB_URL", "SPN_HUB_URL"),
        (agent.app, ("SPN_",), "SPN_URL", "SPN_HUB_URL"),
        (agent.app, ("SPN_",), "SPN_SERVICE_HOST", None),
        (agent.app, ("SPN_",), "SPN_TRUST", None),
        (log.app, ("SPNLOG_", "SPNHUB_KAFKA_"), "SPNLOG_LISTN", "SPNLOG_LISTEN"),
    ],
)
def test_a_variable_that_nobody_reads(
    app: typer.Typer, prefixes: tuple[str, ...], name: str, found: str | None
) -> None:
    """The one that may have been meant is named; what others have set is left alone."""
    known = variables_of(get_command(app))
    assert list(unread([name, "HOME", "PATH"], known, prefixes)) == ([(name, found)] if found else [])


def test_every_option_has_its_variable_in_the_list() -> None:
    """Subcommands' too."""
    assert {"SPNHUB_INVENTORY_URL", "SPNHUB_INVENTORY_LISTEN"} <= variables_of(get_command(hub.app))
    assert {"SPN_HUB_URL", "BIND_ADDRESS", "FORWARD_ADDRESS"} <= variables_of(get_command(agent.app))
    assert {"SPNLOG_LISTEN", "SPNLOG_GROUP"} <= variables_of(get_command(log.app))


@pytest.mark.outside
def test_the_commands_do_so(tmp_path: Path) -> None:
    """An environment file with the line ends of Windows; a slip in a name; what isn't to be seen in a URN."""
    url = written(sound(), tmp_path).as_uri()
    checked = command("spnhub", "check", environment={"SPNHUB_INVENTORY_URL": f"{url}\r", "SPNHUB_INVENTORY_TOKN": "x"})
    assert (checked.returncode, checked.stdout) == (0, f"{url}: 2 realms, 3 hubs, 3 services: no faults\n")
    warning = "spnhub: warning: SPNHUB_INVENTORY_TOKN is unknown; did you mean SPNHUB_INVENTORY_TOKEN?\n"
    assert checked.stderr == warning

    refused = command("spnagent", "consumer", "--service-urn", f"{URN}\u200b", environment={"SPN_HUB_URl": "https://x"})
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        f"spnagent: --service-urn: the value holds U+200B (ZERO WIDTH SPACE), which doesn't show: '{URN}\\u200b'\n"
    )
    slip = command("spnagent", "consumer", environment={"SPN_HUB_URl": "https://x"})
    assert slip.stderr.splitlines() == [
        "spnagent: warning: SPN_HUB_URl is unknown; did you mean SPN_HUB_URL?",
        "spnagent: --hub-url is missing (environment: SPN_HUB_URL, or SPN_HUB_HOSTNAME)",
    ]
    kafka = command("spnlog", "verify", str(tmp_path), environment={"SPNHUB_KAFKA_SASL_PASWORD": "x"})
    assert kafka.stderr.startswith(
        "spnlog: warning: SPNHUB_KAFKA_SASL_PASWORD is unknown; did you mean SPNHUB_KAFKA_SASL_PASSWORD?\n"
    )
