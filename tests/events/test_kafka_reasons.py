"""Why Kafka can't be had is said, by who writes and who reads, on a real broker with every security protocol.

And never with the password.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import errors

from spnhub.demo.site import free_port
from spnhub.events.kafka.reasons import Complaints, is_lasting, reason_of
from spnhub.events.kafka.settings import KafkaSettings
from spnhub.events.kafka.source import KafkaSource
from spnhub.events.kafka.topic import ensure_topic
from spnhub.events.source import SourceError
from tests.support.command import Command, run
from tests.support.kafka_jars import JarRuntime, JarsMissing
from tests.support.kafka_journal import events, open_journal, read_topic, settings_for, shipping, write
from tests.support.kafka_secured import PASSWORD, USER, SecuredBroker

kafka = [pytest.mark.kafka, pytest.mark.system]


@pytest.fixture(scope="module")
def secured() -> Iterator[SecuredBroker]:
    """A broker that wants to know who one is."""
    try:
        JarRuntime.prepare()
    except JarsMissing as exc:
        pytest.skip(f"no Apache Kafka from jars: {exc}")
    with SecuredBroker() as broker:
        yield broker


@pytest.fixture(autouse=True)
async def _connections_end(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Wait for the end of TLS of each connection that aiokafka closed: a loop that ends before it leaks the socket.

    asyncio closes the socket when the broker's close_notify has come; of a bootstrap connection nobody awaits that.
    """
    loop = asyncio.get_running_loop()
    create, ended = loop.create_connection, []

    async def create_connection(factory: Callable[[], asyncio.Protocol], *args: Any, **kwargs: Any) -> Any:
        end = loop.create_future()

        def make() -> asyncio.Protocol:
            protocol = factory()
            lost = protocol.connection_lost

            def connection_lost(error: Exception | None) -> None:
                lost(error)
                end.set_result(None)

            monkeypatch.setattr(protocol, "connection_lost", connection_lost)
            return protocol

        made = await create(make, *args, **kwargs)
        ended.append(end)
        return made

    monkeypatch.setattr(loop, "create_connection", create_connection)
    yield
    if ended:
        await asyncio.wait(ended, timeout=10)


def settings(broker: SecuredBroker, port: str, topic: str, **other: str | None) -> KafkaSettings:
    """As somebody has set them who wants that listener."""
    given: dict[str, str | None] = {"security_protocol": port}
    if port.startswith("SASL"):
        given |= {"sasl_mechanism": "SCRAM-SHA-256", "sasl_username": USER, "sasl_password": PASSWORD}
    if port.endswith("SSL"):
        given |= {"ssl_cafile": str(broker.ca)}
    given |= {"bootstrap_servers": broker.at(port)} | other
    return KafkaSettings(topic=topic, **given)  # type: ignore[arg-type] # texts only


# What is set wrongly, for which listener, and what must be said; whether it is for people to mend.
WRONG: dict[str, tuple[str, dict[str, str | None], str, bool]] = {
    "password, PLAIN": (
        "SASL_PLAINTEXT",
        {"sasl_mechanism": "PLAIN", "sasl_password": "wrong"},
        "SASL authentication failed: Authentication failed: Invalid username or password",
        True,
    ),
    "password, SCRAM": (
        "SASL_SSL",
        {"sasl_password": "wrong"},
        "SASL authentication failed: Authentication failed during authentication due to invalid credentials",
        True,
    ),
    "user": ("SASL_PLAINTEXT", {"sasl_username": "nobody"}, "SASL authentication failed: ", True),
    "mechanism": (
        "SASL_PLAINTEXT",
        {"sasl_mechanism": "SCRAM-SHA-512"},
        "the broker does not take this SASL mechanism",
        True,
    ),
    "no CA": (
        "SSL",
        {"ssl_cafile": None},
        "the broker's certificate is not accepted: unable to get local issuer certificate",
        True,
    ),
    "plaintext for TLS": ("SSL", {"security_protocol": "PLAINTEXT"}, "this port answers in TLS", True),
    "SASL without TLS for TLS": (
        "SASL_SSL",
        {"security_protocol": "SASL_PLAINTEXT"},
        "this port answers in TLS (security protocol SSL or SASL_SSL)",
        True,
    ),
    "TLS for plaintext": (
        "PLAINTEXT",
        {"security_protocol": "SSL"},
        "the connection was reset (a port without TLS, perhaps)",
        False,
    ),
    "no SASL for SASL": (
        "SASL_PLAINTEXT",
        {"security_protocol": "PLAINTEXT"},
        "the broker closed the connection (it may want TLS or SASL)",
        False,
    ),
    "SASL for no SASL": (
        "PLAINTEXT",
        {"security_protocol": "SASL_PLAINTEXT", "sasl_username": USER, "sasl_password": PASSWORD},
        "this port takes no SASL",
        True,
    ),
    "address that the certificate doesn't have": (
        "SSL",
        {},
        "the broker's certificate is not accepted: IP address mismatch, certificate is not valid for '127.0.0.1'",
        True,
    ),
}


