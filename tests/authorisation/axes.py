"""The table's axes as data: what each value is, for whoever makes it and for whoever says what has to come of it.

Nothing here says a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final, Literal, NamedTuple

__all__ = [
    "AUTHORITIES",
    "AXES",
    "CHAINS",
    "KEYS",
    "PROTOCOLS",
    "REALMS",
    "REVOCATIONS",
    "ROLES",
    "SERVED",
    "SERVICES",
    "SIGNATURES",
    "SUBJECTS",
    "USAGES",
    "VALIDITIES",
    "Authority",
    "Cell",
    "Chain",
    "Realm",
    "Revocation",
    "Service",
    "Subject",
    "Usage",
    "Validity",
    "possible",
]

Period = Literal["now", "past", "coming", "from now", "until now"]
Encoding = Literal["UTF8String", "PrintableString", "BMPString", "T61String", "invalid UTF-8"]


# ---- the inventory ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Service:
    """What an inventory has of a service, or had."""

    urn: str
    realm: str
    """Empty: no realm has it now."""
    provider: str = ""
    consumers: frozenset[str] = frozenset()


SERVICES: Final = {
    "own": Service("urn:chip-in:service:acme:main:web", "acme", "server", frozenset({"client", "pair", "clïent"})),
    "another of the hub": Service("urn:chip-in:service:acme:main:chat", "acme", "pair", frozenset({"pair"})),
    "of the other realm": Service(
        "urn:chip-in:service:umbrella:main:web", "umbrella", "server", frozenset({"client", "foreigner"})
    ),
    "removed": Service("urn:chip-in:service:acme:main:old", ""),
    "never defined": Service("urn:chip-in:service:acme:main:nothing", ""),
}
"""``removed`` had the provider and consumer "former", and the consumer "client", until a reload took it away."""


@dataclass(frozen=True)
class Realm:
    """What a client asks for by the server name of its ClientHello."""

    server_name: str | None
    """None: none is sent."""


REALMS: Final = {
    "own": Realm("hub.test"),
    "own, in upper case": Realm("HUB.TEST"),
    "the other": Realm("other.test"),
    "unknown name": Realm("nowhere.test"),
    "no name": Realm(None),
}
SERVED: Final = {"hub.test": ("acme", "root"), "other.test": ("umbrella", "foreign root")}
"""By server name: its realm, and the CA that the realm's ``cacert`` has."""


# ---- certificates ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """The subject of a client's certificate, and its alternative names."""

    common_names: tuple[str, ...]
    organization: str = ""
    encoding: Encoding = "UTF8String"
    alternatives: tuple[str, ...] = ()
    """``dns:…``, ``uri:…`` or ``mail:…``."""
    one_element: bool = False
    """Common name and organization are one element of the subject (a multi-valued RDN)."""


SUBJECTS: Final = {
    "the service's name": Subject(("client",)),
    "its provider's name": Subject(("server",)),
    "a name of both roles, and of two services": Subject(("pair",)),
    "with an organization": Subject(("client",), "Example"),
    "with an organization, in one element": Subject(("client",), "Example", one_element=True),
    "as PrintableString": Subject(("client",), encoding="PrintableString"),
    "as BMPString": Subject(("client",), encoding="BMPString"),
    "as T61String": Subject(("client",), encoding="T61String"),
    "with an accent": Subject(("clïent",)),
    "with an accent, decomposed": Subject(("cli\u0308ent",)),
    "invalid UTF-8": Subject(("client",), encoding="invalid UTF-8"),
    "two common names, the first allowed": Subject(("client", "nobody")),
    "two common names, the last allowed": Subject(("nobody", "client")),
    "the same common name twice": Subject(("client", "client")),
    "no common name": Subject((), "Example"),
    "no common name, an alternative one": Subject((), "Example", alternatives=("dns:client", "uri:urn:cn:client")),
    "nothing at all": Subject(()),
    "another name, an alternative one": Subject(("nobody",), alternatives=("dns:client",)),
    "an alternative name besides": Subject(("client",), alternatives=("dns:server", "mail:a@example.org")),
    "in upper case": Subject(("CLIENT",)),
    "with a space behind": Subject(("client ",)),
    "with a NUL and more behind": Subject(("client\0.example",)),
    "look-alike letters": Subject(("с\u200blient",)),
    "a name of the other realm": Subject(("foreigner",)),
    "a name of the removed service": Subject(("former",)),
    "unknown": Subject(("nobody",)),
    "as an expression": Subject(("*",)),
}


