"""The demo's story: what is done, step by step, and what the log must say of it.

Everything is real: processes, certificates, QUIC, TCP. Only the TCP programs at both ends run in the demo's own
process, so that it can count their bytes. Counterparts: the other modules of this package.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from spnhub.dataclass import dataclass
from spnhub.demo.display import Display
from spnhub.demo.programs import DemoFailed, Program, Programs, run_to_end
from spnhub.demo.site import HUB_ID, DemoService, Site
from spnhub.demo.traffic import MESSAGE, PAGE, Counted, MailServer, WebServer, fetch, send_mail
from spnhub.events.journal.files import JournalError
from spnhub.events.journal.reader import JournalSource
from spnhub.events.model import (
    ConnectionEnded,
    EndPointType,
    Event,
    Recorded,
    SessionEnded,
    SessionRefused,
    SessionStarted,
)
from spnhub.pki import Authority, IssuedCredentials
from spnhub.streams import ReaderLeft
from spnhub.version import VERSION

__all__ = ["run"]

MIB: Final = 1024 * 1024
DOWNLOAD: Final = 4 * MIB
"""Bytes."""
_EVENT_TIMEOUT: Final = 30.0
"""Seconds for an event that must come."""
_TRAFFIC_TIMEOUT: Final = 60.0
"""Seconds for one conversation."""

_DRAWING: Final = """
     TCP client --> consumer agent ==QUIC==> hub <==QUIC== provider agent --> TCP server
                                              |
                                              +--> event journal --> spnlog
"""


class Events:
    """Follows the hub's journal, shows each event, and lets the story wait for one."""

    def __init__(self, journal: Path, display: Display) -> None:
        self.seen: list[Recorded] = []
        self._journal = journal
        self._display = display
        self._news = asyncio.Event()
        self._following = asyncio.create_task(self._follow())
        self._following.add_done_callback(lambda _: self._news.set())

    async def close(self) -> None:
        """Follow no longer."""
        await _cancel(self._following)

    async def _follow(self) -> None:
        async with JournalSource(self._journal) as source:
            async for _, recorded in source.records(follow=True):
                self._display.event(recorded)
                self.seen.append(recorded)
                self._news.set()

    async def wait(self, what: str, fits: Callable[[Event], bool], *, after: int = 0, count: int = 1) -> list[Recorded]:
        """The first ``count`` events behind the first ``after`` ones that fit.

        :raises DemoFailed: they didn't come; ``what`` names them.
        """
        try:
            async with asyncio.timeout(_EVENT_TIMEOUT):
                while True:
                    found = [recorded for recorded in self.seen[after:] if fits(recorded.event)]
                    if len(found) >= count:
                        return found[:count]
                    if self._following.done():
                        await self._following
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise DemoFailed(f"the log does not show {what} within {_EVENT_TIMEOUT:g} s.") from None
        except JournalError as error:
            raise DemoFailed(f"the log can't be read: {error}.") from error


@dataclass(frozen=True, slots=True)
class DemoConversation:
    """One conversation as counted at the sockets, and where the log tells of it."""

    name: str
    counted: Counted
    uid: str


def run(once: bool) -> int:
    """Tell the story; the exit status.

    :param once: end by itself, instead of leaving the network up until Ctrl-C.
    """
    display = Display()
    try:
        return asyncio.run(_main(once, display))
    except DemoFailed as failure:
        display.failure(str(failure))
    except OSError as error:
        display.failure(f"{error}.")
    except ReaderLeft:
        pass
    return 1


async def _main(once: bool, display: Display) -> int:
    loop = asyncio.get_running_loop()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="spnhub-demo-") as folder:
        async with Programs() as programs:
            story = DemoStory(Path(folder), programs, display)
            telling = asyncio.create_task(story.tell(once))

            def interrupt() -> None:
                if story.can_go_on.is_set():
                    telling.cancel()
                story.can_go_on.set()

            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, interrupt)
            try:
                await telling
            except asyncio.CancelledError:
                display.text("\nInterrupted: what was started is ended, and its folder removed.")
                return 1
    if once:
        display.text(f"\nTo use it yourself: {_beside('spnhub')} demo leaves it up until Ctrl-C.")
    took = time.monotonic() - began
    display.end(f"All was as it should be, and nothing is left running or on disk. ({took:.0f} s)")
    return 0