class TestOnABroker:
    """With a broker that wants to know who one is."""

    pytestmark = kafka

    @pytest.mark.parametrize("port", ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
    async def test_all_ways_in_work(self, secured: SecuredBroker, topic: str, port: str, tmp_path: Path) -> None:
        """Ship and read over each listener."""
        with open_journal(tmp_path) as journal:
            written = write(journal, events(20))
            wanted = replace(settings_for(secured, topic, tmp_path), kafka=settings(secured, port, topic))
            async with shipping(wanted) as (_, statuses):
                await statuses.position(20)
        assert [recorded for _, recorded in await read_topic(wanted.kafka)] == written

    @pytest.mark.parametrize("name", WRONG)
    async def test_what_is_wrong_is_said(self, secured: SecuredBroker, topic: str, name: str) -> None:
        """By a reader, which ends; the same text serves who goes on trying."""
        port, other, said, lasting = WRONG[name]
        wanted = settings(secured, port, topic, **other)
        if name.startswith("address"):
            wanted = replace(wanted, bootstrap_servers=f"127.0.0.1:{secured.ports[port]}")
        async with asyncio.timeout(15):
            with pytest.raises(SourceError) as caught:
                async with KafkaSource(wanted):
                    pass
        server = wanted.bootstrap_servers
        assert str(caught.value).startswith(f"kafka://{server}/{topic}: cannot connect to {server}: {said}")
        assert PASSWORD not in str(caught.value)
        cause = caught.value.__cause__
        assert getattr(cause, "lasting", None) is lasting

    async def test_another_ca(self, secured: SecuredBroker, topic: str) -> None:
        """Of another company."""
        with pytest.raises(SourceError, match="certificate is not accepted: unable to get local issuer certificate"):
            async with KafkaSource(settings(secured, "SSL", topic, ssl_cafile=str(secured.other_ca))):
                pass

    async def test_the_shipper_says_it_and_goes_on_when_it_is_mended(
        self, secured: SecuredBroker, topic: str, tmp_path: Path
    ) -> None:
        """Once, however often it tries; another reason is news."""
        wrong = settings(secured, "SASL_PLAINTEXT", topic, sasl_password="wrong")
        with open_journal(tmp_path) as journal:
            write(journal, events(20))
            wanted = replace(settings_for(secured, topic, tmp_path), kafka=wrong, drain=0.1)
            async with shipping(wanted) as (_, statuses):
                said = await statuses.state("unreachable")
                assert said.lasting
                assert "SASL authentication failed" in said.reason
                await asyncio.to_thread(secured.kill)
                refused = await statuses.wait(lambda status: "connection refused" in status.reason)
                assert not refused.lasting
                await asyncio.to_thread(secured.start)
                await statuses.wait(lambda status: status is not said and "SASL auth" in status.reason)
            reasons = [status.reason for status in statuses.seen if status.state == "unreachable"]
            assert all(one != other for one, other in itertools.pairwise(reasons))
            assert PASSWORD not in str(statuses.seen)

    async def test_serve_and_spnlog_say_it(self, secured: SecuredBroker, topic: str) -> None:
        """Serve goes on trying, the others end with status 2."""
        await ensure_topic(settings(secured, "PLAINTEXT", topic))
        source = f"kafka://{secured.at('SASL_SSL')}/{topic}"
        environment = {
            "SPNHUB_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "SPNHUB_KAFKA_SASL_MECHANISM": "PLAIN",
            "SPNHUB_KAFKA_SASL_USERNAME": USER,
            "SPNHUB_KAFKA_SASL_PASSWORD": f"{PASSWORD}!",
            "SPNHUB_KAFKA_SSL_CAFILE": str(secured.ca),
        }
        said = "SASL authentication failed: Authentication failed: Invalid username or password"
        status, out, errors_ = await run("spnlog", "verify", source, env=environment)
        assert (status, out) == (2, "")
        assert errors_ == f"spnlog: {source}: cannot connect to {secured.at('SASL_SSL')}: {said}\n"
        arguments = ("spnlog", "serve", "--json", "--listen", "127.0.0.1:0", source)
        serve = await Command.start("serve", *arguments, env=environment)
        try:
            line = await serve.line("serve.unavailable", level="error")
            assert said in line["reason"]
            assert PASSWORD not in serve.transcript()
        finally:
            await serve.close()


@pytest.mark.outside
async def test_nobody_is_there_and_no_name(topic: str) -> None:
    """What a system's resolver and TCP say; of several servers each."""
    port = free_port(socket.SOCK_STREAM)
    several = f"127.0.0.1:{port},no-such-host.invalid:9092"
    with pytest.raises(SourceError) as caught:
        async with KafkaSource(KafkaSettings(bootstrap_servers=several, topic=topic)):
            pass
    text = str(caught.value)
    assert f"127.0.0.1:{port}: connection refused" in text
    assert "no-such-host.invalid:9092: its name can't be resolved" in text


def test_words() -> None:
    """One line each, whatever the library makes of it."""
    closed = errors.KafkaConnectionError("Connection at x:1 closed")
    assert reason_of(closed) == "the broker closed the connection (it may want TLS or SASL)"
    closed.__cause__ = ConnectionResetError()
    assert reason_of(closed).startswith("the connection was reset")
    assert reason_of(errors.TopicAuthorizationFailedError("spn.events")).startswith("not allowed: [Error 29]")
    assert is_lasting(errors.TopicAuthorizationFailedError("spn.events"))
    assert reason_of(errors.MessageSizeTooLargeError()) == "[Error 10] MessageSizeTooLargeError"
    assert reason_of(TimeoutError()) == "no answer in time"
    assert (
        reason_of(socket.gaierror(-2, "Name or service not known"))
        == "its name can't be resolved: Name or service not known"
    )
    assert not is_lasting(ConnectionRefusedError())
    assert len(reason_of(errors.SaslAuthenticationFailed("x\n" * 1000))) <= 300


def test_a_node_that_is_not_named() -> None:
    """Nothing stands before a colon; what follows from another fault isn't said beside it."""
    heard = Complaints()
    log = logging.getLogger("aiokafka.client")
    try:
        log.error("Unable to update metadata: %s", errors.NodeNotReadyError("node is not ready"))
        assert heard.text == "NodeNotReadyError: node is not ready"
        log.error("Failed to connect to node %s: %s", 1, ConnectionRefusedError())
        assert heard.text == "node 1: connection refused"
    finally:
        heard.remove()


@pytest.mark.outside
async def test_complaints_of_others_are_not_heard() -> None:
    """Each hears the clients that were started under it."""
    first = Complaints()
    refused = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port(socket.SOCK_STREAM)}")

    async def fails() -> str:
        second = Complaints()
        with pytest.raises(Exception, match="connection refused"):
            await ensure_topic(refused)
        second.remove()
        return second.text

    # The innermost hears it: that of the attempt itself, which tells by what it raises.
    assert await asyncio.create_task(fails()) == ""
    assert first.text == ""
    first.remove()
