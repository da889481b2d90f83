"""A real broker that wants to know who one is: a listener for each of Kafka's security protocols, and users.

Counterpart: :mod:`tests.support.kafka`. From jars only: a container's listeners can't be set so.
"""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

from spnhub.demo.site import free_port
from spnhub.pki import Authority
from tests.support.kafka import JarBroker
from tests.support.kafka_jars import JarRuntime

__all__ = ["PASSWORD", "USER", "SecuredBroker"]

USER = "spn-user"
PASSWORD = "a-password-that-no-message-may-hold"
_PROTOCOLS = ("SSL", "SASL_PLAINTEXT", "SASL_SSL")


class SecuredBroker(JarBroker):
    """One node with PLAINTEXT (what :attr:`bootstrap` names), SSL, SASL_PLAINTEXT and SASL_SSL.

    SASL takes PLAIN and SCRAM-SHA-256, not SCRAM-SHA-512. The certificate is for ``localhost``, of a CA of its own.
    """

    def __init__(self) -> None:
        self.ports = {protocol: free_port(socket.SOCK_STREAM) for protocol in _PROTOCOLS}
        self.folder = Path(tempfile.mkdtemp(prefix="spnhub-secured-"))
        authority = Authority.create("CA of the broker")
        server = authority.server("localhost")
        self.ca = self.folder / "ca.pem"
        self.ca.write_bytes(authority.certificate)
        self.other_ca = self.folder / "other-ca.pem"
        self.other_ca.write_bytes(Authority.create("another CA").certificate)
        keystore = self.folder / "server.pem"
        keystore.write_bytes(server.key + server.certificate)
        super().__init__(JarRuntime.prepare())
        jaas = "org.apache.kafka.common.security"
        settings = {
            "listeners": ",".join(
                [self._values["listeners"], *(f"{name}://127.0.0.1:{port}" for name, port in self.ports.items())]
            ),
            "advertised.listeners": ",".join(
                [self._values["advertised.listeners"], *(f"{n}://localhost:{port}" for n, port in self.ports.items())]
            ),
            "listener.security.protocol.map": ",".join(
                ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT", *(f"{name}:{name}" for name in _PROTOCOLS)]
            ),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(keystore),
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
        }
        for name in ("sasl_plaintext", "sasl_ssl"):
            plain = f'{jaas}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
            settings[f"listener.name.{name}.plain.sasl.jaas.config"] = plain
            settings[f"listener.name.{name}.scram-sha-256.sasl.jaas.config"] = (
                f"{jaas}.scram.ScramLoginModule required;"
            )
        self.configure(settings)
        self.users = (f"SCRAM-SHA-256=[name={USER},password={PASSWORD}]",)

    def at(self, protocol: str) -> str:
        """``host:port`` of a listener."""
        return f"localhost:{self.ports[protocol]}" if protocol in self.ports else self.bootstrap
