"""What stands in files: journals, recordings, PEM, revocation lists, inventories, configuration."""

from __future__ import annotations

import asyncio
import atexit
import base64
import contextlib
import functools
import io
import json
import shutil
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from spnhub.cli.command_line import run_command_line
from spnhub.cli.config_file import ConfigFile
from spnhub.cli.log import app as spnlog
from spnhub.events.journal.files import JournalError
from spnhub.events.journal.journal import Journal
from spnhub.events.journal.reader import JournalReader
from spnhub.events.journal.recovery import recover
from spnhub.events.state.hub_state import HubState
from spnhub.hub_settings import HubSettings
from spnhub.inventory import InventoryError, load_inventory
from spnhub.inventory import pem as inventory_pem
from spnhub.ops.expiry import ends_of
from spnhub.options import option_fields
from spnhub.recording.reader import RecordingError
from spnhub.settings import SettingsError
from spnhub.transport import pem, revocation
from spnhub.transport.certificates import anchors_of, load_pair, next_expiry
from spnhub.transport.engine import ClientTrust, Revocation, ServerIdentity
from tests.events.samples import day, killed, write_journal
from tests.fuzz.harness import Harness
from tests.inventory.documents import authority, server_credentials, sound
from tests.recording.making import replay
from tests.support.crl import crl_of
from tests.support.odd_certificates import BIT_STRING, T61_STRING, odd_subject

__all__ = ["FILES", "folder"]

_NOW: Final = datetime(2026, 6, 1, tzinfo=UTC)


@functools.cache
def folder() -> Path:
    """Of this process, for its inputs."""
    path = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def _file(name: str, data: bytes) -> Path:
    path = folder() / name
    path.write_bytes(data)
    return path


# ---- the journal ---------------------------------------------------------------------------------------------------


@functools.cache
def _journal() -> Path:
    """A good one, whose hub was killed."""
    path = folder() / "journal"
    write_journal(path, day())
    killed(path)
    return path


def _with(name: str, data: bytes) -> Path:
    """A copy of the good one, one file of it replaced."""
    copy = folder() / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(_journal(), copy)
    (copy / name).write_bytes(data)
    return copy


def _segment_name() -> str:
    (path,) = _journal().glob("*.segment")
    return path.name


def _segment(data: bytes) -> None:
    """Read as readers read, folded, and opened as the hub opens it after a crash."""
    path = _with(_segment_name(), data)
    with contextlib.suppress(JournalError), JournalReader(path) as reader:
        state = HubState()
        while batch := reader.read():
            state.apply_all(recorded for _, recorded in batch)
    with contextlib.suppress(JournalError), JournalReader(path) as reader:
        while reader.read_envelopes():
            pass
    _open(path)


def _open(path: Path) -> None:
    with contextlib.suppress(JournalError), Journal.open(path, "hub-1") as journal:
        recover(journal)
        assert journal.flush(10)


_BESIDE: Final = ("journal.json", "schemas.json", "checkpoint.json", "sequences.json", "shipped-spn.json")


def _beside(data: bytes) -> None:
    """The first byte says which of the small files it is."""
    path = _with(_BESIDE[(data[:1] or b"\0")[0] % len(_BESIDE)], data[1:])
    _open(path)


def _small_files() -> list[bytes]:
    found = [
        bytes([number]) + (_journal() / name).read_bytes()
        for number, name in enumerate(_BESIDE)
        if (_journal() / name).exists()
    ]
    position = {"journalId": "j", "clusterId": "c", "topicId": "t", "sequence": 3, "checksum": 1, "offsets": {"0": 1}}
    return [*found, b"\3" + json.dumps({"used": 99}).encode(), b"\4" + json.dumps(position).encode()]


# ---- recordings ----------------------------------------------------------------------------------------------------


def _recording(data: bytes) -> None:
    replay(_file("recording.jsonl", data))


def _recordings() -> list[bytes]:
    found = (Path(__file__).parents[1] / "recording").rglob("*.jsonl")
    return [path.read_bytes() for path in sorted(found)]


# ---- PEM -----------------------------------------------------------------------------------------------------------


@functools.cache
def _credentials() -> tuple[bytes, bytes, bytes]:
    mine = server_credentials("hub.test")
    return mine.certificate, mine.key, authority("servers").certificate


