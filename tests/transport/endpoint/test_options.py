"""Arguments that can't be used are named, before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from spnhub.events.model import EndPointType
from spnhub.transport.endpoint.api.options import ENDPOINT_LIMITS, EndpointConfig, read_config
from spnhub.transport.errors import ConfigurationError, SpnError

PEM = "-----BEGIN CERTIFICATE-----\n"


def _read(url: str = "https://hub.example:4433", certificate: Any = PEM, key: Any = PEM, **rest: Any) -> EndpointConfig:
    return read_config(EndPointType.PROVIDER, url, "urn:x", certificate, key, None, **rest)


def test_whole_config() -> None:
    """What is made of the arguments; the key stays out of the repr."""
    config = _read("https://Hub.Example./", weight=5, instance_id="one")
    expected = EndpointConfig(
        EndPointType.PROVIDER,
        "hub.example",
        443,
        "urn:x",
        config.source,
        10.0,
        "one",
        5,
        None,
        False,
        ENDPOINT_LIMITS,
        None,
        None,
        30.0,
        60.0,
        4 * 1024 * 1024,
        None,
    )
    assert config == expected
    assert "BEGIN" not in repr(config)


@pytest.mark.parametrize(
    "url",
    [
        "http://hub.example",
        "hub.example:443",
        "https://",
        "https://hub.example/path",
        "https://hub.example:99999",
        "https://user@hub.example",
        "https://hub.example?x=1",
    ],
)
def test_bad_url(url: str) -> None:
    """Only https://fqdn:port."""
    with pytest.raises(ConfigurationError, match="hub_url"):
        _read(url)


@pytest.mark.parametrize("url", ["https://192.0.2.1", "https://[2001:db8::1]:4433"])
def test_address_in_the_url(url: str) -> None:
    """An address selects no hub; the message says what to do."""
    with pytest.raises(ConfigurationError, match="FQDN"):
        _read(url)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"weight": -1}, "weight"),
        ({"instance_id": "x" * 257}, "instance_id"),
        ({"hub_addresses": ["localhost"]}, "hub_addresses"),
        ({"hub_addresses": []}, "hub_addresses"),
        ({"resolver": "dns.example"}, "resolver"),
        ({"resolve_interval": 0}, "resolve_interval"),
        ({"resume_timeout": float("nan")}, "resume_timeout"),
        ({"idle_timeout": float("inf")}, "idle_timeout: inf is not above 0 and at most 604800 seconds"),
        ({"keep_alive": 20}, r"keep_alive: 20 is not at least 0 and below idle_timeout \(20\)"),
        ({"suspect_after": 0}, r"suspect_after: 0 is not above 0 and at most idle_timeout \(20\)"),
        ({"idle_timeout": 1.0, "keep_alive": 0.5}, r"suspect_after: 1.5 is not above 0 and at most idle_timeout \(1\)"),
        ({"probe_timeout": -1}, "probe_timeout: -1 is not above 0"),
        ({"replay_buffer": 1000}, "replay_buffer"),
        ({"replay_budget": -1}, "replay_budget"),
    ],
)
def test_bad_argument_is_named(arguments: dict[str, Any], name: str) -> None:
    """ValueError for who expects one, SpnError for who catches those."""
    with pytest.raises(ConfigurationError, match=name) as caught:
        _read(**arguments)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, SpnError)


@pytest.mark.parametrize("name", ["service_urn", "instance_id"])
@pytest.mark.parametrize("text", ["urn:x\r", "urn:x ", "urn\u200b:x", "\u00a0urn:x"])
def test_what_does_not_show_is_refused(name: str, text: str) -> None:
    """Before a hub says UNKNOWN_SERVICE to what looks like the right name; quoted so that it shows."""
    urn, instance = (text, None) if name == "service_urn" else ("urn:x", text)
    with pytest.raises(ConfigurationError) as caught:
        read_config(EndPointType.PROVIDER, "https://hub.example", urn, PEM, PEM, None, instance_id=instance)
    assert str(caught.value).startswith(name)
    assert repr(text) in str(caught.value)
