"""The settings of the ``spnhub`` command: each of its options is a field here, or of a class that is nested here.

Counterparts: :mod:`spnhub.options` says what follows from a field, :mod:`spnhub.cli.hub` has the command, and
:mod:`spnhub.hub_process` uses the settings.
"""

from __future__ import annotations

import ipaddress
import socket
from functools import partial
from pathlib import Path

from spnhub.actors.contract.options import ActorOptions
from spnhub.dataclass import dataclass
from spnhub.events.journal.options import JournalOptions
from spnhub.events.kafka.settings import KafkaSettings
from spnhub.logging import LogFormat, log_format_option, log_level_option
from spnhub.options import (
    UnusableOption,
    check_options,
    host_names,
    nested,
    option,
    server_address,
    server_token,
)
from spnhub.settings import check_http_url, check_inventory_url
from spnhub.transport.engine import Limits
from spnhub.transport.engines import engine_option
from spnhub.transport.hub.memory import MemoryLimits

__all__ = ["HubSettings", "default_hub_id", "default_journal"]


def _check_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is not a folder")


def _check_ip_addresses(text: str) -> None:
    for one in text.split(","):
        try:
            ipaddress.ip_address(one.strip())
        except ValueError:
            raise ValueError(f"{one!r} is not an IP address") from None


def _is_wildcard(address: str) -> bool:
    return ipaddress.ip_address(address).is_unspecified


def _check_hub_id(name: str) -> None:
    if not name or not name.isprintable():
        raise ValueError(f"{name!r} can't name a hub")


_inventory = partial(option, group="Inventory")
_journal = partial(option, group="Event journal")
_operations = partial(option, group="Operations")


def _check_access(kafka: KafkaSettings) -> None:
    """Whether what is given to get in is all that is needed, and nothing of it is idle."""
    protocol, mechanism = kafka.security_protocol, kafka.sasl_mechanism
    if mechanism is None and protocol.startswith("SASL_"):
        raise UnusableOption("sasl_mechanism", f" is missing ({protocol} needs it)")
    if mechanism is not None and not protocol.startswith("SASL_"):
        needed = f" needs --kafka-security-protocol SASL_SSL or SASL_PLAINTEXT, not {protocol}"
        raise UnusableOption("sasl_mechanism", needed)
    for name in ("ssl_cafile", "ssl_capath", "ssl_certfile", "ssl_keyfile"):
        path = getattr(kafka, name)
        if path is not None and "SSL" not in protocol:
            raise UnusableOption(name, f" needs --kafka-security-protocol SSL or SASL_SSL, not {protocol}")
        if path is not None and not path.exists():
            raise UnusableOption(name, f": {path} does not exist")
    if kafka.ssl_keyfile is not None and kafka.ssl_certfile is None:
        raise UnusableOption("ssl_certfile", " is missing (--kafka-ssl-keyfile needs it)")


def default_hub_id() -> str:
    """The host's name."""
    return socket.gethostname()


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSettings:
    """One hub process.

    :raises UnusableOption: a value that can't be used, or that doesn't fit another.
    """

    inventory: str = _inventory(
        "http://localhost:8080",
        "An http, https or file URL.",
        letter="c",
        metavar="URL",
        variables=("SPNHUB_INVENTORY_URL",),
        check=check_inventory_url,
    )
    inventory_token: str | None = _inventory(None, "Its bearer token.", secret=True, from_file=True)
    bind: str | None = _inventory(
        None,
        "An IP address that overrides every hub's serverAddress; 0.0.0.0 or ::, all of the host's, each answered from "
        "itself. With --workers one for each, with commas between.",
        metavar="ADDRESS",
        default_text="the inventory's",
        check=_check_ip_addresses,
    )
    allow_process: bool = _inventory(False, "Let the inventory name commands to run on this host (process:).")
    hub_id: str = _journal(
        default_hub_id,
        "Names this instance in events; stable over restarts.",
        default_text="host name",
        check=_check_hub_id,
    )
    journal: Path = _journal(
        None,
        "Folder of the event journal.",
        metavar="DIR",
        default_text="the hub id's in the platform's state folder",
        check=_check_folder,
    )
    journal_options: JournalOptions = nested(JournalOptions, JournalOptions(size=4 << 30))
    kafka: KafkaSettings | None = nested(KafkaSettings, None)
    """None: journal only."""
    actors: ActorOptions = nested(ActorOptions)
    limits: Limits = nested(Limits)
    memory_limits: MemoryLimits = nested(MemoryLimits)
    engine: str = engine_option()
    return_spread: float = option(
        2.0,
        "After a SIGTERM, endpoints come back to this address at a random moment within it.",
        group="Connections",
        metavar="SECONDS",
        at_least=0,
        at_most=3600,
        unit="seconds",
    )
    """R-4.8."""
    workers: int = _operations(
        1,
        "Hub processes that share the load, started and watched over by this one. Each has an address of --bind, and"
        " its number: in its hub id (ID-1), below --journal (DIR/1; they share its size), and in the port of --ops.",
        metavar="COUNT",
        at_least=1,
        at_most=256,
    )
    ops: str | None = server_address(
        "HTTP of the running hub: /healthz, /readyz, /metrics, /state, /incidents and more; port 0: any that is free.",
        "Operations",
    )
    ops_hosts: tuple[str, ...] = host_names("ops-host", "Operations")
    ops_token: str | None = server_token("Operations")
    ops_console: str | None = _operations(
        None,
        "URL of the console (spnlog console) that the page at / of --ops links to.",
        metavar="URL",
        default_text="none",
        check=check_http_url,
    )
    record: Path | None = _operations(
        None,
        "Folder for recordings of the inputs of the actors, for spnlog replay-actors; no payload, no keys.",
        metavar="DIR",
        default_text="off",
        check=_check_folder,
    )
    record_size: int = _operations(
        256,
        "Of all recordings in it; then recording ends, and traffic goes on.",
        metavar="MIB",
        at_least=1,
        at_most=1_048_576,
        unit="MiB",
    )
    log_level: str = log_level_option()
    log_format: LogFormat | None = log_format_option()

    def __post_init__(self) -> None:
        object.__setattr__(self, "journal", self.journal or default_journal(self.hub_id))
        check_options(self)
        self.limits.check()
        self._check_workers()
        if self.kafka is not None:
            _check_access(self.kafka)

    @property
    def addresses(self) -> tuple[str, ...]:
        """What ``bind`` names."""
        return () if self.bind is None else tuple(one.strip() for one in self.bind.split(","))

    def _check_workers(self) -> None:
        count = len(self.addresses)
        if self.workers == 1:
            if count > 1:
                raise UnusableOption("bind", f" has {count} addresses (one each for --workers {count})")
            return
        if len(set(self.addresses)) != self.workers or any(map(_is_wildcard, self.addresses)):
            raise UnusableOption(
                "workers", f": {self.workers} of them need as many addresses in --bind, different ones, none a wildcard"
            )


def default_journal(hub_id: str) -> Path:
    """A folder per hub id below the platform's state folder, so that two hubs on one host need two ids only.

    :raises UnusableOption: the id is no folder's name.
    """
    if hub_id in {"", ".", ".."} or any(c in hub_id for c in "/\\\0"):
        raise UnusableOption("journal", f" is missing (--hub-id {hub_id!r} can't name a folder)")
    # Imported late: most hubs are told a folder.
    import platformdirs  # noqa: PLC0415

    return platformdirs.user_state_path("spnhub", appauthor=False) / hub_id
