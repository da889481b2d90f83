"""Settings, addresses and the JSON lines between hub and shipper."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spnhub.events.kafka.settings import (
    KafkaSettings,
    KafkaSettingsError,
    ShipperSettings,
    ShipperStatus,
    parse_kafka_url,
)


@pytest.mark.parametrize(
    ("url", "servers", "topic"),
    [
        ("kafka://localhost:9092/spn.events", "localhost:9092", "spn.events"),
        ("kafka://a.example:9092,b.example:9093/t", "a.example:9092,b.example:9093", "t"),
        ("kafka://[::1]:9092/t_1-x", "[::1]:9092", "t_1-x"),
    ],
)
def test_url(url: str, servers: str, topic: str) -> None:
    """Servers and topic of an address."""
    assert parse_kafka_url(url) == KafkaSettings(bootstrap_servers=servers, topic=topic)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://localhost:9092/t", "'http://localhost:9092/t' doesn't begin with kafka://"),
        ("kafka:///t", "'kafka:///t' names no server: kafka://host:port/topic"),
        ("kafka://localhost:9092", "'kafka://localhost:9092' names no topic: kafka://host:port/topic"),
        ("kafka://localhost:9092/", "'kafka://localhost:9092/' names no topic: kafka://host:port/topic"),
        ("kafka://localhost/t", "'localhost' is not HOST:PORT"),
        ("kafka://localhost:port/t", "'localhost:port' is not HOST:PORT"),
        ("kafka://localhost:70000/t", "port 70000 of 'localhost:70000' is above 65535"),
        ("kafka://a:1,/t", "'' is not HOST:PORT"),
        ("kafka://::1:9092/t", "'::1:9092' is not HOST:PORT"),
        ("kafka://a:1/t/u", "'t/u' is no Kafka topic name: 1 to 249 letters, digits, '.', '_' or '-'"),
        ("kafka://a:1/..", "'..' is no Kafka topic name: 1 to 249 letters, digits, '.', '_' or '-'"),
        (
            "kafka://me:secret@a:1/t",
            "user names and passwords have no place in a kafka:// address; use the settings",
        ),
    ],
)
def test_wrong_url(url: str, complaint: str) -> None:
    """What is wrong is said, and a password isn't repeated."""
    with pytest.raises(KafkaSettingsError) as caught:
        parse_kafka_url(url)
    assert str(caught.value) == complaint


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"security_protocol": "TLS"}, "security_protocol: 'TLS' is none of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        ({"security_protocol": "SASL_SSL"}, "sasl_username is missing (SASL_SSL needs it)"),
        (
            {"security_protocol": "SASL_SSL", "sasl_mechanism": "GSSAPI"},
            "sasl_mechanism: 'GSSAPI' is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512",
        ),
        ({"partitions": 0}, "partitions: 0 is not between 1 and 10000"),
        ({"color": "red"}, "unknown setting color"),
    ],
)
def test_wrong_settings(wrong: dict[str, object], complaint: str) -> None:
    """Settings that cannot be right are refused at once."""
    with pytest.raises(KafkaSettingsError) as caught:
        KafkaSettings.from_dict({"bootstrap_servers": "a:1"} | wrong)
    assert str(caught.value) == complaint


def test_shipper_settings_travel() -> None:
    """One line of JSON, passwords included; they don't show in what is printed."""
    kafka = KafkaSettings(
        bootstrap_servers="a:1",
        security_protocol="SASL_SSL",
        sasl_username="me",
        sasl_password="secret-1",
        ssl_password="secret-2",
    )
    settings = ShipperSettings(journal=Path("/j"), kafka=kafka, drain=3.5)
    line = settings.to_json()
    assert "\n" not in line
    assert ShipperSettings.from_json(line) == settings
    assert "secret" not in repr(settings)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"journal": "/j"}', '{"journal": "/j", "kafka": {}}', '{"x": 1}'])
def test_wrong_shipper_settings(text: str) -> None:
    """Whatever is wrong with the document, it is one kind of error."""
    with pytest.raises(KafkaSettingsError):
        ShipperSettings.from_json(text)


def test_status_travels() -> None:
    """A status as a line and back."""
    status = ShipperStatus(state="refused", position=4, behind=2, sequence=5, reason="too large")
    assert ShipperStatus.from_json(status.to_json()) == status
    with pytest.raises(ValueError, match="not a shipper's status"):
        ShipperStatus.from_json('{"mood": "good"}')


def test_security_from_environment() -> None:
    """Security settings have environment variables named as the hub's."""
    environment = {"SPNHUB_KAFKA_SECURITY_PROTOCOL": "SSL", "SPNHUB_KAFKA_SSL_CAFILE": "/ca", "SPNHUB_KAFKA": "a:1"}
    assert KafkaSettings.security_from(environment) == {"security_protocol": "SSL", "ssl_cafile": Path("/ca")}


@pytest.mark.outside
def test_hub_loads_no_kafka() -> None:
    """The hub's side of the shipper doesn't load aiokafka."""
    code = "import sys, spnhub.events.shipper.process; sys.exit('aiokafka' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
