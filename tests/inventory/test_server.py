"""The development server: the API of the inventory, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from spnhub.inventory import InventoryError
from spnhub.inventory.server import serving
from spnhub.settings import SettingsError
from tests.inventory.documents import Object, hub, realm, service, sound, written

pytestmark = pytest.mark.outside


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a server that serves the sound inventory."""
    async with serving(written(sound(), tmp_path)) as url, httpx2.AsyncClient(base_url=url) as client:
        yield client


def without(one: Object, *fields: str) -> Object:
    """An object less some fields."""
    return {name: value for name, value in one.items() if name not in fields}


async def get(client: httpx2.AsyncClient, path: str) -> object:
    """What GET answers, which is status 200."""
    response = await client.get(path)
    assert response.status_code == 200
    return response.json()


async def test_collections_and_objects(client: httpx2.AsyncClient) -> None:
    """Each object with its read-only fields and without its children."""
    acme = sound()["realms"][0]
    tokyo = acme["hubs"][0]
    shown_acme = without(acme, "hubs") | {"urn": "urn:chip-in:realm:acme"}
    shown_tokyo = without(tokyo, "services") | {"realm": "acme", "urn": "urn:chip-in:network:acme:tokyo"}
    shown_mail = tokyo["services"][1] | {
        "realm": "acme",
        "hub": "tokyo",
        "urn": "urn:chip-in:service:acme:tokyo:mail",
    }
    realms = await get(client, "/realms")
    assert isinstance(realms, list)
    assert realms[0] == await get(client, "/realms/acme") == shown_acme
    hubs = await get(client, "/realms/acme/hubs")
    assert isinstance(hubs, list)
    assert hubs[0] == await get(client, "/realms/acme/hubs/tokyo") == shown_tokyo
    services = await get(client, "/realms/acme/hubs/tokyo/services")
    assert isinstance(services, list)
    assert services[1] == await get(client, "/realms/acme/hubs/tokyo/services/mail") == shown_mail


async def test_add_update_delete(client: httpx2.AsyncClient) -> None:
    """POST and PUT on the collection, DELETE on the object."""
    path = "/realms/acme/hubs/tokyo/services"
    added = service("ssh", "gate", ("me",))
    urn = {"realm": "acme", "hub": "tokyo", "urn": "urn:chip-in:service:acme:tokyo:ssh"}

    response = await client.post(path, json=added)
    assert (response.status_code, response.json()) == (201, added | urn)
    assert await get(client, f"{path}/ssh") == added | urn

    changed = added | {"provider": "gate-2"}
    response = await client.put(path, json=changed)
    assert (response.status_code, response.json()) == (200, changed | urn)
    assert await get(client, f"{path}/ssh") == changed | urn

    response = await client.delete(f"{path}/ssh")
    assert (response.status_code, response.content) == (204, b"")
    assert (await client.get(f"{path}/ssh")).status_code == 404


async def test_an_update_keeps_the_children(client: httpx2.AsyncClient) -> None:
    """A realm's hubs, a hub's services; what the body brings of them is not taken."""
    response = await client.put("/realms", json=realm("acme", hub("x", "x.test"), title="New"))
    assert response.status_code == 200
    hubs = await get(client, "/realms/acme/hubs")
    assert isinstance(hubs, list)
    assert [one["name"] for one in hubs] == ["tokyo", "osaka"]


