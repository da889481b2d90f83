"""An endpoint's certificate, key and trust: read and checked, and read anew while it runs (D-38).

Files may change at any moment, and be half written when they are read. So they are read in a thread of its own, and
again when they don't fit each other. Files that can't be used are reported once, and the last good credentials stay in
use. Slow file systems delay nothing. Counterparts: :mod:`spnhub.transport.pem` reads PEM,
:meth:`spnhub.transport.endpoint.core.endpoint.EndpointCore.renew` puts new ones in place of old ones.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, TypeVar

from spnhub.dataclass import dataclass
from spnhub.transport import pem
from spnhub.transport.endpoint.session.system_roots import system_roots
from spnhub.transport.engine import ClientPolicy
from spnhub.transport.errors import ConfigurationError
from spnhub.transport.system.loop import in_own_thread

__all__ = [
    "LIBRARY_NAMES",
    "CredentialNames",
    "Credentials",
    "CredentialsChange",
    "CredentialsSource",
    "CredentialsWatch",
    "Judge",
    "Pem",
    "is_read_once",
    "judge",
    "read_pem",
]

READ_BOUND: Final = 2.0
"""Seconds that a handshake waits for files to be read; then it goes on with what is there, and so do those that follow
until they have been read."""
ATTEMPTS: Final = 4
"""Reads in a row before something is said to be wrong: certificate and key are replaced one after the other."""
ATTEMPT_PAUSE: Final = 0.1
"""Seconds between them."""
NEAR: Final = timedelta(days=1)
"""What a clock may be wrong by, for a refusal that doesn't name time to be taken for one about time."""
EXPIRY_WARNING: Final = timedelta(days=7)
"""Before the end of a certificate, when it is first reported that nothing newer is there; the hub's own are warned of
from then on, too."""
SHORT_LIVED: Final = 0.25
"""Share of its life that one has left then whose life is short."""

Pem = str | bytes | os.PathLike[str]
"""PEM as text or bytes, or the path of a file that holds it."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The identity of an endpoint, and the certificates that it trusts."""

    policy: ClientPolicy
    subject: str = ""
    """RFC 4514, as the hub compares it: another subject is another endpoint, which can't go on with connections."""
    begin: datetime | None = None
    end: datetime | None = None
    """From when and until when all that is presented is valid; None: not known."""

    @property
    def dates(self) -> str:
        """For messages."""
        if self.begin is None or self.end is None:
            return self.subject
        return f"{self.subject}, valid from {pem.date_text(self.begin)} to {pem.date_text(self.end)}"

    def near_its_dates(self, moment: datetime) -> bool:
        """Whether a clock that is wrong by a day or less may make a difference, or ours says that it isn't valid."""
        if self.begin is None or self.end is None:
            return False
        return not (moment - self.begin > NEAR and self.end - moment > NEAR)


@dataclass(frozen=True, slots=True)
class CredentialsChange:
    """What has become of the files."""

    kind: Literal["renewed", "unusable", "usable", "expiring"]
    """``renewed``: others are in use from now on. ``unusable``: what is there now can't be used, and the last that
    could stays in use; reported once. ``usable``: that is over. ``expiring``: nothing newer is there, and the ones in
    use end soon."""
    detail: str


@dataclass(frozen=True, slots=True)
class CredentialNames:
    """What the user calls them."""

    certificate: str = "certificate"
    certificate_key: str = "certificate_key"
    trust: str = "trust"


LIBRARY_NAMES: Final = CredentialNames()

T = TypeVar("T")

Judge = Callable[[bytes, bytes, bytes | None, str, tuple[str, ...], CredentialNames], Credentials]


