"""What the agent makes of its options and its environment."""

from __future__ import annotations

import contextlib
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import typer

from spnhub.agent_settings import ConsumerSettings, ProviderSettings
from spnhub.cli.agent import older_hub_url
from spnhub.cli.options import Reader, takes
from spnhub.events.model import EndPointType
from spnhub.options import option_fields
from spnhub.pki import Authority
from spnhub.settings import SettingsError
from spnhub.transport.agent.health import HealthCheck
from spnhub.transport.agent.keep_alive import TcpKeepAlive
from spnhub.transport.endpoint.api.config import read_config
from spnhub.transport.engine import Limits
from spnhub.transport.errors import ConfigurationError
from spnhub.transport.system.socket_address import SocketAddress, TcpAddress, UnixAddress
from tests.transport.test_chains import padded

AUTHORITY = Authority.create()
CLIENT = AUTHORITY.client("alice")
OTHER = AUTHORITY.client("bob")
GIVEN: dict[str, Any] = {
    "hub_url": "https://hub.example:4433",
    "service_urn": "urn:x",
    "certificate": CLIENT.certificate.decode(),
    "certificate_key": CLIENT.key.decode(),
    "trust": AUTHORITY.certificate.decode(),
    "bind_address": "127.0.0.1:8080",
}
SETTINGS = ConsumerSettings(
    hub_url="https://hub.example:4433",
    service_urn="urn:x",
    certificate=CLIENT.certificate.decode(),
    certificate_key=CLIENT.key.decode(),
    trust=AUTHORITY.certificate.decode(),
    bind_address=(TcpAddress("127.0.0.1", 8080),),
)


def load_settings(model: type[ConsumerSettings | ProviderSettings] = ConsumerSettings, **given: Any) -> Any:
    """What flags make of it: those that are None aren't given."""
    flags = {field.name: f"--{field.flag}" for field in option_fields(model)}
    words = [f"{flags[name]}={value}" for name, value in given.items() if value is not None]
    found: list[Any] = []
    app = typer.Typer(add_completion=False, rich_markup_mode=None)

    @app.command()
    @takes(model, "SPN_")
    def command(_: typer.Context, read: Reader[Any]) -> int:
        found.append(read(**older_hub_url()))
        return 0

    typer.main.get_command(app).main(words, standalone_mode=False)
    return found[0]


PROVIDER = {name: value for name, value in GIVEN.items() if name != "bind_address"} | {"forward_address": "tcp:80"}


def test_pem_text() -> None:
    """Certificates may be given as they are."""
    assert load_settings(**GIVEN) == SETTINGS


def test_pem_files(tmp_path: Path) -> None:
    """Or as paths, which stay paths: what is there may change."""
    names = {"certificate": CLIENT.certificate, "certificate_key": CLIENT.key, "trust": AUTHORITY.certificate}
    for name, pem in names.items():
        (tmp_path / name).write_bytes(pem)
    paths: dict[str, Any] = {name: str(tmp_path / name) for name in names}
    assert load_settings(**GIVEN | paths) == replace(SETTINGS, **paths)


def test_a_chain_beyond_the_bound(tmp_path: Path) -> None:
    """Which bound, and what of it."""
    large, root = padded(70_000)
    given: dict[str, Any] = {"certificate": large.chain.decode(), "certificate_key": large.key.decode()}
    with pytest.raises(SettingsError) as caught:
        load_settings(**GIVEN | given)
    assert str(caught.value) == "--certificate takes 70000 bytes in a handshake with its chain; the bound is 65531"
    # What is trusted is never presented, so it has no bound.
    (tmp_path / "bundle").write_bytes(root * 500)
    load_settings(**GIVEN | {"trust": str(tmp_path / "bundle")})


def test_environment_files() -> None:
    """Line ends that have become two characters."""
    names = ("certificate", "certificate_key", "trust")
    given: dict[str, Any] = {name: GIVEN[name].replace("\n", "\\n") for name in names}
    assert load_settings(**GIVEN | given) == replace(SETTINGS, **given)


