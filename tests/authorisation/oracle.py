"""What the specification makes of a cell. Written from it, not from the product: it imports nothing of that.

Sources: R-2.2 and the table of roles (who may have a session), ``transport/SC01.md`` (the other protocol's way to say
role and service), D-2 (which name counts), D-19 (server names), D-36 (time is no verdict, so whatever else is wrong is
told first), D-40 to D-42 (certificates), RFC 8446 section 6.2 and RFC 7301 (alerts), RFC 5280 (paths, lists).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.authorisation.axes import (
    AUTHORITIES,
    CHAINS,
    REALMS,
    REVOCATIONS,
    SERVED,
    SERVICES,
    SUBJECTS,
    USAGES,
    VALIDITIES,
    Authority,
    Cell,
    Usage,
)

__all__ = ["ADMITTED", "Verdict", "common_name", "verdict"]


class Verdict(NamedTuple):
    """What becomes of a client that asks for a session."""

    kind: str
    """``admitted``; ``alert``: refused in the handshake, with this TLS alert; ``refusal``: a session refusal of spn/1
    with this code; ``close``: the QUIC connection is closed with this application code."""
    number: int = 0
    about: tuple[str, ...] = ()
    """What the reason has to name."""


ADMITTED: Final = Verdict("admitted")

_BAD, _UNSUPPORTED, _REVOKED, _EXPIRED, _UNKNOWN_CA = 42, 43, 44, 45, 48
_UNRECOGNIZED_NAME, _CERTIFICATE_REQUIRED, _NO_APPLICATION_PROTOCOL = 112, 116, 120
_PROTOCOL, _TIMEOUT, _NOT_ALLOWED, _UNKNOWN_SERVICE = 2, 4, 16, 17
_SC01_NO_NAME, _SC01_UNSUPPORTED = 1, 2
_PREFERENCE: Final = ("spn/1", "sc01-provider", "sc01-consumer")
"""Of several ALPN names the hub takes the first of these (D-42)."""
_ROLE_NAMES: Final = {"consumer": "serviceConsumer", "provider": "serviceProvider"}


def verdict(cell: Cell) -> Verdict:
    """Judge a cell: server name, protocol, certificate, role and service, in this order."""
    name = REALMS[cell.realm].server_name
    served = None if name is None else SERVED.get(name.lower())
    if served is None:
        return Verdict("alert", _UNRECOGNIZED_NAME, ("server name",))
    realm, anchor = served
    protocol = next((one for one in _PREFERENCE if one in offered(cell)), None)
    if protocol is None:
        return Verdict("alert", _NO_APPLICATION_PROTOCOL)
    fault = _certificate(cell, realm, anchor)
    if fault is not None:
        return fault
    if protocol == "spn/1":
        return _asked(cell, realm)
    return _implied(cell, realm, protocol.removeprefix("sc01-"))


def offered(cell: Cell) -> tuple[str, ...]:
    """The ALPN names of the client's ClientHello."""
    sc01 = {
        "consumer": ("sc01-consumer",),
        "provider": ("sc01-provider",),
        "both": ("sc01-consumer", "sc01-provider"),
        "none": ("sc01",),
    }[cell.role]
    return {
        "spn/1": ("spn/1",),
        "sc01": sc01,
        "sc01 and spn/1": (*sc01, "spn/1"),
        "an unknown one": ("h3",),
        "none": (),
    }[cell.protocol]


# ---- roles and services ----------------------------------------------------------------------------------------------


def common_name(cell: Cell) -> str:
    """The name that an inventory allows: the subject's only one, as text, whatever its encoding (D-2)."""
    names = SUBJECTS[cell.subject].common_names
    return names[0] if len(names) == 1 else ""


def _may(name: str, role: str, urn: str) -> bool:
    (service,) = (one for one in SERVICES.values() if one.urn == urn)
    return bool(name) and (name == service.provider if role == "provider" else name in service.consumers)


def _asked(cell: Cell, realm: str) -> Verdict:
    """spn/1: the first packet says role and service (R-2.1, R-2.2); there is exactly one such packet."""
    if cell.role == "none":
        return Verdict("close", _TIMEOUT)
    if cell.role == "both":
        return Verdict("close", _PROTOCOL)
    service = SERVICES[cell.service]
    if service.realm != realm:
        return Verdict("refusal", _UNKNOWN_SERVICE, (service.urn,))
    name = common_name(cell)
    if not name:
        return Verdict("refusal", _NOT_ALLOWED, ("common name",))
    if not _may(name, cell.role, service.urn):
        return Verdict("refusal", _NOT_ALLOWED, (_ROLE_NAMES[cell.role], service.urn))
    return ADMITTED