@dataclass(frozen=True)
class Usage:
    """Extended key usages and key usage of a certificate; None: it has no such extension."""

    extended: tuple[str, ...] | None = None
    key: tuple[str, ...] | None = None
    critical: bool = False


@dataclass(frozen=True)
class Authority:
    """A CA, or what passes for one."""

    issuer: str
    """Its own name: self-signed."""
    name: str = ""
    """Its subject, where another has the same."""
    ca: bool = True
    path_length: int | None = None
    period: Period = "now"
    key: str = "RSA 2048"
    signature: str = "SHA-256"
    usage: Usage = Usage()


AUTHORITIES: Final = {
    "root": Authority("root", signature="SHA-1"),
    "issuing": Authority("root"),
    "deep": Authority("issuing"),
    "foreign root": Authority("foreign root"),
    "stranger": Authority("stranger"),
    "namesake": Authority("namesake", name="root"),
    "expired": Authority("root", period="past"),
    "coming": Authority("root", period="coming"),
    "no CA": Authority("root", ca=False),
    "bounded": Authority("root", path_length=0),
    "below bounded": Authority("bounded"),
    "not for certificates": Authority("root", usage=Usage(key=("digital_signature",))),
    "for servers": Authority("root", usage=Usage(extended=("serverAuth",))),
    "for clients": Authority("root", usage=Usage(extended=("clientAuth",))),
    "weak": Authority("root", key="RSA 1024"),
    "EC": Authority("root", key="P-256"),
    "by SHA-1": Authority("root", signature="SHA-1"),
    "by MD5": Authority("root", signature="MD5"),
}


class Chain(NamedTuple):
    """Who has issued the client's certificate, and what is presented with it."""

    issuer: str
    """Of :data:`AUTHORITIES`; empty: self-signed."""
    presented: tuple[str, ...] = ()
    nothing: bool = False
    """The client presents no certificate."""


CHAINS: Final = {
    "by the realm's CA": Chain("root"),
    "by an intermediate CA": Chain("issuing", ("issuing",)),
    "by two of them": Chain("deep", ("deep", "issuing")),
    "in another order": Chain("deep", ("issuing", "deep")),
    "with the realm's CA": Chain("issuing", ("issuing", "root")),
    "with a stranger's CA besides": Chain("issuing", ("stranger", "issuing")),
    "intermediate for clients": Chain("for clients", ("for clients",)),
    "intermediate with an EC key": Chain("EC", ("EC",)),
    "intermediate missing": Chain("issuing"),
    "upper intermediate missing": Chain("deep", ("deep",)),
    "by the other realm's CA": Chain("foreign root", ("foreign root",)),
    "by a CA of nobody": Chain("stranger", ("stranger",)),
    "by a CA of the same name": Chain("namesake"),
    "self-signed": Chain(""),
    "intermediate expired": Chain("expired", ("expired",)),
    "intermediate not valid yet": Chain("coming", ("coming",)),
    "by what is no CA": Chain("no CA", ("no CA",)),
    "longer than a CA allows": Chain("below bounded", ("below bounded", "bounded")),
    "intermediate not for certificates": Chain("not for certificates", ("not for certificates",)),
    "intermediate for servers": Chain("for servers", ("for servers",)),
    "intermediate with RSA 1024": Chain("weak", ("weak",)),
    "intermediate signed with SHA-1": Chain("by SHA-1", ("by SHA-1",)),
    "intermediate signed with MD5": Chain("by MD5", ("by MD5",)),
    "no certificate": Chain("", nothing=True),
}
KEYS: Final = ("P-256", "P-384", "RSA 2048", "RSA 3072", "RSA 4096", "Ed25519", "P-521", "RSA 1024", "Ed448")
SIGNATURES: Final = ("SHA-256", "SHA-384", "SHA-512", "RSA-PSS", "SHA-1", "MD5")
USAGES: Final = {
    "clientAuth": Usage(("clientAuth",)),
    "clientAuth and serverAuth": Usage(("clientAuth", "serverAuth")),
    "clientAuth, critical": Usage(("clientAuth",), critical=True),
    "any": Usage(("any",)),
    "none said": Usage(),
    "serverAuth": Usage(("serverAuth",)),
    "codeSigning": Usage(("codeSigning",)),
    "clientAuth and digitalSignature": Usage(("clientAuth",), ("digital_signature",)),
    "clientAuth, but keyEncipherment only": Usage(("clientAuth",), ("key_encipherment",)),
}


