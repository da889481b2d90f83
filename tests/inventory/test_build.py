"""What comes out of an inventory: definitions for all that is sound, a named fault for all that isn't."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

from spnhub.actors.contract.definitions import NetworkDefinition, RealmDefinition, ServiceDefinition
from spnhub.actors.contract.inventory import Table
from spnhub.events.model import from_datetime
from spnhub.inventory import Inventory, InventoryFault, ListenAddress, Listening, build, load_inventory
from spnhub.inventory.model import AvailabilityManagement, Hub, Realm
from spnhub.inventory.pem import authority_doubts
from spnhub.inventory.server import serving
from spnhub.inventory.source import RawHub, RawRealm, read_file
from spnhub.transport.engine import ServerIdentity
from tests.inventory.documents import Object, authority, hub, realm, server_credentials, service, sound, written
from tests.transport.test_chains import padded
from tests.transport.test_key_kinds import issue, key

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def built(document: object, folder: Path, **how: Any) -> Inventory:
    """Build a document, by way of a file; without the marks that only differences are found by, and warnings."""
    return unmarked(whole(document, folder, **how))


def unmarked(inventory: Inventory) -> Inventory:
    """Without what only differences are found by, and warnings."""
    realms = tuple(
        replace(
            realm,
            client_ca="",
            networks=tuple(replace(network, address="", certificate="") for network in realm.networks),
        )
        for realm in inventory.realms
    )
    return replace(inventory, realms=realms, warnings=())


def whole(document: object, folder: Path, **how: Any) -> Inventory:
    """Build a document, by way of a file."""
    return build(read_file(written(document, folder)), now=NOW, **how)


def identity(realm_name: str, fqdn: str) -> ServerIdentity:
    """What a sound hub is served as."""
    credentials = server_credentials(fqdn)
    return ServerIdentity(
        certificate_chain=credentials.certificate,
        private_key=credentials.key,
        client_ca=authority(realm_name).certificate,
        alpn=("spn/1", "sc01-provider", "sc01-consumer"),
    )


BETA = RealmDefinition(
    name="beta",
    networks=(
        NetworkDefinition(
            urn="urn:chip-in:network:beta:main",
            name="main",
            fqdn="main.beta.test",
            services=(
                ServiceDefinition(
                    urn="urn:chip-in:service:beta:main:web",
                    name="web",
                    provider="b-server",
                    consumers=frozenset({"b-1", "b-2"}),
                ),
            ),
        ),
    ),
)


def listening_beta() -> Listening:
    """Where the other realm's hub is served."""
    return Listening(
        realm="beta",
        network_urn="urn:chip-in:network:beta:main",
        fqdn="main.beta.test",
        address=ListenAddress(None, 443),
        identity=identity("beta", "main.beta.test"),
    )


def test_what_a_reload_compares_is_marked(tmp_path: Path) -> None:
    """Addresses, server certificates and CAs are in the definitions as texts and digests, so that a change shows."""
    before, again = whole(sound(), tmp_path), whole(sound(), tmp_path)
    bound = whole(sound(), tmp_path, bind="127.0.0.9")
    networks = [network for realm in before.realms for network in realm.networks]
    assert before == again
    assert all(len(network.certificate) == 64 for network in networks)
    assert all(len(realm.client_ca) == 64 for realm in before.realms)
    assert {n.address for r in bound.realms for n in r.networks} != {n.address for n in networks}


def test_a_certificate_that_is_of_no_use_yet_is_a_warning(tmp_path: Path) -> None:
    """The tests' certificates begin later than NOW: everything is served, and somebody is told."""
    inventory = whole(sound(), tmp_path)
    assert inventory.faults == ()
    assert {warning.field for warning in inventory.warnings} == {"serverCert"}


@pytest.mark.parametrize(
    ("kind", "now", "said"),
    [
        ("P-256", 0, []),
        ("RSA 1024", 0, ["has the CA CN=CA with a key of 1024 bits, which can be broken (2048 are the least)"]),
        ("P-256", 10, ["has the CA CN=CA, which expired at "]),
    ],
)
def test_a_ca_at_which_no_chain_can_end_is_a_warning(kind: str, now: int, said: list[str]) -> None:
    """Every handshake of the realm would be refused; ``spnhub check`` says so before."""
    mine = key(kind)
    text = issue("CA", mine, ca=True, by=mine if isinstance(mine, rsa.RSAPrivateKey) else None).decode()
    found = authority_doubts(text, datetime.now(UTC) + timedelta(days=now))
    assert [doubt.startswith(begun) for doubt, begun in zip(found, said, strict=True)] == [True] * len(said)


