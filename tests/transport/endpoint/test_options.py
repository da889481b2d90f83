"""Arguments that can't be used are named, before anything is sent."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from spnhub.events.model import EndPointType
from spnhub.options import option_fields
from spnhub.transport.endpoint.api.config import EndpointConfig, read_config
from spnhub.transport.endpoint.options import EndpointKeywords, EndpointOptions, endpoint_options
from spnhub.transport.engine import Limits
from spnhub.transport.errors import ConfigurationError, SpnError

PEM = "-----BEGIN CERTIFICATE-----\n"


def _read(url: str = "https://hub.example:4433", certificate: Any = PEM, key: Any = PEM, **rest: Any) -> EndpointConfig:
    weight = rest.pop("weight", 100)
    options = endpoint_options(None, rest)  # type: ignore[arg-type] # by name
    return read_config(EndPointType.PROVIDER, url, "urn:x", certificate, key, None, options, weight=weight)


def test_whole_config() -> None:
    """What is made of the arguments; the key stays out of the repr."""
    config = _read("https://Hub.Example./", weight=5, instance_id="one")
    expected = EndpointConfig(
        EndPointType.PROVIDER, "hub.example", 443, "urn:x", config.source, "one", 5, EndpointOptions(instance_id="one")
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
        read_config(
            EndPointType.PROVIDER, "https://hub.example", urn, PEM, PEM, None, EndpointOptions(instance_id=instance)
        )
    assert str(caught.value).startswith(name)
    assert repr(text) in str(caught.value)


def test_keywords_are_the_options() -> None:
    """Each option is a keyword, too; those of the engine that are options, and the engine's limits as a whole."""
    own = {field.name for field in dataclasses.fields(EndpointOptions)}
    assert EndpointKeywords.__annotations__.keys() == own | {field.name for field in option_fields(Limits)}
    given: EndpointKeywords = {"resume_timeout": 7.0, "idle_timeout": 9.0, "datagram_size": 1300, "retries": 2}
    made = endpoint_options(EndpointOptions(resume_timeout=5.0, replay_buffer=70_000), given)
    limits = dataclasses.replace(EndpointOptions().limits, idle_timeout=9.0, datagram_size=1300)
    assert made == EndpointOptions(resume_timeout=7.0, replay_buffer=70_000, retries=2, limits=limits)
    assert endpoint_options(None, {}) == EndpointOptions()


def test_limits_bring_sizes() -> None:
    """When a hub is lost is an endpoint's affair, unless that is said, too."""
    made = endpoint_options(None, {"limits": Limits(streams=7, suspect_after=9.0), "idle_timeout": 8.0})
    assert (made.limits.streams, made.limits.suspect_after, made.limits.idle_timeout) == (7, 1.5, 8.0)


def test_a_keyword_that_is_none() -> None:
    """As in any call."""
    with pytest.raises(TypeError, match="an endpoint has no option resume_time"):
        endpoint_options(None, {"resume_time": 7.0})  # type: ignore[typeddict-unknown-key] # that is it
