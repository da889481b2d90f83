"""What a network is made of, for development: a CA, certificates, and an inventory that says who may do what.

Counterparts: :mod:`spnhub.pki` makes the certificates, :mod:`spnhub.inventory.model` explains the inventory's fields.
"""

from __future__ import annotations

import socket
from dataclasses import field
from pathlib import Path
from typing import Final

import yaml

from spnhub.dataclass import dataclass
from spnhub.pki import Authority, IssuedCredentials

__all__ = ["HUB_ID", "DemoService", "Site", "free_port"]

HUB_ID: Final = "demo-hub"
_REALM: Final = "demo"
_NETWORK: Final = "office"
_FQDN: Final = "localhost"


@dataclass(frozen=True, slots=True)
class DemoService:
    """A service of the demo's network, and the common names that may take part in it."""

    name: str
    provider: str
    consumer: str

    @property
    def urn(self) -> str:
        """As the inventory API makes it."""
        return f"urn:chip-in:service:{_REALM}:{_NETWORK}:{self.name}"


WEB: Final = DemoService("web", "web-server", "web-client")
MAIL: Final = DemoService("mail", "mail-server", "mail-client")


@dataclass(frozen=True, slots=True)
class Site:
    """Everything that lies in the demo's folder."""

    folder: Path
    port: int
    """UDP, of the loopback."""
    authority: Authority
    web: DemoService = WEB
    mail: DemoService = MAIL
    credentials: dict[str, IssuedCredentials] = field(default_factory=dict)
    """By common name."""

    @classmethod
    def create(cls, folder: Path) -> Site:
        """Make certificates and inventory in ``folder``."""
        site = cls(folder, free_port(socket.SOCK_DGRAM), Authority.create("SPN Hub demo CA"))
        for service in (site.web, site.mail):
            for name in (service.provider, service.consumer):
                site.credentials[name] = site.authority.client(name)
        site.inventory_file.write_text(yaml.safe_dump(site._inventory(), sort_keys=False))
        return site

    @property
    def inventory_file(self) -> Path:
        """What the inventory's development server serves."""
        return self.folder / "inventory.yaml"

    @property
    def journal(self) -> Path:
        """The hub's event journal."""
        return self.folder / "journal"

    def agent_environment(self, service: DemoService, credentials: IssuedCredentials) -> dict[str, str]:
        """What an agent needs to know, but for its TCP address."""
        return {
            "SPN_HUB_URL": f"https://{_FQDN}:{self.port}",
            "SPN_SERVICE_URN": service.urn,
            "SPN_CERTIFICATE": credentials.certificate.decode(),
            "SPN_CERTIFICATE_KEY": credentials.key.decode(),
            "SPN_TRUST": self.authority.certificate.decode(),
        }

    def _inventory(self) -> dict[str, object]:
        server = self.authority.server(_FQDN)
        services = [
            {"name": one.name, "title": one.name, "provider": one.provider, "consumers": [one.consumer]}
            for one in (self.web, self.mail)
        ]
        hub = {
            "name": _NETWORK,
            "title": "The demo's network",
            "fqdn": _FQDN,
            "serverAddress": "127.0.0.1",
            "serverPort": self.port,
            "serverCert": server.certificate.decode(),
            "serverCertKey": server.key.decode(),
            "services": services,
        }
        realm = {
            "name": _REALM,
            "title": "The demo's realm",
            "disabled": False,
            "cacert": self.authority.certificate.decode(),
            "deviceIDSigningKey": "unused",
            "deviceIDVerificationKey": "unused",
            "hubs": [hub],
        }
        return {"realms": [realm]}


def free_port(kind: socket.SocketKind) -> int:
    """A port of the loopback that nobody has at this moment: an inventory can't say "any"."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
