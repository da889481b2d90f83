"""A file means what it says: what in it isn't taken as written is a fault, with its line and a guess at the meaning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from spnhub.inventory import Inventory, build, load_inventory, log_warnings
from spnhub.inventory.document import Array, Object, notes, read_document
from spnhub.inventory.server import serving
from spnhub.inventory.source import read_file
from tests.inventory.documents import hub, realm, service, sound, written


def indented(value: object, blanks: int) -> str:
    """As YAML, that far to the right."""
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return "".join(" " * blanks + line for line in text.splitlines(keepends=True))


REALM = {name: value for name, value in realm("acme").items() if name != "hubs"}
HUB = {name: value for name, value in hub("tokyo", "tokyo.acme.test").items() if name != "services"}
SERVICE = """\
        - name: web
          title: Web
          provider: server
          consumers: [client]
"""
BETA = indented([realm("beta", hub("main", "main.beta.test", service("web")))], 2)


def document(*, service: str = SERVICE, of_hub: str = "", of_realm: str = "", outside: str = "") -> str:
    """Two realms as people write them: acme, with a hub and a service, and beta, which is sound."""
    head = indented(REALM, 4)
    hub_head = indented(HUB, 8)
    return (
        f"{outside}realms:\n{BETA}  - {head[4:]}{of_realm}    hubs:\n      - {hub_head[8:]}{of_hub}"
        f"        services:\n{service}"
    )


def inventory(text: str, folder: Path, name: str = "inventory.yaml") -> Inventory:
    """What a file with this text becomes."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return build(read_file(path))


def management(text: str) -> str:
    """The service with lines below availabilityManagement."""
    lines = "".join(f"            {line}\n" for line in text.splitlines())
    return SERVICE + "          availabilityManagement:\n            clusterManagerUrn: 'docker:'\n" + lines


