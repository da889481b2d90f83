"""The hub's settings: ranges, lists and what belongs together; each refusal names the option."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spnhub import options
from spnhub.events.kafka.settings import KafkaSettings
from spnhub.hub_settings import HubSettings, default_journal
from spnhub.options import UnusableOption, build, option_fields
from spnhub.transport.engine import Limits

FLAGS = {field.name: f"--{field.flag}" for field in option_fields(HubSettings)}


def refusal(**given: Any) -> str:
    """What is said of values that can't be used."""
    with pytest.raises(UnusableOption) as caught:
        build(HubSettings, given)
    error = caught.value
    return FLAGS[error.name] + error.fault.replace("{other}", FLAGS.get(error.other, ""))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"inventory": "ftp://x"}, "--inventory: 'ftp://x' is not an http, https or file URL"),
        ({"bind": "localhost"}, "--bind: 'localhost' is not an IP address"),
        ({"hub_id": ""}, "--hub-id: '' can't name a hub"),
        ({"journal": Path(__file__)}, f"--journal: {__file__} is not a folder"),
        ({"idle_timeout": 0.0}, "--idle-timeout: 0 is not above 0 and at most 604800 seconds"),
        ({"idle_timeout": float("nan")}, "--idle-timeout: nan is not above 0 and at most 604800 seconds"),
        ({"keep_alive": 20.0}, "--keep-alive: 20 is not at least 0 and below --idle-timeout (20)"),
        ({"keep_alive": -1.0}, "--keep-alive: -1 is not at least 0 and below --idle-timeout (20)"),
        ({"idle_timeout": 2.0, "keep_alive": 1.0}, "--suspect-after: 3 is not above 0 and at most --idle-timeout (2)"),
        ({"suspect_after": 0.0}, "--suspect-after: 0 is not above 0 and at most --idle-timeout (20)"),
        ({"suspect_after": float("nan")}, "--suspect-after: nan is not above 0 and at most --idle-timeout (20)"),
        ({"probe_timeout": 21.0}, "--probe-timeout: 21 is not above 0 and at most --idle-timeout (20)"),
        ({"gone_timeout": 0.0}, "--gone-timeout: 0 is not above 0 and at most 3600 seconds"),
        ({"gone_timeout": float("nan")}, "--gone-timeout: nan is not above 0 and at most 3600 seconds"),
        ({"resume_timeout": -1.0}, "--resume-timeout: -1 is not between 0 and 3600 seconds"),
        ({"return_spread": 3601.0}, "--return-spread: 3601 is not between 0 and 3600 seconds"),
        ({"size": 1000}, "--journal-size: 1000 is below 1M"),
        ({"age": 30.0}, "--journal-age: 30 is below 60 seconds"),
        ({"sync_interval": -1.0}, "--journal-sync: -1 is not between 0 and 3600 seconds"),
        ({"alive_interval": 0.0}, "--alive-interval: 0 is not above 0 and at most 86400 seconds"),
        ({"progress_interval": 0.0}, "--progress-interval: 0 is not above 0 and at most 86400 seconds"),
        ({"datagram_size": 1199}, "--datagram-size: 1199 is not between 1200 and 16383 bytes"),
        ({"datagram_size": 16384}, "--datagram-size: 16384 is not between 1200 and 16383 bytes"),
        ({"log_level": "loud"}, "--log-level: 'loud' is none of debug, info, warning, error, critical"),
        ({"log_format": "xml"}, "--log-format: 'xml' is none of json, console"),
    ],
)
def test_a_value_out_of_range(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Refused, with the option's name."""
    assert refusal(**{"hub_id": "h", "journal": tmp_path} | given) == message


@pytest.mark.parametrize("datagram_size", [1200, 16383])
def test_the_bounds_are_in_range(datagram_size: int, tmp_path: Path) -> None:
    """The smallest and the largest datagram, no keep-alive."""
    HubSettings(hub_id="h", journal=tmp_path / "new", limits=Limits(datagram_size=datagram_size, keep_alive=0))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"security_protocol": "TLS"},
            "--kafka-security-protocol: 'TLS' is none of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL",
        ),
        ({"partitions": 0}, "--topic-partitions: 0 is not between 1 and 10000"),
        ({"replication": 2, "min_insync": 3}, "--topic-min-insync: 3 is above --topic-replication (2)"),
        ({"schema_registry": "registry:8081"}, "--schema-registry: that is not an http or https URL"),
        ({"topic": "a b"}, "--topic: 'a b' is no Kafka topic name: 1 to 249 letters, digits, '.', '_' or '-'"),
        (
            {"security_protocol": "SASL_SSL", "sasl_username": "me", "sasl_password": "x"},
            "--kafka-sasl-mechanism is missing (SASL_SSL needs it)",
        ),
        (
            {"security_protocol": "SASL_SSL", "sasl_mechanism": "MAGIC"},
            "--kafka-sasl-mechanism: 'MAGIC' is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512",
        ),
        (
            {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "me"},
            "--kafka-sasl-password is missing (SASL_SSL needs it)",
        ),
        (
            {"sasl_mechanism": "PLAIN"},
            "--kafka-sasl-mechanism needs --kafka-security-protocol SASL_SSL or SASL_PLAINTEXT, not PLAINTEXT",
        ),
        (
            {"ssl_cafile": Path("ca.pem")},
            "--kafka-ssl-cafile needs --kafka-security-protocol SSL or SASL_SSL, not PLAINTEXT",
        ),
        (
            {"security_protocol": "SSL", "ssl_cafile": Path("/none/ca.pem")},
            "--kafka-ssl-cafile: /none/ca.pem does not exist",
        ),
        (
            {"security_protocol": "SSL", "ssl_keyfile": Path(__file__)},
            "--kafka-ssl-certfile is missing (--kafka-ssl-keyfile needs it)",
        ),
    ],
)
def test_kafka_settings_that_do_not_fit(given: dict[str, Any], message: str) -> None:
    """Refused before anything is connected, with the option's name."""
    assert refusal(bootstrap_servers="localhost:9092", **given) == message