class DemoStory:
    """The steps. What a step needs of an earlier one is kept here."""

    def __init__(self, folder: Path, programs: Programs, display: Display) -> None:
        self.can_go_on = asyncio.Event()
        """Cleared while the network is the person's: what sets it goes on to the end."""
        self.can_go_on.set()
        self._folder = folder
        self._programs = programs
        self._show = display
        self._web = WebServer(DOWNLOAD)
        self._mail = MailServer()
        self._conversations: list[DemoConversation] = []

    async def tell(self, once: bool) -> None:
        """Everything.

        :raises DemoFailed: something was not as it should be.
        """
        show = self._show
        show.text(f"SPN Hub {VERSION}: two TCP programs meet over a hub, and an event log tells of it.")
        show.text(f"Everything runs on this machine, in {self._folder}, and is gone afterwards.")
        show.text(_DRAWING.rstrip())
        show.step(
            "Certificates and an inventory are made.",
            "Nobody takes part without a certificate, and the inventory says which certificate may do what.",
        )
        site = Site.create(self._folder)
        for service in (site.web, site.mail):
            show.note(
                f"service {service.name:<4}  CN={service.provider} may provide it, CN={service.consumer} may use it"
            )
        async with contextlib.AsyncExitStack() as stack:
            web = await stack.enter_async_context(self._web.serving())
            mail = await stack.enter_async_context(self._mail.serving())
            hub = await self._start_hub(site)
            self._events = Events(site.journal, show)
            stack.push_async_callback(self._events.close)

            agents = await self._start_agents(site, web, mail)
            web_port, mail_port = [await _listening(agent) for agent in agents[2:]]
            await self._page(web_port)
            await self._download(web_port)
            await self._send_mail(mail_port)
            await self._strangers(site)
            if not once:
                await self._hand_over(site, web_port)
            await self._stop(hub, agents)
        await self._tell_from_the_log(site, hub)

    # ---- setting up --------------------------------------------------------------------------------------------

    async def _start_hub(self, site: Site) -> Program:
        show = self._show
        show.step(
            "The hub starts: it reads the inventory over HTTP, and only then takes QUIC packets.",
            "Whatever it decides goes to its event journal before anybody can see the effect.",
        )
        inventory = await self._programs.start(
            "the inventory server", "hub", "inventory", str(site.inventory_file), "--listen", "127.0.0.1:0"
        )
        url = (await inventory.line("inventory.ready"))["url"]
        show.note(f"spnhub inventory   {url} (process {inventory.process.pid})")
        hub = await self._programs.start(
            "the hub",
            "hub",
            *("--inventory", url, "--hub-id", HUB_ID, "--journal", str(site.journal), "--log-format", "json"),
        )
        ready = await hub.line("hub.ready")
        show.note(f"spnhub             UDP {ready['addresses'][0]} (process {hub.process.pid})")
        return hub

    async def _start_agents(self, site: Site, web: tuple[str, int], mail: tuple[str, int]) -> list[Program]:
        show = self._show
        show.step(
            "Agents dial out to the hub, so that ordinary TCP programs take part without a line of code.",
            "The servers' side opens no port to any network. (Rows with | are events, as the journal gets them.)",
        )
        agents = [
            await self._start_agent(
                site, "provider", service, site.credentials[service.provider], f"{server[0]}:{server[1]}"
            )
            for service, server in ((site.web, web), (site.mail, mail))
        ]
        await self._events.wait(
            "both providers' sessions", lambda e: _is_session(e, EndPointType.PROVIDER), count=len(agents)
        )
        agents += [
            await self._start_agent(site, "consumer", service, site.credentials[service.consumer], "127.0.0.1:0")
            for service in (site.web, site.mail)
        ]
        await self._events.wait("both consumers' sessions", lambda e: _is_session(e, EndPointType.CONSUMER), count=2)
        for agent in agents:
            await agent.line("session.established")
        return agents

    async def _start_agent(
        self, site: Site, role: str, service: DemoService, credentials: IssuedCredentials, address: str
    ) -> Program:
        variable = "FORWARD_ADDRESS" if role == "provider" else "BIND_ADDRESS"
        environment = site.agent_environment(service, credentials) | {variable: address, "SPN_LOG_FORMAT": "json"}
        return await self._programs.start(
            f"the {service.name} service's {role} agent", "agent", role, environment=environment
        )

    # ---- traffic -----------------------------------------------------------------------------------------------

    async def _page(self, port: int) -> None:
        self._show.step(
            f"A web client asks the consumer agent's port {port} for a page.",
            "It believes that it talks to a local server; the hub joins its stream to one of the real server's.",
        )
        after = len(self._events.seen)
        status, body, counted = await self._in_time("the page", fetch(("127.0.0.1", port), "/"))
        _must(status == "HTTP/1.1 200 OK" and body == PAGE, f"the page came as {status!r} with {body!r}.")
        await self._note_conversation("page", counted, self._web.finished, after)
        self._show.good(f"{status}: {body.decode().strip()}")

    async def _download(self, port: int) -> None:
        self._show.step(
            f"It downloads {DOWNLOAD // MIB} MiB of random bytes.",
            "Not one may be lost, doubled or changed: the SHA-256 at both ends is compared.",
        )
        after = len(self._events.seen)
        began = time.monotonic()
        status, body, counted = await self._in_time("the download", fetch(("127.0.0.1", port), "/download"))
        seconds = time.monotonic() - began
        digest = hashlib.sha256(body).hexdigest()
        _must(
            status == "HTTP/1.1 200 OK" and digest == self._web.sha256,
            f"the download came as {status!r}, {len(body)} bytes with SHA-256 {digest}, sent was {self._web.sha256}.",
        )
        await self._note_conversation("download", counted, self._web.finished, after)
        self._show.good(f"{len(body):,} bytes in {seconds:.1f} s, the same SHA-256 at both ends: {digest[:16]}...")

    async def _send_mail(self, port: int) -> None:
        show = self._show
        show.step(
            "A mail client connects, and says nothing until the server has greeted it.",
            "Connections open at once, not with the client's first byte; so SMTP, SSH or MySQL work as well.",
        )

        after = len(self._events.seen)
        greeting, counted = await self._in_time("the mail", send_mail(("127.0.0.1", port)))
        await self._note_conversation("mail", counted, self._mail.finished, after)
        _must(greeting.startswith("220 "), f"the mail server's greeting came as {greeting!r}.")
        _must(self._mail.messages == [MESSAGE], f"the mail arrived as {self._mail.messages!r}.")
        show.good(f"the server spoke first ({greeting}), and the mail arrived as it was sent")

    async def _note_conversation(
        self, name: str, counted: Counted, finished: asyncio.Queue[Counted], after: int
    ) -> None:
        """Wait for its end at the server and in the log, and compare the sockets at both ends."""
        at_server = await self._in_time(f"the server's end of the {name}", finished.get())
        _must(
            at_server == counted,
            f"the {name}'s client counted {counted.sent} bytes sent and {counted.received} received, "
            f"its server {at_server.sent} and {at_server.received}.",
        )
        (ended,) = await self._events.wait(
            f"the end of the {name}'s connection", lambda e: isinstance(e, ConnectionEnded), after=after
        )
        assert isinstance(ended.event, ConnectionEnded)
        self._conversations.append(DemoConversation(name, counted, ended.event.connection_uid))

    async def _in_time(self, what: str, doing: Any) -> Any:
        try:
            async with asyncio.timeout(_TRAFFIC_TIMEOUT):
                return await doing
        except TimeoutError:
            raise DemoFailed(f"{what} took longer than {_TRAFFIC_TIMEOUT:g} s.") from None
        except OSError as error:
            raise DemoFailed(f"{what} did not get through: {error}.") from error

    # ---- who doesn't get in ------------------------------------------------------------------------------------

    async def _strangers(self, site: Site) -> None:
        show = self._show
        show.step(
            "Two try what they may not: a CN=web-client of somebody else's CA, and web-client as provider.",
            "TLS refuses the first within the handshake, the inventory the second; the log names both.",
        )
        after = len(self._events.seen)
        forged = Authority.create("Somebody else's CA").client(site.web.consumer)
        known = site.credentials[site.web.consumer]
        strangers = [
            await self._start_agent(site, "consumer", site.web, forged, "127.0.0.1:0"),
            await self._start_agent(site, "provider", site.web, known, "127.0.0.1:9"),
        ]
        refused = await self._events.wait(
            "both refusals", lambda e: isinstance(e, SessionRefused), after=after, count=len(strangers)
        )
        handshakes = [r for r in refused if isinstance(r.event, SessionRefused) and r.event.alert is not None]
        _must(len(handshakes) == 1, f"{len(handshakes)} handshakes were refused, not one.")
        for stranger in strangers:
            status = await self._in_time(f"the end of {stranger.name}", stranger.ended())
            _must(status == 1, f"a stranger's agent ended with status {status}, not 1: {stranger.said}.")
            show.good(f"its agent gave up: {stranger.said.removeprefix('spnagent: ')}")

    # ---- the person's turn -------------------------------------------------------------------------------------

    async def _hand_over(self, site: Site, port: int) -> None:
        show = self._show
        show.step("Now it is yours, until Ctrl-C.", "Your events appear here. In another terminal:")
        show.note(f"curl http://127.0.0.1:{port}/")
        show.note(f"curl http://127.0.0.1:{port}/download | sha256sum    # {self._web.sha256[:16]}...")
        show.note(f"{_beside('spnlog')} tail {site.journal}")
        self.can_go_on.clear()
        waiting = asyncio.create_task(self.can_go_on.wait())
        ending = asyncio.create_task(self._programs.first_end())
        try:
            await asyncio.wait({waiting, ending}, return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                program = ending.result()
                raise DemoFailed(f"{program.name} ended by itself, with status {await program.ended()}: {program.said}")
        finally:
            self.can_go_on.set()
            await _cancel(waiting, ending)

    # ---- the end -----------------------------------------------------------------------------------------------

    async def _stop(self, hub: Program, agents: list[Program]) -> None:
        self._show.step(
            "The hub is stopped as planned (SIGINT): consumers first, then providers, then the hub.",
            'So no client loses its server under its feet, and the log says "shutdown", not "error".',
        )
        after = len(self._events.seen)
        status = await hub.stop(signal.SIGINT)
        _must(status == 0, f"the hub ended with status {status}: {hub.said}.")
        ended = await self._events.wait(
            "the end of every session", lambda e: isinstance(e, SessionEnded), after=after, count=len(agents)
        )
        ends = [r.event for r in ended if isinstance(r.event, SessionEnded)]
        order = [event.end_point_type for event in ends]
        _must(order == sorted(order), "the log does not show the consumers' sessions ending before the providers'.")
        _must({e.terminate_reason for e in ends} == {"shutdown"}, 'a session did not end with the reason "shutdown".')
        for agent in agents:
            status = await agent.stop(signal.SIGINT)
            _must(status == 0, f"{agent.name} ended with status {status}: {agent.said}.")
        self._show.good("the hub and the agents ended with status 0")

    async def _tell_from_the_log(self, site: Site, hub: Program) -> None:
        show = self._show
        show.step(
            "Everything is over; what happened is now read from the log alone.",
            "verify looks for anything missing, doubled or out of place; replay prints the log lines anew.",
        )
        (status, verdict, errors), (replay_status, lines, replay_errors) = await asyncio.gather(
            run_to_end("log", "verify", str(site.journal)), run_to_end("log", "replay", str(site.journal))
        )
        _must(status == 0, f"spnlog verify says: {verdict.strip()} {errors}")
        for line in verdict.strip().splitlines():
            show.note(f"verify: {line}")
        _must(replay_status == 0, f"spnlog replay failed: {replay_errors}")
        replayed: list[dict[str, Any]] = [json.loads(line) for line in lines.splitlines()]
        # "event" and "level" are structlog's own.
        printed = [
            {name: value for name, value in line.items() if name not in {"event", "level"}}
            for line in hub.lines
            if str(line.get("eventType")).endswith(("SpnSession", "SpnConnection"))
        ]
        _must(replayed == printed, "spnlog replay does not print the lines that the hub printed.")
        show.good(f"replay: {len(replayed)} lines, the very ones that the hub printed when it all happened")
        self.compare(self._conversations, replayed)

    def compare(self, conversations: list[DemoConversation], replayed: list[dict[str, Any]]) -> None:
        """The totals of the log beside those of the sockets.

        :raises DemoFailed: they differ, or a connection didn't end in order.
        """
        ends = {line["connectionUid"]: line for line in replayed if line["eventType"] == "endSpnConnection"}
        rows = [("", "sent: socket", "log", "received: socket", "log", "disconnectReason")]
        for one in conversations:
            line = ends.get(one.uid)
            _must(line is not None, f"the log has no end of the {one.name}'s connection.")
            assert line is not None
            logged = Counted(line["totalSentBytes"], line["totalReceiveBytes"])
            sent, received = (f"{one.counted.sent:,}", f"{one.counted.received:,}")
            reason = line["disconnectReason"]
            rows.append((one.name, sent, f"{logged.sent:,}", received, f"{logged.received:,}", reason))
            _must(
                logged == one.counted and reason == "closedByPeer",
                f"the log says {logged.sent} bytes sent, {logged.received} received, {reason} of the {one.name}; "
                f"counted were {one.counted.sent} and {one.counted.received}.",
            )
        self._show.table(rows)
        self._show.good("to the byte, what was counted at the TCP sockets is what the log says")


def _must(holds: bool, otherwise: str) -> None:
    """:raises DemoFailed: it does not hold."""
    if not holds:
        raise DemoFailed(otherwise)


def _is_session(event: Event, end_point_type: EndPointType) -> bool:
    return isinstance(event, SessionStarted) and event.end_point_type is end_point_type


async def _listening(agent: Program) -> int:
    """The port at which a consumer agent listens."""
    return int((await agent.line("agent.listening"))["addresses"][0].rpartition(":")[2])


def _beside(command: str) -> str:
    """How the person calls another of our commands."""
    path = Path(sys.executable).with_name(command)
    return str(path) if path.exists() else command


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