AM = "availabilityManagement"
# What is written, and whose fault it is, with what must be said. ``|`` marks the line.
WRITTEN: dict[str, tuple[dict[str, str], str, str]] = {
    "key of a hub": (
        {"of_hub": "        serverPrt: 1  # |\n"},
        "hub acme/tokyo",
        "serverPrt is unknown; did you mean serverPort?",
    ),
    "key in another case": (
        {"of_hub": "        ServerPort: 1  # |\n"},
        "hub acme/tokyo",
        "ServerPort is unknown; did you mean serverPort?",
    ),
    "key with underscores": (
        {"of_hub": "        server_port: 1  # |\n"},
        "hub acme/tokyo",
        "server_port is unknown; did you mean serverPort?",
    ),
    "key with a blank that doesn't show": (
        {"of_hub": "        serverPort\u00a0: 1  # |\n"},
        "hub acme/tokyo",
        "'serverPort\\xa0' is unknown; did you mean serverPort?",
    ),
    "key of a realm": (
        {"of_realm": "    expireAt: 2030-01-01  # |\n"},
        "realm acme",
        "expireAt is unknown; did you mean expiredAt?",
    ),
    "key of another kind": (
        {"of_realm": "    serverPort: 443  # |\n"},
        "realm acme",
        "serverPort is unknown here; it belongs into a hub",
    ),
    "key of a service": (
        {"service": SERVICE + "          singelton: true  # |\n"},
        "service acme/tokyo/web",
        "singelton is unknown; did you mean singleton?",
    ),
    "key like nothing": (
        {"service": SERVICE + "          colour: blue  # |\n"},
        "service acme/tokyo/web",
        "colour is unknown",
    ),
    "key of the management": (
        {"service": management("serviceId: x\nidleTimout: 5  # |")},
        "service acme/tokyo/web",
        f"{AM}.idleTimout is unknown; did you mean idleTimeout?",
    ),
    "key of a mount point": (
        {"service": management("serviceId: x\nmountPoints:\n- volumesize: 5  # |\n  volumeSize: 5\n  target: /x")},
        "service acme/tokyo/web",
        f"{AM}.mountPoints.0.volumesize is unknown; did you mean volumeSize?",
    ),
    "outermost key": ({"outside": "relams: []  # |\n"}, "inventory", "relams is unknown; did you mean realms?"),
    "a key twice": (
        {"service": SERVICE + "          provider: other  # |\n"},
        "service acme/tokyo/web",
        "provider stands here again; the first is in line",
    ),
    "the children twice": (
        {"of_hub": "        services: []\n", "service": SERVICE},
        "hub acme/tokyo",
        "services stands here again; the first is in line",
    ),
    "a key of env twice": (
        {"service": management("serviceId: x\nenv:\n  A: a\n  A: b  # |")},
        "service acme/tokyo/web",
        f"{AM}.env.A stands here again; the first is in line",
    ),
    "octal": (
        {"of_hub": "        serverPort: 0443  # |\n"},
        "hub acme/tokyo",
        "serverPort is written '0443', which YAML reads as 291; write that, or put a text in quotes",
    ),
    "octal of YAML 1.2": ({"of_hub": "        serverPort: 0o17  # |\n"}, "hub acme/tokyo", "is not a whole number"),
    "hexadecimal": ({"of_hub": "        serverPort: 0x1bb  # |\n"}, "hub acme/tokyo", "YAML reads as 443"),
    "underscores": ({"of_hub": "        serverPort: 4_433  # |\n"}, "hub acme/tokyo", "YAML reads as 4433"),
    "sexagesimal": ({"of_hub": "        serverPort: 22:30  # |\n"}, "hub acme/tokyo", "YAML reads as 1350"),
    "sexagesimal seconds": (
        {"service": management("serviceId: x\nidleTimeout: 1:30  # |")},
        "service acme/tokyo/web",
        f"{AM}.idleTimeout is written '1:30', which YAML reads as 90",
    ),
    "a name that is a boolean": (
        {"service": SERVICE.replace("provider: server", "provider: no  # |")},
        "service acme/tokyo/web",
        "provider is written 'no', which YAML reads as false",
    ),
    "consumers that are booleans and numbers": (
        {"service": SERVICE.replace("[client]", "[off]  # |")},
        "service acme/tokyo/web",
        "consumers.0 is written 'off', which YAML reads as false",
    ),
    "a name that is a number": (
        {"service": SERVICE.replace("name: web", "name: 7  # |")},
        "service acme/tokyo/#1",
        "name is not a string",
    ),
    "a boolean in the environment": (
        {"service": management("serviceId: x\nenv:\n  DEBUG: on  # |")},
        "service acme/tokyo/web",
        f"{AM}.env.DEBUG is no text to YAML, and another value than is written; put it in quotes",
    ),
    "a version in the environment": (
        {"service": management("serviceId: x\nenv:\n  VERSION: 1.10  # |")},
        "service acme/tokyo/web",
        f"{AM}.env.VERSION is no text to YAML",
    ),
    "null in the environment": (
        {"service": management("serviceId: x\nenv:\n  DEBUG: null  # |")},
        "service acme/tokyo/web",
        f"{AM}.env.DEBUG is null, and nothing is absent there",
    ),
    "a number in options": (
        {"service": management("serviceId: x\noptions: [010]  # |")},
        "service acme/tokyo/web",
        f"{AM}.options.0 is written '010', which YAML reads as 8",
    ),
    "a signing key that is a number": (
        {"of_realm": "    administrators: [yes]  # |\n"},
        "realm acme",
        "administrators.0 is written 'yes', which YAML reads as true",
    ),
    "no value": ({"of_hub": "        serverPort:  # |\n"}, "hub acme/tokyo", "serverPort has no value"),
    "no children": ({"service": "          # - name: web\n"}, "hub acme/tokyo", "services has no value"),
    "no item": (
        {"service": SERVICE.replace("[client]", "[client, ~]  # |")},
        "service acme/tokyo/web",
        "consumers.1 is null, and nothing is absent there",
    ),
    "a list for a text": (
        {"service": SERVICE.replace("provider: server", "provider: [server]  # |")},
        "service acme/tokyo/web",
        "provider is not a string",
    ),
    "a text for a list": (
        {"service": SERVICE.replace("[client]", "client  # |")},
        "service acme/tokyo/web",
        "consumers is not an array",
    ),
    "a boolean in quotes": (
        {"service": SERVICE + "          singleton: 'yes'  # |\n"},
        "service acme/tokyo/web",
        "singleton is not true or false",
    ),
    "a tag": (
        {"service": SERVICE.replace("provider: server", "provider: !env SERVER  # |")},
        "service acme/tokyo/web",
        "provider has the tag '!env', which means nothing here",
    ),
    "a tagged object": (
        {"service": SERVICE.replace("consumers: [client]", "consumers: !!omap [client]  # |")},
        "service acme/tokyo/web",
        "consumers has the tag 'tag:yaml.org,2002:omap', which means nothing here",
    ),
    "a key that is a list": (
        {"service": SERVICE + "          ? [provider]  # |\n          : x\n"},
        "service acme/tokyo/web",
        "'?' is a key that is not a text",
    ),
    "a carriage return": (
        {"service": SERVICE.replace("[client]", '["client\\r"]  # |')},
        "service acme/tokyo/web",
        "consumers.0 holds U+000D, which doesn't show: 'client\\r'",
    ),
    "a blank at the end": (
        {"service": SERVICE.replace("provider: server", "provider: 'server '  # |")},
        "service acme/tokyo/web",
        "provider begins or ends with a blank: 'server '",
    ),
    "a blank that doesn't break": (
        {"service": SERVICE.replace("provider: server", "provider: server\u00a0  # |")},
        "service acme/tokyo/web",
        "provider holds U+00A0 (NO-BREAK SPACE), which doesn't show: 'server\\xa0'",
    ),
    "a blank without width": (
        {"service": SERVICE.replace("provider: server", "provider: ser\u200bver  # |")},
        "service acme/tokyo/web",
        "provider holds U+200B (ZERO WIDTH SPACE), which doesn't show: 'ser\\u200bver'",
    ),
    "a letter that is empty": (
        {"service": SERVICE.replace("name: web", "name: web\u3164  # |")},
        "service acme/tokyo/web\u3164",
        "name is empty or holds a character that can't be part of a URN: 'web\\u3164'",
    ),
    "a host name with a blank": (
        {"of_hub": "        serverAddress: '127.0.0.1 '  # |\n"},
        "hub acme/tokyo",
        "serverAddress is not an IP address: '127.0.0.1 '",
    ),
    "what follows from the names": (
        {"of_hub": "        realm: beta  # |\n"},
        "hub acme/tokyo",
        "realm is 'beta', and follows from the names: acme",
    ),
    "a merged key that is unknown": (
        {
            "outside": "x-common: &common\n  singelton: true  # |\n",
            "service": SERVICE + "          <<: *common\n",
        },
        "service acme/tokyo/web",
        "singelton is unknown; did you mean singleton?",
    ),
    "a merge with a text": (
        {"service": SERVICE + "          <<: common  # |\n"},
        "service acme/tokyo/web",
        "'<<' names something that is not an object",
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_not_taken_as_written_is_named(name: str, tmp_path: Path) -> None:
    """File and line, the path to it, and what it is; the other realm works, and this one as far as it can."""
    parts, where, said = WRITTEN[name]
    text = document(**parts)
    found = inventory(text, tmp_path)
    lines = [number for number, line in enumerate(text.splitlines(), 1) if "# |" in line]
    (fault,) = found.faults
    assert fault.where == where
    assert said in str(fault)
    if lines:
        assert fault.place == f"{tmp_path / 'inventory.yaml'}:{lines[0]}"
    assert str(fault).startswith(f"{tmp_path / 'inventory.yaml'}:")
    assert "beta" in {one.name for one in found.realms}
    assert "main.beta.test" in {one.fqdn for one in found.listening}


FINE = {
    "nothing": {},
    "booleans of YAML": {"service": SERVICE + "          singleton: yes\n", "of_realm": "    description: 'no'\n"},
    "a date": {"of_realm": "    expiredAt: 2130-01-01\n"},
    "a number with a fraction": {"service": management("serviceId: x\nidleTimeout: 1.50")},
    "numbers as JSON has them in the environment": {
        "service": management("serviceId: x\nenv: {PORT: 8080, DEBUG: true, RATIO: 0.5, NO: 'no', 1: one}")
    },
    "merged keys": {
        "outside": "x-common: &common\n  singleton: true\n  title: Other\n",
        "service": SERVICE + "          <<: *common\n",
    },
    "an alias": {
        "service": SERVICE.replace("[client]", "&all [client]")
        + SERVICE.replace("[client]", "*all").replace("web", "w2")
    },
    "texts as they are": {
        "service": SERVICE.replace("title: Web", "title: 'Web  '").replace("server", "田中 O'Neil (\u0301) \U0001f600")
    },
    "what follows from the names": {
        "of_hub": "        realm: acme\n        urn: urn:chip-in:network:acme:tokyo\n",
        "service": SERVICE + "          hub: tokyo\n          urn: urn:chip-in:service:acme:tokyo:web\n",
    },
    "CRLF": {},
}


@pytest.mark.parametrize("name", FINE)
def test_what_is_taken_as_written_is_no_fault(name: str, tmp_path: Path) -> None:
    """Ordinary YAML, line ends of Windows and a byte order mark included."""
    text = document(**FINE[name])
    if name == "CRLF":
        text = "\ufeff" + text.replace("\n", "\r\n")
    found = inventory(text, tmp_path)
    assert found.faults == ()
    assert found.warnings == ()
    assert len(found.realms) == 2


def test_null_is_absent_and_a_warning(tmp_path: Path) -> None:
    """The API's rule holds in files; who has written it is told."""
    found = inventory(document(of_hub="        serverPort: null\n        serverAddress: ~\n"), tmp_path)
    assert found.faults == ()
    assert [(one.where, one.field, one.message) for one in found.warnings] == [
        ("hub acme/tokyo", "serverPort", "is null, which counts as absent"),
        ("hub acme/tokyo", "serverAddress", "is null, which counts as absent"),
    ]


def test_json_has_lines_and_keys_that_stand_twice(tmp_path: Path) -> None:
    """As YAML."""
    text = json.dumps(sound(), indent=1)
    text = text.replace('"provider": "server"', '"provider": "server",\n"provider": "other",\n"singelton": true')
    found = inventory(text, tmp_path, "inventory.json")
    lines = dict(enumerate(text.splitlines(), 1))
    assert [(lines[int(one.place.rsplit(":", 1)[1])].strip(), one.where, one.field) for one in found.faults] == [
        ('"singelton": true,', "service acme/tokyo/web", "singelton"),
        ('"provider": "other",', "service acme/tokyo/web", "provider"),
    ]


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    """Not the first of each object only."""
    parts: dict[str, Any] = {
        "of_realm": "    expireAt: x\n",
        "of_hub": "        serverPrt: 1\n        serverPort: 0x10\n",
        "service": SERVICE.replace("title: Web", "title: no") + "          Singleton: true\n",
    }
    fields = [one.field for one in inventory(document(**parts), tmp_path).faults]
    assert fields == ["expireAt", "serverPrt", "serverPort", "Singleton", "title"]


def test_half_a_character_is_a_fault(tmp_path: Path) -> None:
    """JSON can say it, and nothing behind could write it."""
    document = sound()
    document["realms"][0]["hubs"][0]["description"] = "\ud800"
    (fault,) = inventory(json.dumps(document), tmp_path, "inventory.json").faults
    assert (fault.where, fault.field) == ("hub acme/tokyo", "description")
    assert fault.message == "holds half of a character (a lone surrogate)"


@pytest.mark.outside
async def test_unknown_fields_of_the_api_are_logged_once(tmp_path: Path) -> None:
    """They are allowed; a path is told once in a process's life. The server names what is wrong with its file."""
    document = sound()
    document["realms"][0]["hubs"][0]["services"][0]["onceOnly"] = 1
    with capture_logs() as lines:
        async with serving(written(document, tmp_path)) as url:
            for _ in range(2):
                found = await load_inventory(url)
                log_warnings(found)
    assert found.faults == ()
    assert found.unknown == ("service.onceOnly",)
    assert [line for line in lines if line["event"] == "inventory.unknown_field"] == [
        {"event": "inventory.unknown_field", "field": "service.onceOnly", "log_level": "info"}
    ]
    assert [line["field"] for line in lines if line["event"] == "inventory.fault"] == ["onceOnly"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@given(VALUES)
@pytest.mark.long
def test_json_is_read_as_the_library_does(value: object) -> None:
    """The walk that finds lines changes nothing, however the text is laid out; nothing but null is noted."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.json"
        for indent in (None, 1):
            path.write_text(json.dumps(value, indent=indent), encoding="utf-8")
            found = read_document(path)
            assert found == value
            assert all(note.null for _, note in notes(found))
            if isinstance(found, Object | Array) and indent:
                assert sorted(found.lines.values()) == list(found.lines.values())
