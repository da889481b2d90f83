"""The native engine's thin side in Python: certificates are parsed and judged here, as for every engine.

All else is Rust (``src/``). What is inherited keeps the promises of :class:`spnhub.transport.engine.Engine` as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from spnhub.events.faults import OnFault, log_fault
from spnhub.transport import engine as api
from spnhub.transport.certificates import (
    CertificateRefused,
    ParsedIdentity,
    anchors_of,
    load_names,
    load_pair,
    parse_identity,
    parsed,
    public_roots,
    verify_client,
    verify_server,
)
from spnhub.transport.native_engine.installed import load
from spnhub.transport.pem import PrivateKey, subject_of

__all__ = ["NativeEngine"]

_native: Final[Any] = load()

_CLAIM: Final = 256
"""Characters of an unverified subject that are told."""
_KEPT: Final = 16_384
"""Identities that are kept ready, before a policy that may bring new ones."""

_Verdict = tuple[int, str] | None
_Judge = Callable[[Sequence[bytes]], _Verdict]


class NativeEngine(_native.NativeEngine):  # type: ignore[misc]  # a class that is made elsewhere
    """:class:`spnhub.transport.engine.Engine` on quinn-proto.

    :param limits: bounds of every connection.
    :param clock: wall clock, for the validity of certificates only.
    :param reset_key: with it, packets of unknown connections are answered with a stateless reset.
    :param on_fault: is told of faults of ours that ended a connection or a splice.
    :param seed: 32 bytes from which all randomness follows but that of keys, for simulations.
    """

    _clock: Callable[[], datetime]
    _on_fault: OnFault
    _ready: dict[int, tuple[ParsedIdentity, Any]]
    """Of identities that are served, or were: nothing of them is made twice. Each is kept, so its id is its own."""

    def __new__(
        cls,
        limits: api.Limits | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        reset_key: bytes | None = None,
        on_fault: OnFault = log_fault,
        *,
        seed: bytes | None = None,
    ) -> Self:
        """See the class."""
        made: Self = super().__new__(cls, limits or api.Limits(), _claimed, on_fault, reset_key, seed)
        made._clock = clock
        made._on_fault = on_fault
        made._ready = {}
        return made

    def set_policy(self, policy: api.ServerPolicy) -> None:
        """See :meth:`spnhub.transport.engine.Engine.set_policy`."""
        if len(self._ready) >= _KEPT:
            self._ready.clear()
        names = self._identities(policy.identities)
        by_socket = {local: self._identities(served) for local, served in policy.by_socket.items()}
        self.serve(names, by_socket)

    def check_identity(self, identity: api.ServerIdentity) -> None:
        """See :meth:`spnhub.transport.engine.Engine.check_identity`."""
        self._identity(parse_identity(identity))

    def _identities(self, identities: Mapping[str, api.ServerIdentity]) -> dict[str, Any]:
        ready = {}
        for name, identity in identities.items():
            try:
                ready[name.lower()] = self._identity(parse_identity(identity))
            except ValueError as exc:
                raise ValueError(f"{name}: {exc}") from exc
        return ready

    def _identity(self, parsed: ParsedIdentity) -> Any:
        known = self._ready.get(id(parsed))
        if known is None:
            chain = _ders((parsed.certificate, *parsed.chain))
            judge: _Judge = partial(self._judge, partial(self._verify_client, parsed.trust))
            key = _pkcs8(parsed.private_key)
            known = parsed, self.server_identity(chain, key, parsed.alpn, judge, parsed.max_handshakes)
            self._ready[id(parsed)] = known
        return known[1]

    def connect(self, address: api.Address, policy: api.ClientPolicy, now: float) -> int:
        """See :meth:`spnhub.transport.engine.Engine.connect`."""
        chain, key = load_pair(policy.certificate_chain, policy.private_key, "certificate", "certificate key")
        trust = public_roots() if policy.trust is None else policy.trust
        anchors_of(trust, "trust")
        load_names()

        def verify(certificates: tuple[bytes, ...]) -> None:
            verify_server(certificates, trust, policy.server_name, self._clock())

        identity = self.client_identity(_ders(chain), _pkcs8(key), policy.alpn, partial(self._judge, verify))
        connection_id: int = self.begin(address, policy.server_name, identity, now)
        return connection_id

    # ---- certificates ------------------------------------------------------------------------------------------

    def _verify_client(self, trust: api.ClientTrust, certificates: tuple[bytes, ...]) -> None:
        verify_client(certificates, trust, self._clock())

    def _judge(self, verify: Callable[[tuple[bytes, ...]], None], chain: Sequence[bytes]) -> _Verdict:
        """Called inside a handshake, so nothing may be raised, and the engine may not be used."""
        try:
            verify(tuple(chain))
        except CertificateRefused as refused:
            return int(refused.alert), str(refused)
        except ValueError:
            return int(api.CertificateAlert.BAD_CERTIFICATE), "a certificate can't be read"
        except Exception as fault:
            self._on_fault("engine", fault)
            return int(api.CertificateAlert.CERTIFICATE_UNKNOWN), "internal error"
        return None


def _ders(chain: Sequence[x509.Certificate]) -> list[bytes]:
    return [certificate.public_bytes(Encoding.DER) for certificate in chain]


def _pkcs8(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _claimed(der: bytes) -> str | None:
    """The subject of a certificate that nobody has verified: as much of it as is worth a place in the log."""
    try:
        subject = subject_of(parsed(der))
    except ValueError:
        return None
    return subject if subject is None or len(subject) <= _CLAIM else f"{subject[:_CLAIM]}…"
