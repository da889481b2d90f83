"""Documents and answers that are made to hurt: each is refused by name, at once, and by no more than that."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from spnhub.inventory import InventoryError, InventoryFault, api, build, load_inventory
from spnhub.inventory.source import read_file
from spnhub.ops.expiry import ends_of
from tests.inventory.documents import authority, hub, realm, service, written
from tests.inventory.scripted import scripted
from tests.support.crl import crl_of
from tests.support.odd_certificates import ODD, odd_subject
from tests.test_bounded_http import GZIP, answering, server

pytestmark = pytest.mark.outside

CHAIN = "x-0: &a0 {}\n" + "".join(f"x-{n}: &a{n} {{<<: *a{n - 1}}}\n" for n in range(1, 200)) + "realms: [*a199]\n"
NESTED = f"x-0: &a0 {'[' * 40}{']' * 40}\nx-1: &a1 {'[' * 40}*a0{']' * 40}\nrealms: [*a1]\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.yaml", "[" * 100_000, ":1: is nested deeper than 64"),
        ("x.yaml", "{a: " * 100_000, ":1: is nested deeper than 64"),
        ("x.yaml", "- " * 100_000, ":1: is nested deeper than 64"),
        ("x.yaml", "? " * 100_000, ":1: is nested deeper than 64"),
        ("x.yaml", "".join(f"{' ' * n}a:\n" for n in range(1000)), ":64: is nested deeper than 64"),
        ("x.yaml", NESTED, ":1: is nested deeper than 64"),
        ("x.yaml", CHAIN, ":1: is nested deeper than 64"),
        ("x.yaml", "realms: [&a {<<: &b {<<: *b}}]", ":1: is part of itself"),
        ("x.yaml", "a: 1\n" * 7_000_000, ": is larger than 33554432 bytes"),
        ("x.json", "[" * 100_000, ": is not JSON: it is nested deeper than 64"),
        ("x.json", f'{{"realms": {"5" * 5000}}}', ": is not JSON: it holds a number of 5000 digits"),
        ("x.json", f'{{"realms": [{"[]," * 1_000_000}1]}}', ": is not JSON: it holds more than 1000000 parts"),
    ],
    ids=map(str, range(12)),
)
async def test_a_document_that_is_refused(name: str, text: str, message: str, tmp_path: Path) -> None:
    """With its file and line where there is one."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InventoryError) as caught:
        await load_inventory(path.as_uri())
    assert str(caught.value) == f"{path}{message}"


async def test_a_document_of_too_many_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of YAML."""
    monkeypatch.setattr("spnhub.inventory.document.YAML_PARTS", 100)
    path = tmp_path / "x.yaml"
    path.write_text("realms:\n" + "- []\n" * 100)
    with pytest.raises(InventoryError, match=r"x\.yaml:\d+: holds more than 100 parts"):
        await load_inventory(path.as_uri())


@pytest.mark.parametrize(
    "number",
    ["5" * 5000, "0x" + "f" * 5000, "0b" + "1" * 20_000, "1" + ":10" * 5000],
    ids=("ten", "hex", "two", "sixty"),
)
async def test_a_number_of_thousands_of_digits(number: str, tmp_path: Path) -> None:
    """In each way of writing one, it is the fault of its field."""
    document = {"realms": [realm("acme", hub("main", "main.test", service("web")), maxSessions="NUMBER")]}
    path = written(document, tmp_path, "x.yaml")
    path.write_text(path.read_text().replace('"NUMBER"', number))
    inventory = await load_inventory(path.as_uri())
    assert inventory.faults == (
        InventoryFault("realm acme", "maxSessions", f"is a number of {len(number)} characters"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "it is nested deeper than 64"),
        ("[" + "5" * 5000 + "]", "it holds a number of 5000 digits"),
        ("[NaN]", "it holds NaN"),
        ("[" + "[]," * 1_000_000 + "1]", "it holds more than 1000000 parts"),
    ],
    ids=map(str, range(4)),
)
async def test_an_answer_that_is_refused(text: str, message: str) -> None:
    """The same over HTTP, with a name and without a traceback."""
    with scripted(lambda path: (200, text)) as (url, _), pytest.raises(InventoryError) as caught:
        await load_inventory(url)
    assert str(caught.value) == f"{url}/realms: the answer is not JSON: {message}"


async def test_a_gzip_bomb() -> None:
    """A few kilobytes that become many megabytes."""
    bomb = gzip.compress(bytes(64 << 20), 9)
    async with server(answering(bomb, GZIP)) as (url, _):
        with pytest.raises(InventoryError, match="/realms: the answer is larger than 16777216 bytes"):
            await load_inventory(url)


async def test_answers_that_are_too_much_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each within its bound; what is beyond that of all is a fault of the part that it is about."""
    monkeypatch.setattr(api, "TOTAL_LIMIT", 20_000)
    realms = [realm("acme"), realm("beta")]

    def answer(path: str) -> tuple[int, object]:
        return (200, realms) if path == "/realms" else (200, " " * 15_000 + "[]")

    with scripted(answer) as (url, _):
        inventory = await load_inventory(url)
    assert [str(fault) for fault in inventory.faults if "larger" in fault.message]


@pytest.mark.parametrize("name", ODD)
def test_a_certificate_whose_name_cannot_be_read(name: str, tmp_path: Path) -> None:
    """As a CA and as what a hub presents: OpenSSL takes it, so it is served, and found by its digest when it ends."""
    odd = odd_subject(authority("servers"), *ODD[name])
    text = odd.certificate.decode()
    digest = x509.load_pem_x509_certificate(odd.certificate).fingerprint(hashes.SHA256()).hex()
    later = datetime.now(UTC) + timedelta(days=4000)
    crl = crl_of(authority("servers"), {}, now=later).decode()
    tokyo = hub("tokyo", "hub.test", serverCert=text, serverCertKey=odd.key.decode())
    document = {"realms": [realm("acme", tokyo, cacert=text, crl=[crl]), realm("beta", hub("main", "main.test"))]}
    inventory = build(read_file(written(document, tmp_path)), now=later)
    assert inventory.faults == ()
    assert len(inventory.listening) == 2
    (expired,) = (one.message for one in inventory.warnings if (one.where, one.field) == ("realm acme", "cacert"))
    ends = {(one.kind, one.subject) for one in ends_of(inventory.listening) if one.realm == "acme"}
    subject = "CN=client" if name == "T61String" else f"with SHA-256 {digest}"
    assert expired.startswith(f"has the CA {subject}, which expired at ")
    assert ends == {("ca", subject), ("hub", subject)}
