"""How the inventory is got: in which order, how patiently, and what is said when it can't be."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from structlog.testing import capture_logs

from spnhub.inventory import InventoryError, InventoryFault, load_inventory
from spnhub.inventory.server import serving
from spnhub.settings import SettingsError
from tests.inventory.documents import Object, hub, realm, service, sound, written
from tests.inventory.scripted import scripted
from tests.system.sizes import report, sizes

pytestmark = pytest.mark.outside

BOMB = "realms:\n- &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"- &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)
"""Ten lines that hold a hundred million parts."""


def api(document: Object, path: str) -> tuple[int, object]:
    """What a sound server answers for a document."""
    objects = document["realms"]
    pieces = path.strip("/").split("/")
    for name, children in zip(pieces[1::2], pieces[2::2], strict=True):
        objects = next(one for one in objects if one["name"] == name)[children]
    return 200, objects


async def test_the_order_of_reading() -> None:
    """R-6.2: all realms, then all hubs, then all services; nothing of realms that are ignored."""
    document = sound()
    document["realms"].insert(1, realm("off", hub("main", "off.test"), disabled=True))
    with scripted(lambda path: api(document, path)) as (url, asked):
        inventory = await load_inventory(url + "/")

    assert [one.name for one in inventory.realms] == ["acme", "beta"]
    assert asked[0] == "/realms"
    assert set(asked[1:3]) == {"/realms/acme/hubs", "/realms/beta/hubs"}
    assert sorted(asked[3:]) == [
        "/realms/acme/hubs/osaka/services",
        "/realms/acme/hubs/tokyo/services",
        "/realms/beta/hubs/main/services",
    ]


async def test_names_are_quoted() -> None:
    """A name that isn't plain ASCII still reaches its path."""
    document = {"realms": [realm("acme", hub("東京", "tokyo.acme.test", service("web")))]}
    with scripted(lambda path: api(document, unquote(path))) as (url, asked):
        inventory = await load_inventory(url)
    assert asked[-1] == "/realms/acme/hubs/%E6%9D%B1%E4%BA%AC/services"
    assert inventory.realms[0].networks[0].services[0].urn == "urn:chip-in:service:acme:東京:web"


async def test_an_inventory_that_is_away_is_waited_for() -> None:
    """At the start: asked again and again, and each failure is in the log."""
    answers = iter([(503, {"code": 503, "message": "not yet"}), (500, "oops")])
    with scripted(lambda path: next(answers, None) or api(sound(), path)) as (url, _), capture_logs() as lines:
        inventory = await load_inventory(url, attempts=None)
    assert len(inventory.realms) == 2
    assert [(line["event"], line["log_level"], line["attempt"], line["reason"]) for line in lines] == [
        ("inventory.unavailable", "warning", 1, f"{url}/realms: status 503 (not yet)"),
        ("inventory.unavailable", "warning", 2, f"{url}/realms: status 500"),
    ]


async def test_waiting_can_be_cancelled() -> None:
    """A hub that is stopped while it waits for its inventory stops."""
    answered = asyncio.Event()
    loop = asyncio.get_running_loop()

    def answer(path: str) -> tuple[int, object]:
        loop.call_soon_threadsafe(answered.set)
        return 503, ""

    with scripted(answer) as (url, _):
        waiting = asyncio.create_task(load_inventory(url, attempts=None))
        await answered.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((401, {"code": 401, "message": "who are you?"}), "/realms: status 401 (who are you?)"),
        ((404, "<html>"), "/realms: status 404"),
        ((200, "<html>"), "/realms: the answer is not JSON: Expecting value"),
        ((200, {"realms": []}), "/realms: the answer is not an array"),
    ],
)
async def test_an_answer_that_cannot_be_used(answer: tuple[int, object], message: str) -> None:
    """Not waited for: the URL and the status are named at once."""
    with scripted(lambda path: answer) as (url, asked), pytest.raises(InventoryError) as caught:
        await load_inventory(url, attempts=None)
    assert str(caught.value) == url + message
    assert asked == ["/realms"]


async def test_nobody_there() -> None:
    """A refused connection names the URL, and not the password in it."""
    with pytest.raises(InventoryError) as caught:
        await load_inventory("http://someone:secret@127.0.0.1:9", attempts=1)
    assert str(caught.value) == "http://127.0.0.1:9/realms: All connection attempts failed"


async def test_a_part_that_cannot_be_had_leaves_the_rest() -> None:
    """One realm's hubs and one hub's services are missing: both are named, everything else works."""
    document = sound()

    def answer(path: str) -> tuple[int, object]:
        if path == "/realms/beta/hubs":
            return 403, {"code": 403, "message": "no"}
        return (200, {}) if path == "/realms/acme/hubs/tokyo/services" else api(document, path)

    with scripted(answer) as (url, _):
        inventory = await load_inventory(url)
    assert [(one.name, [network.name for network in one.networks]) for one in inventory.realms] == [("acme", ["osaka"])]
    assert inventory.faults == (
        InventoryFault(
            "hub acme/tokyo",
            "services",
            f"can't be had: {url}/realms/acme/hubs/tokyo/services: the answer is not an array",
        ),
        InventoryFault("realm beta", "hubs", f"can't be had: {url}/realms/beta/hubs: status 403 (no)"),
    )