class Validity(NamedTuple):
    """When the client's certificate is valid."""

    period: Period


VALIDITIES: Final = {
    "now": Validity("now"),
    "from this second on": Validity("from now"),
    "up to this second": Validity("until now"),
    "not yet": Validity("coming"),
    "no more": Validity("past"),
}


@dataclass(frozen=True)
class Revocation:
    """What a realm's ``crl`` and ``revoked`` have."""

    list_of: Literal["", "issuer", "root", "stranger", "namesake of the issuer"] = ""
    """Whose list there is: ``issuer`` is the client certificate's, with its key."""
    listed: Literal["nothing", "leaf", "issuing", "another"] = "nothing"
    """What the list names; ``another`` is a certificate that nobody presents."""
    reason: Literal["", "certificate_hold"] = ""
    stale: bool = False
    refuse_stale: bool = False
    named: Literal["", "serial of leaf", "fingerprint of leaf", "serial of issuing", "another"] = ""
    realm: str = "acme"
    """Whose inventory has it."""


REVOCATIONS: Final = {
    "nothing": Revocation(),
    "its CA's list, without it": Revocation("issuer", "another"),
    "its CA's list": Revocation("issuer", "leaf"),
    "its CA's list, on hold": Revocation("issuer", "leaf", "certificate_hold"),
    "its CA's stale list": Revocation("issuer", "leaf", stale=True),
    "a stale list without it, accepted": Revocation("issuer", "another", stale=True),
    "a stale list without it, refused": Revocation("issuer", "another", stale=True, refuse_stale=True),
    "its number in a stranger's list": Revocation("stranger", "leaf"),
    "its number in a list that its CA hasn't signed": Revocation("namesake of the issuer", "leaf"),
    "its serial number": Revocation(named="serial of leaf"),
    "its fingerprint": Revocation(named="fingerprint of leaf"),
    "another's serial number": Revocation(named="another"),
    "the intermediate CA, by the realm's CA": Revocation("root", "issuing"),
    "the intermediate CA, by serial number": Revocation(named="serial of issuing"),
    "its CA's list, in the other realm": Revocation("issuer", "leaf", realm="umbrella"),
    "its serial number, in the other realm": Revocation(named="serial of leaf", realm="umbrella"),
}

# ---- what a client asks ----------------------------------------------------------------------------------------------

ROLES: Final = ("consumer", "provider", "both", "none")
PROTOCOLS: Final = ("spn/1", "sc01", "sc01 and spn/1", "an unknown one", "none")


@dataclass(frozen=True)
class Cell:
    """One of the table's cells: a value of each axis. Each axis begins with what is admitted."""

    subject: str = next(iter(SUBJECTS))
    chain: str = next(iter(CHAINS))
    key: str = KEYS[0]
    signature: str = SIGNATURES[0]
    usage: str = next(iter(USAGES))
    validity: str = next(iter(VALIDITIES))
    revocation: str = next(iter(REVOCATIONS))
    role: str = ROLES[0]
    service: str = next(iter(SERVICES))
    realm: str = next(iter(REALMS))
    protocol: str = PROTOCOLS[0]

    def __str__(self) -> str:
        """What differs from the first cell."""
        first = Cell()
        differs = [
            f"{one.name}={getattr(self, one.name)}"
            for one in fields(self)
            if getattr(self, one.name) != getattr(first, one.name)
        ]
        return "; ".join(differs) or "all as it should be"


AXES: Final[dict[str, tuple[str, ...]]] = {
    "subject": tuple(SUBJECTS),
    "chain": tuple(CHAINS),
    "key": KEYS,
    "signature": SIGNATURES,
    "usage": tuple(USAGES),
    "validity": tuple(VALIDITIES),
    "revocation": tuple(REVOCATIONS),
    "role": ROLES,
    "service": tuple(SERVICES),
    "realm": tuple(REALMS),
    "protocol": PROTOCOLS,
}
assert tuple(AXES) == tuple(one.name for one in fields(Cell))


def possible(cell: Cell) -> bool:
    """Whether there is such a certificate: only RSA keys sign with each algorithm."""
    by_rsa = CHAINS[cell.chain].issuer not in {"EC", ""}
    if SUBJECTS[cell.subject].encoding == "invalid UTF-8":
        return by_rsa and cell.signature == "SHA-256"
    return by_rsa or cell.signature in {"SHA-256", "SHA-384", "SHA-512"}