def test_pem_pipes() -> None:
    """As shells make them for ``<(…)``: what comes out of one is kept, since it comes once."""
    given: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        for name in ("certificate", "certificate_key", "trust"):
            out, into = os.pipe()
            stack.callback(os.close, out)
            os.write(into, GIVEN[name].encode())
            os.close(into)
            given[name] = f"/dev/fd/{out}"
        assert load_settings(**GIVEN | given) == SETTINGS


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":8080", (TcpAddress("", 8080),)),
        ("[::1]:0", (TcpAddress("::1", 0),)),
        ("localhost:8080", (TcpAddress("localhost", 8080),)),
        ("unix:/run/web.sock", (UnixAddress("/run/web.sock"),)),
        (":80, unix:@web,:0,:0", (TcpAddress("", 80), UnixAddress("@web"), TcpAddress("", 0), TcpAddress("", 0))),
    ],
)
def test_bind_address(text: str, address: tuple[SocketAddress, ...]) -> None:
    """Every form that a consumer can listen on, and several."""
    assert load_settings(**GIVEN | {"bind_address": text}) == replace(SETTINGS, bind_address=address)


def test_older_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The older set says the hub in two variables; the port has a default. The URL wins."""
    monkeypatch.setenv("SPN_HUB_HOSTNAME", "old.example")
    assert load_settings(**GIVEN | {"hub_url": None}) == replace(SETTINGS, hub_url="https://old.example:4433")
    monkeypatch.setenv("SPN_HUB_PORT", "443")
    assert load_settings(**GIVEN | {"hub_url": None}) == replace(SETTINGS, hub_url="https://old.example:443")
    assert load_settings(**GIVEN) == SETTINGS


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        (None, None),
        ("", None),
        ("10.0.0.1", ("10.0.0.1",)),
        ("10.0.0.1, 10.0.0.2:8443,[::1]:1", ("10.0.0.1", "10.0.0.2:8443", "[::1]:1")),
    ],
)
def test_hub_addresses(text: str | None, addresses: tuple[str, ...] | None) -> None:
    """D-32: a list that is separated by commas; empty is none."""
    assert load_settings(**GIVEN | {"hub_addresses": text}) == replace(
        SETTINGS, endpoint=replace(SETTINGS.endpoint, hub_addresses=addresses)
    )


def test_dns_and_resume() -> None:
    """What is said is taken; an empty resolver is the system's."""
    given: dict[str, Any] = {
        "resolver": "10.0.0.53:5353",
        "resolve_interval": 0.5,
        "resume_timeout": 3.0,
        "replay_budget": 0,
    }
    assert load_settings(**GIVEN | given) == replace(SETTINGS, endpoint=replace(SETTINGS.endpoint, **given))
    assert load_settings(**GIVEN | {"resolver": ""}) == SETTINGS


def test_tcp_keep_alive() -> None:
    """Three numbers, or off; empty is as if nothing was said."""
    assert load_settings(**GIVEN | {"tcp_keepalive": "5,1,3"}) == replace(SETTINGS, tcp_keepalive=TcpKeepAlive(5, 1, 3))
    assert load_settings(**GIVEN | {"tcp_keepalive": "off"}) == replace(SETTINGS, tcp_keepalive=None)
    assert load_settings(**GIVEN | {"tcp_keepalive": ""}) == SETTINGS


def test_the_certificate_says_the_service_of_sc01() -> None:
    """It may be said all the same; of spn/1 it has to be."""
    settings = load_settings(**GIVEN | {"service_urn": None, "protocol": "sc01"})
    assert settings.service_urn == ""
    assert read_config(EndPointType.CONSUMER, **settings.arguments()).service_urn == ""
    assert load_settings(**GIVEN | {"protocol": "sc01"}).service_urn == SETTINGS.service_urn
    with pytest.raises(ConfigurationError, match="service_urn is empty"):
        read_config(EndPointType.CONSUMER, **SETTINGS.arguments() | {"service_urn": ""})