def judge(
    certificate: bytes,
    certificate_key: bytes,
    trust: bytes | None,
    server_name: str,
    alpn: tuple[str, ...],
    names: CredentialNames,
) -> Credentials:
    """What can be presented and trusted, in the usual layout.

    :raises ConfigurationError: something can't be used; the message names it.
    """
    chain = _named(names.certificate, pem.load_presented, certificate)
    key = _named(names.certificate_key, pem.load_key, certificate_key)
    if key.public_key() != chain[0].public_key():
        raise ConfigurationError(f"{names.certificate_key} doesn't belong to the certificate of {names.certificate}")
    if trust is None:
        anchors = system_roots()
    else:
        _named(names.trust, pem.load_chain, trust)
        anchors = pem.canonical(trust)
    policy = ClientPolicy(server_name, alpn, pem.canonical(certificate), pem.canonical(certificate_key), anchors)
    subject = pem.subject_of(chain[0])
    if subject is None:
        raise ConfigurationError(f"{names.certificate} has a subject that can't be read")
    begin, end = max(one.not_valid_before_utc for one in chain), min(one.not_valid_after_utc for one in chain)
    return Credentials(policy, subject, begin, end)


def _named(name: str, load: Callable[[bytes], T], text: bytes) -> T:
    try:
        return load(text)
    except ValueError as exc:
        raise ConfigurationError(f"{name} {exc}") from exc


class CredentialsSource:
    """Where an endpoint's credentials come from. :meth:`read` blocks.

    :param names: what the user calls them, for messages.
    """

    def __init__(
        self,
        certificate: Pem,
        certificate_key: Pem,
        trust: Pem | None,
        server_name: str,
        alpn: tuple[str, ...],
        *,
        names: CredentialNames = LIBRARY_NAMES,
        judge: Judge = judge,
    ) -> None:
        self._values: list[Pem | None] = [certificate, certificate_key, trust]
        self._names = names
        self._judge = judge
        self._peer = server_name, alpn
        self._last: tuple[tuple[bytes, bytes, bytes | None], Credentials] | None = None
        self.from_files = trust is None or any(value is not None and _path(value) is not None for value in self._values)
        """Whether it may change."""

    def read(self) -> Credentials:
        """What is there now; if something doesn't fit, again for some tenths of a second: it may be being written.

        :raises ConfigurationError: something can't be used; the message names it.
        """
        for left in reversed(range(ATTEMPTS)):
            try:
                return self._read()
            except ConfigurationError:
                if not left or not self.from_files:
                    raise
                time.sleep(ATTEMPT_PAUSE)
        raise AssertionError("the last attempt returns or raises")

    def _take(self, number: int, name: str) -> bytes:
        value = self._values[number]
        assert value is not None
        once = is_read_once(value)
        if once and self._last is not None:
            raise ConfigurationError(f"{name}: '{value!s:.200}' is no regular file any more")
        found = read_pem(value, name, secret=number == 1)
        if once:
            self._values[number] = found
        return found

    def begin_read(self) -> asyncio.Future[Credentials | ConfigurationError]:
        """The same beside the running loop; the error is given as a result.

        In a thread of its own, for which the process doesn't wait: a file system may never answer.
        """
        try:
            return in_own_thread(self._read_or_fault, "spn-credentials")
        except RuntimeError as exc:
            future: asyncio.Future[Credentials | ConfigurationError] = asyncio.get_running_loop().create_future()
            future.set_result(ConfigurationError(f"certificates can't be read: {exc}"))
            return future

    def _read_or_fault(self) -> Credentials | ConfigurationError:
        try:
            return self.read()
        except ConfigurationError as exc:
            return exc
        except Exception as exc:
            return ConfigurationError(f"certificates can't be read: {exc!r}")

    async def first(self) -> Credentials:
        """What an endpoint begins with.

        :raises ConfigurationError: something can't be used; the message names it.
        """
        if not self.from_files:
            return self.read()
        result = await self.begin_read()
        if isinstance(result, ConfigurationError):
            raise result
        return result

    def _read(self) -> Credentials:
        names = self._names
        certificate = self._take(0, names.certificate)
        key = self._take(1, names.certificate_key)
        trust = None if self._values[2] is None else self._take(2, names.trust)
        found = certificate, key, trust
        if trust is not None and self._last is not None and self._last[0] == found:
            return self._last[1]
        credentials = self._judge(*found, *self._peer, names)
        if self._last is not None and self._last[1] == credentials:
            return self._last[1]
        self._last = found, credentials
        return credentials