def _pem(data: bytes) -> None:
    certificate, _, _ = _credentials()
    text = data.decode("utf-8", "replace")
    for parse in _PEM_PARSERS:
        with contextlib.suppress(ValueError):
            parse(data)
    for check in (inventory_pem.check_certificates, inventory_pem.check_presented, inventory_pem.check_key):
        with contextlib.suppress(ValueError):
            checked = check(text)
            # What passes can be served.
            inventory_pem.matches(text, certificate.decode())
            if check is not inventory_pem.check_key:
                inventory_pem.fingerprint(checked)
                inventory_pem.doubts(checked, "hub.test", _NOW)


_PEM_PARSERS: Final[tuple[Callable[[bytes], object], ...]] = (
    pem.holds_pem,
    pem.canonical,
    pem.load_chain,
    pem.load_key,
    pem.load_presented,
    lambda data: anchors_of(data, "the CA"),
    lambda data: load_pair(data, _credentials()[1], "the certificate", "the key"),
    lambda data: load_pair(_credentials()[0], data, "the certificate", "the key"),
)


def _crl(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        inventory_pem.check_crl(data.decode("utf-8", "replace"))
    found = revocation.crl_pem(data)
    for one in revocation.lists_of(found):
        trust = Revocation(crl=found)
        revocation.next_update(trust)
        chain = pem.load_chain(authority("servers").server("x.test").certificate + authority("servers").certificate)
        revocation.revoked(chain, trust, _NOW)
        revocation.signed_by(one, chain[-1])
    inventory_pem.crl_doubts(authority("servers").certificate.decode(), found, _NOW)


def _crls() -> list[bytes]:
    made = [
        crl_of(authority("servers"), {}, now=_NOW),
        crl_of(authority("servers"), {7: None, 1 << 100: None}, now=_NOW),
    ]
    return [*made, *(pem_block(one) for one in made)]


def _authority(data: bytes) -> None:
    """Whatever a CA's or a hub's certificate in an inventory holds, what is said of it can be said."""
    text = inventory_pem.check_certificates(ssl.DER_cert_to_PEM_cert(data))
    crl = crl_of(authority("servers"), {}, now=_NOW)
    inventory_pem.authority_doubts(text, _NOW)
    inventory_pem.crl_doubts(text, crl, _NOW)
    inventory_pem.doubts(text, "hub.test", _NOW)
    trust = ClientTrust(text.encode(), Revocation(crl=crl))
    next_expiry((data,), trust, _NOW)
    identity = ServerIdentity(text.encode(), b"", text.encode(), (), revocation=trust.revocation)
    for end in ends_of([_Listening("acme", "urn:chip-in:network:acme:tokyo", identity)]):
        assert end.sentence(_NOW)


@dataclass(frozen=True)
class _Listening:
    realm: str
    network_urn: str
    identity: ServerIdentity


def _authorities() -> list[bytes]:
    own = authority("servers")
    odd = [odd_subject(own, tag, value) for tag, value in ((T61_STRING, b"cli\xe9nt"), (BIT_STRING, b"\0clien"))]
    texts = [own.certificate, own.server("hub.test").certificate, *(one.certificate for one in odd)]
    return [pem_block(text) for text in texts]


def pem_block(text: bytes) -> bytes:
    """What is in a PEM block."""
    return base64.b64decode(b"".join(line for line in text.splitlines() if not line.startswith(b"-")))


# ---- inventories and configuration ---------------------------------------------------------------------------------


def _inventory(suffix: str) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        path = _file(f"inventory.{suffix}", data)
        inventory = asyncio.run(load_inventory(path.as_uri()))
        # What an operator is shown of it.
        for fault in inventory.faults:
            assert str(fault)

    return read


def _json_documents() -> list[bytes]:
    return [json.dumps(sound()).encode(), b'{"realms": []}']


def _yaml_documents() -> list[bytes]:
    import yaml

    managed = {
        "clusterManagerUrn": "process:",
        "serviceId": "web",
        "command": ["true"],
        "firstStartAt": "0 0 8 * * 1-5",
        "startOn": "payload",
        "idleTimeout": 60,
    }
    document = sound()
    document["realms"][0]["hubs"][0]["services"][0]["availabilityManagement"] = managed
    document["realms"][0] |= {"expiredAt": "2030-01-01T00:00:00Z", "revoked": ["1234"], "maxSessions": 10}
    return [
        yaml.safe_dump(document).encode(),
        b"x-a: &a {b: 1}\nrealms: [{<<: *a, name: r}]\n",
        b"%YAML 1.2\n---\nrealms: []\n",
    ]


_YAML_WORDS: Final = tuple(
    word.encode()
    for word in (
        *(
            "&a ",
            "*a",
            "<<: *a",
            "? ",
            "- ",
            ": ",
            "|\n",
            ">-\n",
            "---\n",
            "...\n",
            "%TAG ! x\n",
            "~",
            "[",
            "{",
            "}",
            "]",
        ),
        *(
            f"!!{name} "
            for name in ("binary", "timestamp", "float", "int", "set", "omap", "null", "bool", "merge", "str")
        ),
        *("1_000", "0x1F", "0o17", "1:30", ".inf", "2024-99-99", "2024-01-01 00:00:00 +25:00"),
        *("\ufeff", "\x85", "\t", "'", '"', "\\x", "\\u12", "\u2028"),
    )
)


def _config(data: bytes) -> None:
    path = _file("hub.toml", data)
    flags = [field.flag for field in option_fields(HubSettings)]
    config = ConfigFile(path)
    for key in config.values(flags):
        config.place(key)


def _config_of_a_command(data: bytes) -> None:
    """A whole command with that file: one line on standard error, and status 2, for there is no such journal."""
    path = _file("log.toml", data)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = run_command_line(spnlog, "spnlog", ["verify", "--config", str(path), str(folder() / "none")])
    assert status == 2
    assert said.getvalue().count("\n") == 1, said.getvalue()
    assert said.getvalue().isprintable() or said.getvalue().rstrip("\n").isprintable()


_TOML_WORDS: Final = tuple(
    word.encode()
    for word in (
        *("=", "[", "[[", "]]", "]", ".", '"""', "'''", "\n", "#", "{a = 1}", "[1, [2]]", "\\uD800", "a.b.c = 1\n"),
        *("1979-05-27T07:32:00Z", "07:32:00", "inf", "nan", "0x", "1e400", "true"),
        *("hub-id", "journal", "json = 1\n"),
    )
)
_CONFIG: Final = (
    b'hub-id = "one"\njournal = "/tmp/x"\nidle-timeout = 20.5\nallow-process = true\nlog-level = "info"\n',
    b"journal_size = 1000\n[table]\nx = 1\n",
    b"json = true\nfilter = []\n",
)


FILES: Final = (
    Harness(
        "segment", "a segment of a journal", _segment, lambda: [(_journal() / _segment_name()).read_bytes()], slice=30
    ),
    Harness("journal_files", "the small files of a journal", _beside, _small_files, slice=30),
    Harness("recording", "a recording of the actors' inputs", _recording, _recordings, (RecordingError,), slice=30),
    Harness(
        "pem",
        "certificates and keys, PEM",
        _pem,
        lambda: [*_credentials(), b"".join(_credentials())],
        words=(
            b"-----BEGIN ",
            b"-----END ",
            b"CERTIFICATE-----\n",
            b"PRIVATE KEY-----\n",
            b"ENCRYPTED ",
            b"\\n",
            b"\r",
        ),
    ),
    Harness("authority", "a certificate in an inventory, DER", _authority, _authorities, (ValueError,)),
    Harness("crl", "a revocation list, PEM or DER", _crl, _crls, (ValueError,)),
    Harness(
        "inventory_yaml",
        "an inventory file, YAML",
        _inventory("yaml"),
        _yaml_documents,
        (InventoryError,),
        words=_YAML_WORDS,
    ),
    Harness("inventory_json", "an inventory file, JSON", _inventory("json"), _json_documents, (InventoryError,)),
    Harness("config", "a configuration file", _config, lambda: list(_CONFIG), (SettingsError,), words=_TOML_WORDS),
    Harness(
        "config_command",
        "the same, of a whole command",
        _config_of_a_command,
        lambda: list(_CONFIG),
        words=_TOML_WORDS,
        slice=30,
    ),
)