def test_times_of_noticing() -> None:
    """Each of the four is taken, and reaches the endpoint."""
    given: dict[str, Any] = {"idle_timeout": 6.0, "keep_alive": 0.0, "suspect_after": 0.5, "probe_timeout": 0.1}
    settings = load_settings(**GIVEN | given)
    assert settings == replace(SETTINGS, endpoint=replace(SETTINGS.endpoint, limits=Limits(**given)))
    assert read_config(EndPointType.CONSUMER, **settings.arguments()).options.limits == Limits(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hub_url": None}, r"--hub-url is missing \(environment: SPN_HUB_URL, or SPN_HUB_HOSTNAME\)"),
        ({"hub_url": "http://hub"}, "--hub-url: 'http://hub' is not https://FQDN:PORT"),
        ({"hub_url": "https://hub:x"}, "--hub-url: 'https://hub:x' is not https://FQDN:PORT"),
        ({"service_urn": None}, r"--service-urn is missing \(environment: SPN_SERVICE_URN; the older set"),
        ({"certificate": None}, r"--certificate is missing \(environment: SPN_CERTIFICATE\)"),
        ({"certificate": "/no/such"}, "--certificate: '/no/such' is neither PEM text nor a readable file: No such"),
        ({"certificate": CLIENT.key.decode()}, "--certificate is not a PEM certificate"),
        ({"certificate_key": CLIENT.certificate.decode()}, "--certificate-key is not a PEM private key"),
        (
            {"certificate_key": OTHER.key.decode()},
            "--certificate-key doesn't belong to the certificate of --certif",
        ),
        ({"trust": "/dev/null"}, "--trust: '/dev/null' holds no PEM"),
        ({"certificate_key": "MHcCAQEEI"}, "--certificate-key: the value is neither PEM text nor a readable file"),
        ({"trust": "-----BEGIN CERTIFICATE-----"}, "--trust holds a PEM block that is cut short"),
        ({"bind_address": None}, r"--bind-address is missing \(environment: BIND_ADDRESS\)"),
        ({"bind_address": "8080"}, "--bind-address: '8080' is not HOST:PORT, nor unix:/PATH"),
        ({"bind_address": "unix:web"}, "--bind-address: 'unix:web' is not unix:/PATH, nor unix:@NAME"),
        ({"bind_address": "unix:/" + 107 * "a"}, "--bind-address: the path of .* is longer than 107 bytes"),
        ({"bind_address": ":80,:80"}, "--bind-address: :80 is there twice"),
        ({"forward_address": None}, r"--forward-address is missing \(environment: FORWARD_ADDRESS\)"),
        ({"forward_address": ":80"}, "--forward-address: ':80' is not HOST:PORT"),
        ({"forward_address": "a:0"}, "--forward-address: 'a:0' is not HOST:PORT"),
        ({"weight": -1}, "--weight: -1 is not between 0 and 1000000"),
        ({"drain_timeout": -1.0}, "--drain-timeout: -1 is not between 0 and 604800 seconds"),
        ({"drain_timeout": float("nan")}, "--drain-timeout: nan is not between 0 and 604800 seconds"),
        ({"drain_timeout": float("inf")}, "--drain-timeout: inf is not between 0 and 604800 seconds"),
        ({"replay_buffer": 65535}, "--replay-buffer: 65535 is below 65536 bytes"),
        ({"replay_budget": -1}, "--replay-budget: -1 is below 0 bytes"),
        ({"resume_timeout": 0.0}, "--resume-timeout: 0 is not between 0.1 and 604800 seconds"),
        ({"idle_timeout": 0.0}, "--idle-timeout: 0 is not above 0 and at most 604800 seconds"),
        ({"idle_timeout": 5.0}, r"--keep-alive: 5 is not at least 0 and below --idle-timeout \(5\)"),
        ({"suspect_after": 21.0}, r"--suspect-after: 21 is not above 0 and at most --idle-timeout \(20\)"),
        ({"probe_timeout": 0.0}, r"--probe-timeout: 0 is not above 0 and at most --idle-timeout \(20\)"),
        ({"health_check": "http"}, "--health-check: 'http' is neither tcp nor http:/PATH nor off"),
        ({"health_interval": 0.0}, "--health-interval: 0 is not between 0.1 and 604800 seconds"),
        ({"health_timeout": 1e9}, r"--health-timeout: 1e\+09 is not between 0.1 and 604800 seconds"),
        ({"health_fall": 0}, "--health-fall: 0 is below 1"),
        ({"tcp_keepalive": "60"}, "--tcp-keepalive: '60' is neither IDLE,INTERVAL,COUNT \\(as 60,15,4\\) nor off"),
        ({"tcp_keepalive": "0,1,1"}, "--tcp-keepalive: '0,1,1': seconds are between 1 and 32767"),
        ({"resolve_interval": 0.0}, "--resolve-interval: 0 is not between 0.1 and 604800 seconds"),
        ({"resolver": "dns.example"}, "--resolver: 'dns.example' is not IP, IP:PORT or "),
        ({"hub_addresses": "10.0.0.1,"}, "--hub-addresses: '' is not IP, IP:PORT or "),
        ({"hub_addresses": "10.0.0.1,hub.example"}, "--hub-addresses: 'hub.example' is not IP, IP:PORT or "),
        ({"log_level": "loud"}, "--log-level: 'loud' is none of debug, "),
        ({"log_format": "xml"}, "'xml' is not one of 'json', 'console'"),
    ],
)
def test_unusable(given: dict[str, Any], message: str) -> None:
    """Each fault names its option, and the environment where something is missing."""
    model: type[ConsumerSettings | ProviderSettings] = ConsumerSettings
    base = GIVEN
    if given.keys() & {field.name for field in fields(ProviderSettings)} - {field.name for field in fields(model)}:
        model, base = ProviderSettings, PROVIDER
    with pytest.raises((SettingsError, typer.TyperException), match=message) as failure:
        load_settings(model, **base | given)
    assert "PRIVATE KEY" not in str(failure.value)