def test_commands_are_a_fault_unless_they_are_allowed(tmp_path: Path) -> None:
    """``process:`` lets whoever writes the inventory run programs on the hub's host."""
    document = sound()
    document["realms"][0]["hubs"][0]["services"][0]["availabilityManagement"] = {
        "clusterManagerUrn": "process:",
        "serviceId": "x",
        "command": ["true"],
    }
    assert built(document, tmp_path).faults == ()
    faults = built(document, tmp_path, allow_process=False).faults
    assert [fault.field for fault in faults] == ["availabilityManagement.clusterManagerUrn"]


def test_a_sound_inventory_becomes_definitions(tmp_path: Path) -> None:
    """Every realm, hub and service, where it is served and as whom."""
    tokyo = "urn:chip-in:network:acme:tokyo"
    assert built(sound(), tmp_path) == Inventory(
        realms=(
            RealmDefinition(
                name="acme",
                networks=(
                    NetworkDefinition(
                        urn=tokyo,
                        name="tokyo",
                        fqdn="tokyo.acme.test",
                        services=(
                            ServiceDefinition(
                                urn="urn:chip-in:service:acme:tokyo:web",
                                name="web",
                                provider="server",
                                consumers=frozenset({"client"}),
                            ),
                            ServiceDefinition(
                                urn="urn:chip-in:service:acme:tokyo:mail",
                                name="mail",
                                provider="post",
                                consumers=frozenset(),
                                singleton=True,
                            ),
                        ),
                    ),
                    NetworkDefinition(
                        urn="urn:chip-in:network:acme:osaka", name="osaka", fqdn="osaka.acme.test", services=()
                    ),
                ),
            ),
            BETA,
        ),
        listening=(
            Listening("acme", tokyo, "tokyo.acme.test", ListenAddress(None, 443), identity("acme", "tokyo.acme.test")),
            Listening(
                "acme",
                "urn:chip-in:network:acme:osaka",
                "osaka.acme.test",
                ListenAddress("127.0.0.1", 4433),
                identity("acme", "osaka.acme.test"),
            ),
            listening_beta(),
        ),
        faults=(),
    )


def test_pem_that_went_through_environment_files(tmp_path: Path) -> None:
    """Literal line ends, CRLF and quotes make no difference, not even one that a reload would tell of."""
    plain, other = sound(), sound()
    for one in other["realms"]:
        one["cacert"] = one["cacert"].replace("\n", "\r\n")
        for network in one["hubs"]:
            for name in ("serverCert", "serverCertKey"):
                network[name] = '"' + network[name].replace("\n", "\\n") + '"'
    found = [build(read_file(written(document, tmp_path, name))) for name, document in (("a", plain), ("b", other))]
    assert found[0].faults == found[1].faults == ()
    assert found[0].listening == found[1].listening
    assert found[0].realms == found[1].realms


def _served(inventory: Inventory) -> dict[ListenAddress, dict[str, ServerIdentity]]:
    """Who answers to which server name, by address."""
    served: dict[ListenAddress, dict[str, ServerIdentity]] = {}
    for one in inventory.listening:
        served.setdefault(one.address, {})[one.fqdn] = one.identity
    return served


def test_identities_are_per_address(tmp_path: Path) -> None:
    """Hubs of several realms share one address and port; the server name tells them apart."""
    assert _served(built(sound(), tmp_path)) == {
        ListenAddress(None, 443): {
            "tokyo.acme.test": identity("acme", "tokyo.acme.test"),
            "main.beta.test": identity("beta", "main.beta.test"),
        },
        ListenAddress("127.0.0.1", 4433): {"osaka.acme.test": identity("acme", "osaka.acme.test")},
    }


def test_bind_overrides_every_address(tmp_path: Path) -> None:
    """Several hub processes on one host: --bind wins over serverAddress."""
    inventory = built(sound(), tmp_path, bind="127.0.0.9")
    assert set(_served(inventory)) == {ListenAddress("127.0.0.9", 443), ListenAddress("127.0.0.9", 4433)}


# What is done to acme, and the faults that must be named. beta must work on, whatever it is.
Break = Callable[[Object], object]


def _key_pem(key: dsa.DSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None) -> str:
    encryption = serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()


