"""Makes what the environment's network consists of: a CA, certificates, and the inventory that names them.

``python site.py FOLDER`` writes ``inventory/inventory.yaml`` and, for each end, ``provider/`` and ``consumer/`` with
``certificate.pem``, ``key.pem`` and ``trust.pem``. What is there already stays, unless it is about to expire; a part of
it is made anew as a whole. The CA's own key is thrown away. For development: see :mod:`spnhub.pki`.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509

from spnhub.pki import Authority, IssuedCredentials

FQDN = "hub.spn.example"
PORT = 4433
ENDS = {"provider": "web-server", "consumer": "web-client"}
"""Folder, and common name of the certificate in it."""
_DAYS = 90
_SPARE = timedelta(days=7)


def main() -> None:
    """Make it, or leave it as it is."""
    folder = Path(sys.argv[1])
    if _usable(folder):
        print(f"{folder}: certificates and inventory stay as they are")  # noqa: T201 - its log
        return
    authority = Authority.create("SPN Hub compose CA", days=_DAYS)
    for name, common_name in ENDS.items():
        own = authority.client(common_name, days=_DAYS)
        _write(folder / name / "certificate.pem", own.certificate)
        _write(folder / name / "key.pem", own.key)
        _write(folder / name / "trust.pem", authority.certificate)
    document = _inventory(authority, authority.server(FQDN, days=_DAYS))
    # Last: it is what tells that everything is there.
    _write(folder / "inventory" / "inventory.yaml", yaml.safe_dump(document, sort_keys=False).encode())
    print(f"{folder}: new certificates and inventory, for {_DAYS} days")  # noqa: T201


def _usable(folder: Path) -> bool:
    files = [folder / name / "certificate.pem" for name in ENDS]
    if not (folder / "inventory" / "inventory.yaml").exists() or not all(file.exists() for file in files):
        return False
    certificates = [x509.load_pem_x509_certificate(file.read_bytes()) for file in files]
    return all(one.not_valid_after_utc - datetime.now(UTC) > _SPARE for one in certificates)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.touch(mode=0o600)
    new.write_bytes(content)
    new.replace(path)


def _inventory(authority: Authority, server: IssuedCredentials) -> dict[str, object]:
    service = {
        "name": "web",
        "title": "A sample web service",
        "provider": ENDS["provider"],
        "consumers": [ENDS["consumer"]],
    }
    hub = {
        "name": "main",
        "title": "The network of the compose file",
        "fqdn": FQDN,
        "serverAddress": "0.0.0.0",  # noqa: S104 - of its container
        "serverPort": PORT,
        "serverCert": server.certificate.decode(),
        "serverCertKey": server.key.decode(),
        "services": [service],
    }
    realm = {
        "name": "acme",
        "title": "Acme",
        "disabled": False,
        "cacert": authority.certificate.decode(),
        "deviceIDSigningKey": "unused",
        "deviceIDVerificationKey": "unused",
        "hubs": [hub],
    }
    return {"realms": [realm]}


if __name__ == "__main__":
    main()
