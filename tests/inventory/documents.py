"""Inventory documents to test with: a sound one, and its parts to break."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from spnhub.pki import Authority, IssuedCredentials

Object = dict[str, Any]


@functools.cache
def authority(realm: str) -> Authority:
    """The CA of a realm, made once."""
    return Authority.create(f"CA of {realm}")


@functools.cache
def server_credentials(fqdn: str) -> IssuedCredentials:
    """A server certificate, made once."""
    return authority("servers").server(fqdn)


def realm(name: str, *hubs: Object, **more: Any) -> Object:
    """A sound realm object with its hubs."""
    return {
        "name": name,
        "title": name.title(),
        "cacert": authority(name).certificate.decode(),
        "disabled": False,
        "deviceIDSigningKey": "signing-secret",
        "deviceIDVerificationKey": "verification-secret",
        "hubs": list(hubs),
    } | more


def hub(name: str, fqdn: str, *services: Object, **more: Any) -> Object:
    """A sound hub object with its services."""
    credentials = server_credentials(fqdn)
    return {
        "name": name,
        "title": name.title(),
        "fqdn": fqdn,
        "serverCert": credentials.certificate.decode(),
        "serverCertKey": credentials.key.decode(),
        "services": list(services),
    } | more


def service(name: str, provider: str = "server", consumers: tuple[str, ...] = ("client",), **more: Any) -> Object:
    """A sound service object."""
    return {"name": name, "title": name.title(), "provider": provider, "consumers": list(consumers)} | more


def sound() -> Object:
    """Two realms whose hubs share the port 443."""
    return {
        "realms": [
            realm(
                "acme",
                hub("tokyo", "tokyo.acme.test", service("web"), service("mail", "post", (), singleton=True)),
                hub("osaka", "osaka.acme.test", serverPort=4433, serverAddress="127.0.0.1"),
            ),
            realm("beta", hub("main", "main.beta.test", service("web", "b-server", ("b-1", "b-2")))),
        ]
    }


def written(document: object, folder: Path, name: str = "inventory.json") -> Path:
    """Write a document as JSON, which is YAML too, and give back where."""
    path = folder / name
    path.write_text(json.dumps(document), encoding="utf-8")
    return path