class CredentialsWatch:
    """Reads anew, in the background of a loop.

    :param current: what was read at first.
    :param on_change: called when other credentials are in use from now on.
    :param report: takes what log lines are made of.
    :param wall: wall clock, aware.
    """

    def __init__(
        self,
        source: CredentialsSource,
        current: Credentials,
        on_change: Callable[[Credentials], None],
        report: Callable[[CredentialsChange], None],
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.current = current
        self._source = source
        self._on_change = on_change
        self._report = report
        self._wall = wall
        self._reading: asyncio.Future[Credentials | ConfigurationError] | None = None
        self._stuck = False
        """It takes longer than anybody waits."""
        self._fault = ""
        """What was last reported as unusable."""
        self._warned = ""
        """What was last reported about the expiry of those in use."""

    @property
    def near_its_dates(self) -> bool:
        """See :meth:`Credentials.near_its_dates`; now."""
        return self.current.near_its_dates(self._wall())

    async def refresh(self) -> None:
        """Read, for at most :data:`READ_BOUND`; what comes later counts, too."""
        if self._source.from_files and not self._stuck:
            if self._reading is None:
                self._reading = self._begin()
            done, _ = await asyncio.wait({self._reading}, timeout=READ_BOUND)
            if not done:
                self._stuck = True
                self._unusable(f"the files can't be read within {READ_BOUND:g} s")
        self._warn()

    def _begin(self) -> asyncio.Future[Credentials | ConfigurationError]:
        def done(future: asyncio.Future[Credentials | ConfigurationError]) -> None:
            self._reading, self._stuck = None, False
            self._take(future.result())

        future = self._source.begin_read()
        future.add_done_callback(done)
        return future

    def _take(self, result: Credentials | ConfigurationError) -> None:
        if isinstance(result, ConfigurationError):
            self._unusable(str(result))
            return
        moment, current = self._wall(), self.current
        if result != current and (current.end is None or moment < current.end):
            if result.begin is not None and moment < result.begin:
                self._unusable(f"{result.dates}, is not valid yet by the clock here")
                return
            if result.end is not None and result.end < moment:
                self._unusable(f"{result.dates}, has expired by the clock here")
                return
        reported, self._fault = self._fault, ""
        if result != current:
            self.current = result
            self._report(CredentialsChange("renewed", result.dates))
            self._on_change(result)
        elif reported:
            self._report(CredentialsChange("usable", result.dates))

    def _unusable(self, fault: str) -> None:
        if fault != self._fault:
            self._fault = fault
            self._report(CredentialsChange("unusable", fault))

    def _warn(self) -> None:
        """Once a day from a week before on, and once when it is over."""
        current, moment = self.current, self._wall()
        if current.begin is None or current.end is None:
            return
        left = current.end - moment
        if left > min(EXPIRY_WARNING, (current.end - current.begin) * SHORT_LIVED):
            return
        when = "has expired"
        if left >= timedelta():
            when = f"expires in {left.days} days" if left.days > 1 else "expires within two days"
        warning = f"{current.dates}: {when} by the clock here"
        if warning != self._warned:
            self._warned = warning
            self._report(CredentialsChange("expiring", warning))


def read_pem(value: Pem, name: str, *, secret: bool = False) -> bytes:
    """The text of a value, or what is in the file that it names. Blocks.

    :param secret: the value is never quoted.
    :raises ConfigurationError: there is no PEM; the message begins with ``name``.
    """
    path = _path(value)
    if path is None:
        return value if isinstance(value, bytes) else str(value).encode()
    shown = "the value" if secret else f"'{value!s:.200}'"
    try:
        found = path.read_bytes()
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise ConfigurationError(f"{name}: {shown} is neither PEM text nor a readable file: {reason}") from exc
    if not pem.holds_pem(found):
        raise ConfigurationError(f"{name}: {shown} holds no PEM")
    return found


def is_read_once(value: Pem) -> bool:
    """Whether it is a pipe, as shells make them for ``<(…)``: there is nothing to be read a second time."""
    path = _path(value)
    try:
        return path is not None and not stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def _path(value: Pem) -> Path | None:
    """None: it is PEM itself."""
    if isinstance(value, bytes) or (isinstance(value, str) and pem.holds_pem(value)):
        return None
    return Path(value.strip() if isinstance(value, str) else value)