def _tokyo(field: str, value: object) -> Break:
    return lambda acme: acme["hubs"][0].__setitem__(field, value)


def _web(field: str, value: object) -> Break:
    return lambda acme: acme["hubs"][0]["services"][0].__setitem__(field, value)


TOKYO, WEB = "hub acme/tokyo", "service acme/tokyo/web"
BROKEN: dict[str, tuple[Break, list[InventoryFault]]] = {
    "realm without cacert": (lambda acme: acme.pop("cacert"), [InventoryFault("realm acme", "cacert", "is missing")]),
    "realm with a null title": (
        lambda acme: acme.__setitem__("title", None),
        [InventoryFault("realm acme", "title", "is missing")],
    ),
    "realm without device keys": (
        lambda acme: [acme.pop("deviceIDSigningKey"), acme.pop("deviceIDVerificationKey")],
        [
            InventoryFault("realm acme", "deviceIDSigningKey", "is missing"),
            InventoryFault("realm acme", "deviceIDVerificationKey", "is missing"),
        ],
    ),
    "realm with a bad cacert": (
        lambda acme: acme.__setitem__("cacert", acme["cacert"].replace("M", "N", 3)),
        [InventoryFault("realm acme", "cacert", "holds a PEM certificate that can't be parsed")],
    ),
    "realm with a bad name": (
        lambda acme: acme.__setitem__("name", "Acme_1"),
        [InventoryFault("realm Acme_1", "name", "does not match ^[a-z0-9][a-z0-9-]*$: 'Acme_1'")],
    ),
    "realm with the reserved name": (
        lambda acme: acme.__setitem__("name", "master"),
        [InventoryFault("realm master", "name", 'is "master", which is reserved')],
    ),
    "realm with a bad expiredAt": (
        lambda acme: acme.__setitem__("expiredAt", "next year"),
        [InventoryFault("realm acme", "expiredAt", "is not an ISO 8601 time: 'next year'")],
    ),
    "realm with disabled as text": (
        lambda acme: acme.__setitem__("disabled", "false"),
        [InventoryFault("realm acme", "disabled", "is not true or false")],
    ),
    "hub without fqdn": (lambda acme: acme["hubs"][0].pop("fqdn"), [InventoryFault(TOKYO, "fqdn", "is missing")]),
    "hub without a name": (
        lambda acme: acme["hubs"][0].pop("name"),
        [InventoryFault("hub acme/#1", "name", "is missing")],
    ),
    "hub with an address as fqdn": (
        _tokyo("fqdn", "192.0.2.1"),
        [InventoryFault(TOKYO, "fqdn", "is an address: TLS clients send no SNI for one (D-19)")],
    ),
    "hub with a certificate that is text": (
        _tokyo("serverCert", "hello"),
        [InventoryFault(TOKYO, "serverCert", "is not a PEM certificate")],
    ),
    "hub with a chain beyond the bound": (
        _tokyo("serverCert", padded(70_000)[0].chain.decode()),
        [InventoryFault(TOKYO, "serverCert", "takes 70000 bytes in a handshake with its chain; the bound is 65531")],
    ),
    "hub with a certificate that is cut short": (
        _tokyo("serverCert", authority("acme").certificate.decode()[:200]),
        [InventoryFault(TOKYO, "serverCert", "holds a PEM block that is cut short")],
    ),
    "hub with another hub's key": (
        lambda acme: acme["hubs"][0].__setitem__("serverCertKey", acme["hubs"][1]["serverCertKey"]),
        [InventoryFault(TOKYO, "serverCertKey", "does not belong to serverCert")],
    ),
    "hub with a key that is no key": (
        _tokyo("serverCertKey", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"),
        [InventoryFault(TOKYO, "serverCertKey", "is not a PEM private key")],
    ),
    "hub with an encrypted key": (
        _tokyo("serverCertKey", _key_pem(ec.generate_private_key(ec.SECP256R1()), b"password")),
        [InventoryFault(TOKYO, "serverCertKey", "is an encrypted private key")],
    ),
    "hub with a key on another curve": (
        _tokyo("serverCertKey", _key_pem(ec.generate_private_key(ec.SECP521R1()))),
        [
            InventoryFault(
                TOKYO,
                "serverCertKey",
                "is a key on the curve secp521r1, which TLS can't use here (P-256 and P-384 can be)",
            )
        ],
    ),
    "hub with a port too high": (_tokyo("serverPort", 65536), [InventoryFault(TOKYO, "serverPort", "is above 65535")]),
    "hub with port 0": (_tokyo("serverPort", 0), [InventoryFault(TOKYO, "serverPort", "is below 1")]),
    "hub with a port as text": (
        _tokyo("serverPort", "443"),
        [InventoryFault(TOKYO, "serverPort", "is not a whole number")],
    ),
    "hub with a name as address": (
        _tokyo("serverAddress", "localhost"),
        [InventoryFault(TOKYO, "serverAddress", "is not an IP address: 'localhost'")],
    ),
    "two hubs of one name": (
        lambda acme: acme["hubs"].append(hub("tokyo", "tokyo-2.acme.test")),
        [InventoryFault(TOKYO, "name", "is used more than once; the first keeps it")],
    ),
    "two hubs of one fqdn on one address": (
        lambda acme: acme["hubs"].append(hub("kyoto", "Tokyo.Acme.Test.", serverAddress="127.0.0.1")),
        [InventoryFault("hub acme/kyoto", "fqdn", "is that of hub acme/tokyo, on the same address and port")],
    ),
    "hub without a name, and what is below it": (
        lambda acme: [acme["hubs"][0].pop("name"), acme["hubs"][0]["services"][0].pop("provider")],
        [InventoryFault("hub acme/#1", "name", "is missing")],
    ),
    "hub that is no object": (
        lambda acme: acme["hubs"].__setitem__(0, "tokyo"),
        [InventoryFault("hub acme/#1", "", "is not an object")],
    ),
    "service without provider": (
        lambda acme: acme["hubs"][0]["services"][0].pop("provider"),
        [InventoryFault(WEB, "provider", "is missing")],
    ),
    "service with an empty provider": (_web("provider", ""), [InventoryFault(WEB, "provider", "is empty")]),
    "service with consumers as text": (
        _web("consumers", "client"),
        [InventoryFault(WEB, "consumers", "is not an array")],
    ),
    "service with a number as consumer": (
        _web("consumers", ["a", 7]),
        [InventoryFault(WEB, "consumers.1", "is not a string")],
    ),
    "service with a colon in its name": (
        _web("name", "web:1"),
        [
            InventoryFault(
                "service acme/tokyo/web:1", "name", "is empty or holds a character that can't be part of a URN: 'web:1'"
            )
        ],
    ),
    "two services of one name": (
        lambda acme: acme["hubs"][0]["services"].append(service("web", "other")),
        [InventoryFault(WEB, "name", "is used more than once; the first keeps it")],
    ),
    "service with bad availability management": (
        _web(
            "availabilityManagement",
            {
                "clusterManagerUrn": "docker:",
                "command": [1],
                "mountPoints": [{"volumeSize": 101, "target": "/data"}],
                "startAt": "0 22 * * *",
            },
        ),
        [
            InventoryFault(WEB, "availabilityManagement.serviceId", "is missing"),
            InventoryFault(WEB, "availabilityManagement.command", "is neither a string nor an array of strings"),
            InventoryFault(WEB, "availabilityManagement.mountPoints.0.volumeSize", "is above 100"),
            InventoryFault(
                WEB,
                "availabilityManagement.startAt",
                "schedule: has 5 fields instead of six: minute, hour, day of month, month, day of week, year",
            ),
        ],
    ),
    "several faults at once": (
        lambda acme: [
            acme.pop("title"),
            acme["hubs"][0].pop("serverCert"),
            acme["hubs"][0]["services"][1].pop("consumers"),
        ],
        [
            InventoryFault("realm acme", "title", "is missing"),
            InventoryFault(TOKYO, "serverCert", "is missing"),
            InventoryFault("service acme/tokyo/mail", "consumers", "is missing"),
        ],
    ),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Path, str]]:
    """A file and the URL of the server that serves it; the server reads it anew when a test replaces it."""
    path = written(sound(), tmp_path_factory.mktemp("served"))
    async with serving(path) as url:
        yield path, url


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.outside
async def test_each_fault_is_named_and_the_other_realm_works(name: str, served: tuple[Path, str]) -> None:
    """The realm, hub or service and the field; the same from the file and over HTTP."""
    path, url = served
    document = sound()
    damage, faults = BROKEN[name]
    damage(document["realms"][0])
    written(document, path.parent, "next").replace(path)

    from_file = unmarked(await load_inventory(path.as_uri()))
    over_http = unmarked(await load_inventory(url))

    assert list(from_file.faults) == faults
    assert from_file == over_http
    assert from_file.realms[-1] == BETA
    assert from_file.listening[-1] == listening_beta()