def test_secrets_are_not_in_a_repr(tmp_path: Path) -> None:
    """Neither the token nor a password."""
    kafka = KafkaSettings(
        bootstrap_servers="k:1",
        security_protocol="SASL_SSL",
        sasl_mechanism="PLAIN",
        sasl_username="me",
        sasl_password="sesame",
        ssl_password="sesame",
    )
    assert "sesame" not in repr(HubSettings(hub_id="h", journal=tmp_path, kafka=kafka, inventory_token="sesame"))


def test_lists_of_addresses() -> None:
    """HOST:PORT, IPv6 in brackets, at commas."""
    given = "a:1, [::1]:65535,10.0.0.1:9092"
    assert options.parse_addresses(given) == ("a:1", "[::1]:65535", "10.0.0.1:9092")
    assert options.parse_address("[::1]:0") == ("::1", 0)


@pytest.mark.parametrize(
    "text", ["", "a", "a:", ":1", "a:b", "a:1,", "a:1,,b:2", "::1:80", "a:0", "a:-1", "a b:1", "a:¹"]
)
def test_what_is_no_list_of_addresses(text: str) -> None:
    """Refused, naming the piece."""
    with pytest.raises(ValueError, match=r"^'.*' is not HOST:PORT$"):
        options.parse_addresses(text)


def test_a_port_above_65535() -> None:
    """Says what is wrong with it."""
    with pytest.raises(ValueError, match=r"^port 65536 of 'a:65536' is above 65535$"):
        options.parse_addresses("a:65536")


def test_each_hub_id_has_its_journal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """D-4: below the platform's state folder; an id that is no folder's name needs --journal."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_journal("hub-1").parts[-2:] == ("spnhub", "hub-1")
    with pytest.raises(UnusableOption, match=r"^journal is missing \(--hub-id '\.\./x' can't name a folder\)$"):
        default_journal("../x")


@pytest.mark.parametrize(
    ("text", "seconds", "size"),
    [("0", None, None), ("90", 90, 90), ("2m", 120, None), ("3h", 10_800, None), ("30d", 2_592_000, None)],
)
def test_times_and_sizes(text: str, seconds: int | None, size: int | None) -> None:
    """Plain numbers are seconds and bytes; units of the other kind are named as wrong."""
    assert options.parse_age(text) == seconds
    if text.isdigit():
        assert options.parse_size(text) == size
    else:
        with pytest.raises(ValueError, match="is not a size") as caught:
            options.parse_size(text)
        assert str(caught.value) == f"{text!r} is not a size: bytes, or a number with K, M, G or T"


@pytest.mark.parametrize("text", ["", "G", "1GG", "-1", "1.5G", "1 G", "\u0661"])
def test_what_is_no_size(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match="is not a size"):
        options.parse_size(text)
    assert options.parse_size("4G") == 4 << 30