def _implied(cell: Cell, realm: str, role: str) -> Verdict:
    """sc01: the ALPN name is the role, and the service the only one where the common name has it."""
    name = common_name(cell)
    if not name:
        return Verdict("close", _SC01_NO_NAME, ("common name",))
    found = [one.urn for one in SERVICES.values() if one.realm == realm and _may(name, role, one.urn)]
    if len(found) != 1:
        return Verdict("close", _SC01_UNSUPPORTED, (_ROLE_NAMES[role], *found))
    return ADMITTED


# ---- certificates ----------------------------------------------------------------------------------------------------


class _Link(NamedTuple):
    """A certificate of a chain, as it is judged."""

    name: str
    """Of :data:`AUTHORITIES`; empty: the leaf."""
    issuer: str
    key: str
    signature: str
    usage: Usage
    period: str


def _certificate(cell: Cell, realm: str, anchor: str) -> Verdict | None:
    """What is wrong for good is told before what time may heal; of several, the first of these (D-41)."""
    chain = CHAINS[cell.chain]
    if chain.nothing:
        return Verdict("alert", _CERTIFICATE_REQUIRED)
    if SUBJECTS[cell.subject].encoding == "invalid UTF-8":
        return Verdict("alert", _BAD, ("can't be read",))
    leaf = _Link("", chain.issuer, cell.key, cell.signature, USAGES[cell.usage], VALIDITIES[cell.validity].period)
    path = _path(leaf, chain.presented, anchor)
    if isinstance(path, Verdict):
        return path
    # The anchor is trusted as it is: only its dates, uses and key count, not who has signed it.
    if leaf.key in {"P-521", "Ed448"}:
        return Verdict("alert", _UNSUPPORTED, ("key",))
    for link in path:
        if link.key == "RSA 1024":
            return Verdict("alert", _UNSUPPORTED, ("1024",))
    for link in path[:-1]:
        if link.signature in {"MD5", "SHA-1"}:
            return Verdict("alert", _BAD, ("signed with",))
    for link in path:
        if link.usage.extended is not None and {"clientAuth", "any"}.isdisjoint(link.usage.extended):
            return Verdict("alert", _UNSUPPORTED, ("clientAuth",))
        if link is leaf and link.usage.key is not None and "digital_signature" not in link.usage.key:
            return Verdict("alert", _UNSUPPORTED, ("digitalSignature",))
    stale = False
    revocation = REVOCATIONS[cell.revocation]
    if revocation.realm == realm:
        names = [link.name or "leaf" for link in path]
        if revocation.named.rpartition(" ")[2] in names:
            return Verdict("alert", _REVOKED, ("revoked",))
        # A list counts for what its own CA has issued, if that CA has signed it.
        speaks = {"issuer": chain.issuer, "root": "root"}.get(revocation.list_of)
        for link in path[:-1]:
            if link.issuer != speaks:
                continue
            if (link.name or "leaf") == revocation.listed:
                return Verdict("alert", _REVOKED, ("revoked",))
            stale |= revocation.stale and revocation.refuse_stale
    for link in path:
        if link.period in {"past", "coming"}:
            return Verdict("alert", _EXPIRED, ("expired" if link.period == "past" else "not valid before",))
    return Verdict("alert", _EXPIRED, ("stale",)) if stale else None


def _path(leaf: _Link, presented: tuple[str, ...], anchor: str) -> list[_Link] | Verdict:
    """From the leaf up to the realm's CA (RFC 5280 section 6.1)."""
    path = [leaf]
    while path[-1].name != anchor:
        above = path[-1].issuer
        if not above or (above not in presented and above != anchor) or above == path[-1].name:
            # A namesake of the CA is taken for it, until the signature is looked at.
            same = bool(above) and (AUTHORITIES[above].name or above) == anchor
            return Verdict("alert", _BAD if same else _UNKNOWN_CA)
        one = AUTHORITIES[above]
        path.append(_Link(above, one.issuer, one.key, one.signature, one.usage, one.period))
    for below, link in enumerate(path[1:]):
        if not _may_issue(AUTHORITIES[link.name], below):
            return Verdict("alert", _BAD)
    return path


def _may_issue(one: Authority, below: int) -> bool:
    """Whether it may issue certificates, with as many CAs below it."""
    signs = one.usage.key is None or "key_cert_sign" in one.usage.key
    return one.ca and signs and (one.path_length is None or below <= one.path_length)
