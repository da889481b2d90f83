"""The options of an endpoint, for programs and agents alike: each is one field here, and read where it matters.

Counterparts: :mod:`spnhub.transport.endpoint.api.config` checks them, :mod:`spnhub.agent_settings` makes flags of
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypedDict

from spnhub.actors.contract.protocols import SC01, SPN1
from spnhub.dataclass import dataclass
from spnhub.options import WEEK, build, nested, option
from spnhub.transport.engine import Limits
from spnhub.transport.engines import engine_option
from spnhub.transport.text import oddity, quoted

__all__ = ["ENDPOINT_LIMITS", "EndpointKeywords", "EndpointOptions", "endpoint_options"]

ENDPOINT_LIMITS: Final = Limits(idle_timeout=20.0, keep_alive=5.0, suspect_after=1.5, probe_timeout=0.15)
"""The defaults of an endpoint. It takes its hub for unresponsive sooner than a hub its endpoints: it can go on at
another, and a resume loses nothing (D-20): a hub that answers late after a forged word costs a move."""
INSTANCE_ID_LIMIT: Final = 256
"""Bytes in UTF-8, the protocol's."""
_TIMES: Final = ("idle_timeout", "keep_alive", "suspect_after", "probe_timeout")

_hubs = partial(option, group="Finding hubs")
_resume = partial(option, group="Resuming")
_seconds: dict[str, Any] = {"metavar": "SECONDS", "at_least": 0.1, "at_most": WEEK, "unit": "seconds"}


def _check_instance_id(text: str) -> None:
    if len(text.encode()) > INSTANCE_ID_LIMIT:
        raise ValueError(f"longer than {INSTANCE_ID_LIMIT} bytes")
    # Invisible characters would be noticed by the hub only.
    if (odd := oddity(text)) is not None:
        raise ValueError(f"{odd}: {quoted(text)}")


def _pieces(text: str) -> tuple[str, ...]:
    return tuple(piece.strip() for piece in text.split(","))


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointOptions:
    """How an endpoint behaves. Times in seconds, sizes in bytes. They are checked when an endpoint is made of them."""

    instance_id: str | None = option(
        None,
        "Names this instance; stable over reconnects.",
        group="Service",
        default_text="random",
        check=_check_instance_id,
    )
    """None: random."""
    hub_addresses: Sequence[str] | None = _hubs(
        None,
        "Where the hubs are, instead of asking DNS: IP, IP:PORT or [V6]:PORT, separated by commas.",
        metavar="IP:PORT,...",
        parse=_pieces,
        default_text="those of the hub's name",
    )
    """Each ``IP``, ``IP:PORT`` or ``[V6]:PORT``; None: DNS is asked (D-32)."""
    resolver: str | None = _hubs(
        None, "DNS server to ask for the hub's name, IP or IP:PORT.", default_text="the system's resolver"
    )
    """None: the system's resolver."""
    resolve_interval: float = _hubs(30.0, "Between two DNS checks.", **_seconds)
    """Between two looks at DNS (R-3.3)."""
    credentials_interval: float = option(
        10.0,
        "Between two looks at the files of certificate, key and trust; SIGHUP has them read at once.",
        group="Certificates",
        flag="certificate-interval",
        **_seconds,
    )
    """Between two looks at the files of certificate, key and trust (D-38)."""
    resume_timeout: float = _resume(
        60.0, "A connection may be without a hub for this long; then it is reset.", **_seconds
    )
    """After which a connection that could not be resumed is aborted."""
    replay_buffer: int = _resume(
        4 * 1024 * 1024,
        "Kept of a connection until the other side has acknowledged it, at most.",
        metavar="BYTES",
        # Twice what an acknowledgement waits for.
        at_least=64 * 1024,
        unit="bytes",
    )
    """To which may grow what is kept of one connection until it is acknowledged."""
    replay_budget: int | None = _resume(
        None,
        "All connections may keep this much together, above 256 KiB each.",
        metavar="BYTES",
        at_least=0,
        unit="bytes",
        default_text="64 MiB",
    )
    """Of all connections together above 256 KiB each. None: 64 MiB, shared by all endpoints of the process that say
    None."""
    protocol: str = option(
        SPN1,
        "What the hub speaks: spn/1, or sc01, the protocol of the generation before it, to which nothing can be"
        " resumed and the certificate's common name says the service.",
        group="Finding hubs",
        metavar="PROTOCOL",
        choices=(SPN1, SC01),
    )
    """``spn/1``, or ``sc01`` (``transport/SC01.md``)."""
    retries: int | None = None
    """How often in a row a lost session is tried again before it has Failed; None: for ever."""
    wait_for_hub: bool = False
    """Don't raise what a retry can help against, but retry the first session, too."""
    engine: str = engine_option()
    """``auto``, ``native`` or ``aioquic``; auto: native where ``spnhub-native`` is installed."""
    limits: Limits = nested(Limits, ENDPOINT_LIMITS)
    """When a hub is lost or unresponsive, and the sizes of the QUIC engine."""


class EndpointKeywords(TypedDict, total=False):
    """The same as keyword arguments, those of :class:`spnhub.transport.engine.Limits` that are options among them."""

    instance_id: str | None
    hub_addresses: Sequence[str] | None
    resolver: str | None
    resolve_interval: float
    credentials_interval: float
    resume_timeout: float
    replay_buffer: int
    replay_budget: int | None
    retries: int | None
    wait_for_hub: bool
    idle_timeout: float
    keep_alive: float
    suspect_after: float
    probe_timeout: float
    datagram_size: int
    datagram_size_max: int
    engine: str
    protocol: str
    limits: Limits


def endpoint_options(options: EndpointOptions | None, keywords: EndpointKeywords) -> EndpointOptions:
    """``options`` with what the keywords say otherwise. Times of ``limits`` are no keywords' of their own (D-20).

    :raises TypeError: a keyword that is none.
    """
    given: dict[str, Any] = dict(keywords)
    if unknown := given.keys() - EndpointKeywords.__annotations__.keys():
        raise TypeError(f"an endpoint has no option {', '.join(sorted(unknown))}")
    base = options or EndpointOptions()
    if "limits" in given:
        times = {name: getattr(base.limits, name) for name in _TIMES}
        given["limits"] = replace(given["limits"], **times)
    made = build(EndpointOptions, given, base)
    assert made is not None
    return made