def test_a_fault_costs_the_smallest_part(tmp_path: Path) -> None:
    """A faulty service leaves its hub, a faulty hub its realm."""
    document = sound()
    tokyo = document["realms"][0]["hubs"][0]
    tokyo["services"][0]["provider"] = 7
    inventory = built(document, tmp_path)
    assert [s.name for s in inventory.realms[0].networks[0].services] == ["mail"]

    tokyo["fqdn"] = "-"
    inventory = built(document, tmp_path)
    assert [n.name for n in inventory.realms[0].networks] == ["osaka"]
    assert [one.fqdn for one in inventory.listening] == ["osaka.acme.test", "main.beta.test"]


@pytest.mark.parametrize(
    "more",
    [
        {"disabled": True},
        {"expiredAt": "2025-12-02T23:59:59Z"},
        {"expiredAt": "2025-12-03"},
        {"expiredAt": "2025-12-03T08:59:59+09:00"},
        {"disabled": True, "cacert": "broken", "expiredAt": "broken"},
    ],
)
def test_disabled_and_expired_realms_are_ignored(more: Object, tmp_path: Path) -> None:
    """R-6.2: neither served nor judged."""
    document = {"realms": [realm("acme", hub("tokyo", "tokyo.acme.test"), **more), sound()["realms"][1]]}
    assert built(document, tmp_path) == Inventory(realms=(BETA,), listening=(listening_beta(),))


