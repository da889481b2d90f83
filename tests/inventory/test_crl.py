"""Revocation in the inventory: fields of a realm, lists by URL and what becomes of them when they can't be had."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from spnhub.http_server import HttpServer
from spnhub.inventory import CrlStore, Inventory, InventoryFault, load_inventory
from spnhub.inventory import crl_reading as module
from tests.inventory.documents import authority, hub, realm, service, written
from tests.support.crl import crl_of

pytestmark = pytest.mark.outside

NOW = datetime.now(UTC).replace(microsecond=0)
CRL = crl_of(authority("acme"), {1: None}, now=NOW)


async def load(tmp_path: Path, store: CrlStore | None = None, /, **fields: Any) -> Inventory:
    document = {"realms": [realm("acme", hub("tokyo", "tokyo.acme.test", service("web")), **fields)]}
    return await load_inventory(written(document, tmp_path).as_uri(), crls=store)


async def test_inline(tmp_path: Path) -> None:
    """One text or an array; names in whatever writing. What is revoked is a difference of the realm."""
    plain = await load(tmp_path)
    for crl in (CRL.decode(), [CRL.decode()]):
        found = await load(tmp_path, crl=crl, revoked=["0A:1B", "F" * 64], crlStale="refuse")
        assert (found.faults, found.warnings) == ((), ())
        revocation = found.listening[0].identity.revocation
        assert (revocation.crl, revocation.refuse_stale) == (CRL, True)
        assert revocation.certificates == {"a1b", "f" * 64}
        assert found.realms[0].client_ca != plain.realms[0].client_ca
    assert not plain.listening[0].identity.revocation


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"crl": "nonsense"}, "crl.0", "holds no certificate revocation list (X509 CRL)"),
        ({"crl": [CRL.decode()[:90]]}, "crl.0", "holds a PEM block that is cut short"),
        (
            {"revoked": ["1.5"]},
            "revoked.0",
            "is neither a serial number nor a SHA-256 fingerprint in hexadecimal digits",
        ),
        ({"revoked": [15]}, "revoked.0", "is not a string"),
        ({"crlStale": "ignore"}, "crlStale", "is not valid (literal_error)"),
    ],
    ids=["no list", "a cut list", "no number", "a number", "another word"],
)
async def test_faults(tmp_path: Path, fields: dict[str, Any], field: str, message: str) -> None:
    (fault,) = (await load(tmp_path, **fields)).faults
    assert (fault.where, fault.field, fault.message) == ("realm acme", field, message)


async def test_doubts(tmp_path: Path) -> None:
    """Lists that won't do what is expected of them are said; the realm is served."""
    ended = NOW - timedelta(days=3)
    for crl, said in (
        (
            crl_of(authority("other"), {}, now=NOW),
            f"has a list of {_name('other')}, which is not in cacert: it counts for chains that lead through it",
        ),
        (
            crl_of(authority("acme"), {}, now=NOW - timedelta(days=10)),
            f"has a list of {_name('acme')} that is stale since {ended:%Y-%m-%dT%H:%M:%SZ}",
        ),
    ):
        found = await load(tmp_path, crl=crl.decode())
        assert found.warnings == (InventoryFault("realm acme", "crl", said),)
        assert len(found.listening) == 1


def _name(name: str) -> str:
    return x509.load_pem_x509_certificate(authority(name).certificate).subject.rfc4514_string()


@asynccontextmanager
async def served(answers: dict[str, Response]) -> AsyncIterator[str]:
    """A CA's web server."""

    async def answer(request: Request) -> Response:
        assert "Authorization" not in request.headers
        return answers[request.url.path]

    server = HttpServer(Starlette(routes=[Route("/{path}", answer)]), "a CA")
    url = await server.start("127.0.0.1", 0)
    try:
        yield url
    finally:
        await server.close()


async def test_by_url(tmp_path: Path) -> None:
    """PEM or DER over HTTP, or a file beside the inventory; read again before they are stale."""
    der = x509.load_pem_x509_crl(CRL).public_bytes(Encoding.DER)
    (tmp_path / "ca.crl").write_bytes(der)
    store = CrlStore("file:")
    assert store.due(NOW) is None
    async with served({"/pem": Response(CRL), "/der": Response(der)}) as url:
        for at in (f"{url}/pem", f"{url}/der", (tmp_path / "ca.crl").as_uri()):
            found = await load(tmp_path, store, crl=at)
            assert (found.faults, found.warnings) == ((), ())
            assert found.listening[0].identity.revocation.crl == CRL
    assert store.due(NOW) == NOW + timedelta(hours=24)
    assert store.due(NOW + timedelta(days=7)) == NOW + timedelta(days=7, minutes=5)


async def test_what_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last copy counts, and it is tried again soon; without one it depends on ``crlStale``."""
    monkeypatch.setattr(module, "LARGEST", 10_000)
    store = CrlStore("file:")
    async with served({"/crl": Response(CRL)}) as url:
        at = f"{url}/crl"
        await load(tmp_path, store, crl=at)
    for stale in ("accept", "refuse"):
        found = await load(tmp_path, store, crl=at, crlStale=stale)
        assert found.listening[0].identity.revocation.crl == CRL
        (warning,) = found.warnings
        assert warning.message.startswith(at)
        assert store.due(NOW) == NOW + timedelta(minutes=5)
    found = await load(tmp_path, crl=at)
    assert (found.faults, len(found.listening)) == ((), 1)
    found = await load(tmp_path, crl=at, crlStale="refuse")
    assert ([one.where for one in found.faults], found.listening) == (["realm acme"], ())
    bomb = Response(gzip.compress(bytes(10_000_000)), headers={"Content-Encoding": "gzip"})
    answers = {"/404": Response(status_code=404), "/text": Response("no list"), "/bomb": bomb}
    async with served(answers) as url:
        for path, said in (
            ("404", "has status 404"),
            ("text", "holds no certificate revocation list (X509 CRL)"),
            ("bomb", "has more than 10000 bytes"),
        ):
            (warning,) = (await load(tmp_path, crl=f"{url}/{path}")).warnings
            assert warning.message == f"{url}/{path} {said}"


async def test_files_are_for_files(tmp_path: Path) -> None:
    """An inventory that comes over HTTP doesn't make the hub read its host's files."""
    (warning,) = (await load(tmp_path, CrlStore("http://inventory.test"), crl="file:/etc/passwd")).warnings
    assert warning.message == "file:/etc/passwd can't be read: only an inventory that is a file may name files"