async def test_the_token_is_sent(tmp_path: Path) -> None:
    """With it everything, without it status 401."""
    async with serving(written(sound(), tmp_path), token="sesame") as url:
        assert len((await load_inventory(url, "sesame")).realms) == 2
        with pytest.raises(InventoryError, match=r"/realms: status 401 \(a bearer token is needed\)"):
            await load_inventory(url)


async def test_a_file_in_another_encoding(tmp_path: Path) -> None:
    """The line; a byte order mark before UTF-8 is no fault."""
    path = tmp_path / "x.yaml"
    path.write_bytes("realms: []\n# 東京\n# Zürich".encode("utf-8-sig"))
    assert (await load_inventory(path.as_uri())).faults == ()
    path.write_bytes("realms: []\n# Zürich".encode("latin-1"))
    with pytest.raises(InventoryError, match=r"x\.yaml:2: can't be read: it is not UTF-8"):
        await load_inventory(path.as_uri())
    path.write_bytes("realms: []".encode("utf-16"))
    with pytest.raises(InventoryError, match=r"x\.yaml:1: can't be read: it is not UTF-8"):
        await load_inventory(path.as_uri())


@sizes("each", 10, 50)
async def test_thousands_of_services_are_got_fast(tmp_path: Path, each: int) -> None:
    """200 hubs with 10 services each, or 50: 221 requests, over few connections."""
    document = {
        "realms": [
            realm(
                f"r{r}",
                *(
                    hub(f"h{h}", "many.test", *(service(f"s{s}") for s in range(each))) | {"fqdn": f"h{h}.r{r}.test"}
                    for h in range(10)
                ),
                cacert=realm("acme")["cacert"],
            )
            for r in range(20)
        ]
    }
    path = written(document, tmp_path)
    from_file = await load_inventory(path.as_uri())
    async with serving(path) as url:
        begin = time.perf_counter()
        inventory = await load_inventory(url)
        took = time.perf_counter() - begin
    assert inventory == from_file
    assert inventory.faults == ()
    assert sum(len(network.services) for one in inventory.realms for network in one.networks) == 200 * each
    report(services=200 * each, took=f"{took:.2f} s")
    assert took < 15


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.json", "{", ":1: is not JSON: Expecting property name enclosed in double quotes"),
        ("x.json", '{"realms":\n NaN}', ": is not JSON: it holds NaN"),
        ("x.yaml", "realms:\n  - [", ":3: is not YAML: while parsing a flow node: did not find expected node content"),
        ("x.yaml", "realms:\n\t- a", ":2: is not YAML: a tab stands where only blanks may"),
        ("x.yaml", "realms: []\n---\nrealms: []", ":2: is not YAML: it holds more than one document"),
        ("x.yaml", "realms:\n- \x07", ":2: is not YAML: it holds U+0007"),
        ("x.yaml", "realms: &a [*a]", ":1: is part of itself"),
        ("x.yaml", "realms: *a", ":1: is not YAML: found undefined alias"),
        ("x.yaml", BOMB, ":2: aliases repeat more than 100000 parts"),
        ("x.yaml", "realms: {}", ": realms is missing or not an array"),
        ("x.yaml", "Realms: []", ": realms is missing or not an array; 'Realms' is unknown"),
        ("x.yaml", "", ": realms is missing or not an array"),
        ("x.yaml", "!!python/object:os.system []", ":1: has the tag 'tag:yaml.org,2002:python/object:os.system'"),
    ],
)
async def test_a_file_that_is_no_inventory(name: str, text: str, message: str, tmp_path: Path) -> None:
    """The file and what is wrong with it, on one line."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InventoryError) as caught:
        await load_inventory(path.as_uri())
    assert str(caught.value).startswith(f"{path}{message}")
    assert "\n" not in str(caught.value)


async def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Named with what the system says."""
    with pytest.raises(InventoryError, match=r"none\.yaml: can't be read: No such file or directory"):
        await load_inventory((tmp_path / "none.yaml").as_uri())


async def test_yaml_is_the_same_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times stay text; a relative file URL works."""
    document = sound()
    document["realms"][0]["expiredAt"] = "2999-01-01T00:00:00Z"
    text = yaml.safe_dump(document).replace("'2999-01-01T00:00:00Z'", "2999-01-01T00:00:00Z")
    assert "expiredAt: 2999" in text
    (tmp_path / "a b.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert await load_inventory("file:a%20b.yaml") == await load_inventory(written(document, tmp_path).as_uri())


async def test_lists_that_are_no_lists_in_a_file(tmp_path: Path) -> None:
    """What a file has instead of hubs or services is a fault of its owner."""
    document = sound()
    document["realms"][0]["hubs"][0]["services"] = {}
    document["realms"][1]["hubs"] = "none"
    inventory = await load_inventory(written(document, tmp_path).as_uri())
    assert inventory.faults == (
        InventoryFault("hub acme/tokyo", "services", "is not an array"),
        InventoryFault("realm beta", "hubs", "is not an array"),
    )


@pytest.mark.parametrize(
    "url", ["localhost:8080", "ftp://x", "http://", "file://elsewhere/x", "http://x:99999", "file:"]
)
async def test_urls_that_are_none(url: str) -> None:
    """Named before anything is asked."""
    with pytest.raises(SettingsError, match="is not an http, https or file URL"):
        await load_inventory(url)