@pytest.mark.parametrize("when", ["2026-01-01T23:59:59Z", "2026-01-02", "2025-12-03T00:00:01Z"])
def test_realms_that_have_just_expired_keep_their_names(when: str, tmp_path: Path) -> None:
    """For 30 days their endpoints are told so, and not that nobody knows the name, which would end them for good."""
    document = {"realms": [realm("acme", hub("tokyo", "tokyo.acme.test"), expiredAt=when), sound()["realms"][1]]}
    inventory = built(document, tmp_path)
    assert [one.fqdn for one in inventory.listening] == ["tokyo.acme.test", "main.beta.test"]
    table = Table.of(inventory.realms, from_datetime(NOW))
    assert (list(table.realms), list(table.expired)) == (["beta"], ["acme"])


def test_a_realm_works_until_it_expires(tmp_path: Path) -> None:
    """expiredAt in the future is no fault, and disables nothing."""
    document = {"realms": [sound()["realms"][1] | {"expiredAt": "2026-01-02T00:00:01Z"}]}
    expiring = replace(BETA, expired_at=from_datetime(datetime(2026, 1, 2, 0, 0, 1, tzinfo=UTC)))
    assert built(document, tmp_path) == Inventory(realms=(expiring,), listening=(listening_beta(),))


def test_a_realm_has_a_limit_of_sessions(tmp_path: Path) -> None:
    """maxSessions reaches the actors' definition; 0 and anything but a number are faults that name the field."""
    document = {"realms": [sound()["realms"][1] | {"maxSessions": 7}]}
    assert built(document, tmp_path).realms == (replace(BETA, max_sessions=7),)
    for wrong in (0, "7", 1.5):
        document = {"realms": [sound()["realms"][1] | {"maxSessions": wrong}]}
        (fault,) = built(document, tmp_path).faults
        assert (fault.where, fault.field) == ("realm beta", "maxSessions")


def test_a_realm_has_a_limit_of_handshakes(tmp_path: Path) -> None:
    """maxHandshakes reaches the actors' definition, for differences, and the engine by each hub's identity."""
    document = {"realms": [realm("acme", hub("a", "a.acme.test"), hub("b", "b.acme.test"), maxHandshakes=8)]}
    document["realms"].append(sound()["realms"][1])
    inventory = built(document, tmp_path)
    assert {one.name: one.max_handshakes for one in inventory.realms} == {"acme": 8, "beta": None}
    places = {one.fqdn: one.identity.max_handshakes for one in inventory.listening}
    assert places == {"a.acme.test": 8, "b.acme.test": 8, "main.beta.test": None}
    document["realms"][0]["maxHandshakes"] = 7
    (fault,) = built(document, tmp_path).faults
    assert (fault.where, fault.field) == ("realm acme", "maxHandshakes")