def test_a_certificate_is_named_by_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of either generation."""
    monkeypatch.setenv("SPN_AGENT_TRUST_CERTIFICATE_ROOT", "/dev/null")
    said = r"^--trust \(SPN_AGENT_TRUST_CERTIFICATE_ROOT\): '/dev/null' holds no PEM"
    with pytest.raises(SettingsError, match=said):
        load_settings(**GIVEN | {"trust": None})


def test_the_older_url_stands_between_flag_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a matter of the environment; and named where it can't be used."""
    path = tmp_path / "agent.toml"
    path.write_text('hub-url = "https://file.example"\n')
    monkeypatch.setenv("SPN_CONFIG", str(path))
    given = GIVEN | {"hub_url": None}
    assert load_settings(**given).hub_url == "https://file.example"
    monkeypatch.setenv("SPN_HUB_HOSTNAME", "old.example")
    assert load_settings(**given).hub_url == "https://old.example:4433"
    monkeypatch.setenv("SPN_HUB_PORT", "x")
    with pytest.raises(SettingsError, match="SPN_HUB_HOSTNAME, SPN_HUB_PORT: 'https://old"):
        load_settings(**given)


def test_health() -> None:
    """Numbers and what is checked belong together."""
    given = {"health_check": "http:/up", "health_interval": 5, "health_fall": 1}
    assert load_settings(ProviderSettings, **PROVIDER | given).health == HealthCheck(path="/up", interval=5.0, fall=1)
    assert load_settings(ProviderSettings, **PROVIDER | {"health_check": ""}).health is None