async def test_a_new_realm_can_be_filled(client: httpx2.AsyncClient) -> None:
    """Realm, hub, service, one after the other."""
    for path, one in (
        ("/realms", without(realm("new"), "hubs")),
        ("/realms/new/hubs", without(hub("h", "h.new.test"), "services")),
        ("/realms/new/hubs/h/services", service("s")),
    ):
        assert (await client.post(path, json=one)).status_code == 201
    assert (await client.get("/realms/new/hubs/h/services/s")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("GET", "/realms/none", None, 404, "no realm none"),
        ("GET", "/realms/none/hubs", None, 404, "no realm none"),
        ("GET", "/realms/acme/hubs/none/services", None, 404, "no hub none"),
        ("DELETE", "/realms/acme/hubs/none", None, 404, "no hub none"),
        ("PUT", "/realms/acme/hubs/tokyo/services", service("none"), 404, "no service none"),
        ("POST", "/realms/acme/hubs/tokyo/services", service("web"), 400, "service web exists"),
        ("POST", "/realms", [], 400, "the body is not an object"),
        ("POST", "/realms", "{", 400, "the body is not JSON"),
        ("POST", "/realms/acme/hubs/tokyo/services", {"name": "s"}, 422, "service s: title is missing; "),
        ("POST", "/realms/acme/hubs", {}, 422, "hub #3: name is missing; "),
        ("PUT", "/realms", {"name": "master"}, 422, 'realm master: name is "master", which is reserved; '),
        (
            "POST",
            "/realms/acme/hubs",
            hub("kyoto", "kyoto.test", serverCertKey=hub("x", "x.test")["serverCertKey"]),
            422,
            "hub kyoto: serverCertKey does not belong to serverCert",
        ),
        ("PATCH", "/realms", {}, 405, "Method Not Allowed"),
        ("GET", "/nowhere", None, 404, "Not Found"),
    ],
)
async def test_refusals(
    client: httpx2.AsyncClient, method: str, path: str, body: object, status: int, message: str
) -> None:
    """400, 404 and 422 with {code, message}; nothing has changed."""
    before = await get(client, "/realms")
    if isinstance(body, str):
        response = await client.request(method, path, content=body)
    else:
        response = await client.request(method, path, json=body)
    answer = response.json()
    assert (response.status_code, answer.keys(), answer["code"]) == (status, {"code", "message"}, status)
    assert answer["message"].startswith(message)
    assert await get(client, "/realms") == before


async def test_a_body_too_large(client: httpx2.AsyncClient) -> None:
    """Refused while it arrives."""
    response = await client.post("/realms", content=b" " * (4 * 1024 * 1024 + 1))
    assert (response.status_code, response.json()["message"]) == (400, "the body is larger than 4194304 bytes")


async def test_the_token(tmp_path: Path) -> None:
    """Every request must bring it, in full."""
    async with serving(written(sound(), tmp_path), "sesame") as url, httpx2.AsyncClient(base_url=url) as client:
        for headers in ({}, {"Authorization": "Bearer sesam"}, {"Authorization": "sesame"}):
            response = await client.get("/realms", headers=headers)
            assert (response.status_code, response.json()) == (
                401,
                {"code": 401, "message": "a bearer token is needed"},
            )
        assert (await client.get("/realms", headers={"Authorization": "Bearer sesame"})).status_code == 200


async def test_the_file_is_read_again_when_it_changed(tmp_path: Path) -> None:
    """A change shows at once; one that can't be read is said until it is mended."""
    path = written(sound(), tmp_path)
    async with serving(path) as url, httpx2.AsyncClient(base_url=url) as client:
        await client.delete("/realms/acme")
        written({"realms": [realm("gamma")]}, tmp_path, "next").replace(path)
        realms = await get(client, "/realms")
        assert isinstance(realms, list)
        assert [one["name"] for one in realms] == ["gamma"]

        path.write_text("{", encoding="utf-8")
        response = await client.get("/realms")
        assert (response.status_code, response.json()["code"]) == (500, 500)
        assert response.json()["message"].startswith(f"{path}:1: is not JSON")

        written(sound(), tmp_path, "next").replace(path)
        assert (await client.get("/realms/acme")).status_code == 200


async def test_an_error_inside_comes_out_as_it_is(tmp_path: Path) -> None:
    """The server around it neither wraps nor swallows it."""
    with pytest.raises(KeyError):
        async with serving(written(sound(), tmp_path)):
            raise KeyError


async def test_what_cannot_be_served(tmp_path: Path) -> None:
    """A file that is no inventory, an address that is taken."""
    with pytest.raises(InventoryError, match="can't be read"):
        async with serving(tmp_path / "none"):
            pass
    path = written(sound(), tmp_path)
    async with serving(path) as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(SettingsError, match=rf"can't listen at 127\.0\.0\.1:{port}: Address already in use"):
            async with serving(path, port=port):
                pass