def test_one_fqdn_on_two_addresses_is_no_fault(tmp_path: Path) -> None:
    """Only where both would be asked for the same name."""
    fqdn = "tokyo.acme.test"
    hubs = [
        hub("a", fqdn, serverAddress="127.0.0.1"),
        hub("b", fqdn, serverAddress="127.0.0.2"),
        hub("c", fqdn, serverAddress="::1"),
        hub("d", fqdn, serverPort=444),
    ]
    assert built({"realms": [realm("acme", *hubs)]}, tmp_path).faults == ()
    assert built({"realms": [realm("acme", *hubs)]}, tmp_path, bind="127.0.0.1").faults == (
        InventoryFault("hub acme/b", "fqdn", "is that of hub acme/a, on the same address and port"),
        InventoryFault("hub acme/c", "fqdn", "is that of hub acme/a, on the same address and port"),
    )


def test_a_realm_cannot_take_another_realms_fqdn(tmp_path: Path) -> None:
    """The first keeps it, and works on."""
    document = {"realms": [sound()["realms"][1], realm("thief", hub("main", "main.beta.test"))]}
    inventory = built(document, tmp_path)
    assert inventory.faults == (
        InventoryFault("hub thief/main", "fqdn", "is that of hub beta/main, on the same address and port"),
    )
    assert inventory.listening == (listening_beta(),)


def test_unknown_and_null_fields_of_the_api_are_no_faults(tmp_path: Path) -> None:
    """It grows; null is the same as absent. What is unknown is listed once, whatever has it."""
    document = sound()
    acme = document["realms"][0]
    acme |= {"colour": "blue", "expiredAt": None, "description": None}
    acme["hubs"][0] |= {"serverPort": None, "serverAddress": None, "tags": [], "urn": "x", "realm": "x"}
    acme["hubs"][0]["services"][0] |= {"singleton": None, "availabilityManagement": None, "next": {}}
    acme["hubs"][0]["services"][1] |= {"next": 1, "no shape": {}}
    raw = [RawRealm(one, [RawHub(each, each["services"]) for each in one["hubs"]]) for one in document["realms"]]
    found = unmarked(build(raw, now=NOW))
    assert found.unknown == ("realm.colour", "hub.tags", "service.next", "service.'no shape'")
    assert replace(found, unknown=()) == built(sound(), tmp_path)


def test_availability_management_has_every_field() -> None:
    """As the API describes it."""
    given = {
        "clusterManagerUrn": "k8s:production",
        "serviceId": "web",
        "description": "x",
        "image": "web:1",
        "command": ["serve", "--all"],
        "options": ["a"],
        "env": {"PASSWORD": "hidden"},
        "mountPoints": [{"volumeSize": 10, "target": "/data"}],
        "startAt": "0 8 ? * MON-FRI *",
        "stopAt": "0 22 ? * SUN-THU *",
        "idleTimeout": 600,
        "ondemandStart": False,
        "ondemandStartOnConsumer": True,
        "ondemandStartOnPayload": False,
    }
    assert AvailabilityManagement.model_validate(given).model_dump(by_alias=True) == given


def test_no_key_in_a_repr(tmp_path: Path) -> None:
    """Not of the models, nor of what is made of them."""
    document = sound()["realms"][0]
    of_realm = repr(Realm.model_validate(document))
    of_hub = repr(Hub.model_validate(document["hubs"][0]))
    of_inventory = repr(built(sound(), tmp_path)) + repr(read_file(written(sound(), tmp_path)))
    assert "secret" not in of_realm
    assert "PRIVATE KEY" not in of_hub + of_inventory


@pytest.mark.parametrize(
    "damage", ["not PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", json.dumps("\udc80")]
)
def test_a_fault_never_quotes_the_value(damage: str, tmp_path: Path) -> None:
    """A key pasted into the wrong field must not come out in a message."""
    secret = server_credentials("tokyo.acme.test").key.decode()
    document = sound()
    tokyo = document["realms"][0]["hubs"][0]
    tokyo |= {"serverCert": secret, "fqdn": secret, "serverAddress": secret, "serverPort": secret, "title": [secret]}
    tokyo["serverCertKey"] = damage
    document["realms"][0] |= {"cacert": damage, "disabled": secret, "expiredAt": secret}
    body = secret.splitlines()[1]
    faults = built(document, tmp_path).faults
    assert len(faults) == 9
    assert body not in "".join(map(str, faults))
