"""The options of ``spnagent``, with their environment variables. What both roles have.

Counterparts: :mod:`spnhub.cli.agent` has the commands, :mod:`spnhub.cli.agent_settings` checks what was given.
"""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "Certificate",
    "CertificateInterval",
    "CertificateKey",
    "DrainTimeout",
    "Health",
    "HealthFall",
    "HealthInterval",
    "HealthRise",
    "HealthTimeout",
    "HubAddresses",
    "HubUrl",
    "IdleTimeout",
    "InstanceId",
    "KeepAlive",
    "LogFormat",
    "LogLevel",
    "ProbeTimeout",
    "ReplayBudget",
    "ReplayBuffer",
    "ResolveInterval",
    "Resolver",
    "ResumeTimeout",
    "ServiceUrn",
    "SuspectAfter",
    "TcpKeepalive",
    "Trust",
]

HubUrl = Annotated[
    str | None,
    typer.Option(
        "--hub-url",
        envvar="SPN_HUB_URL",
        help="https://FQDN:PORT of the hub. Without it: SPN_HUB_HOSTNAME and SPN_HUB_PORT (4433).",
    ),
]
ServiceUrn = Annotated[
    str | None,
    typer.Option("--service-urn", envvar="SPN_SERVICE_URN", help="The service that is used or provided."),
]
Certificate = Annotated[
    str | None,
    typer.Option(
        "--certificate",
        envvar=["SPN_CERTIFICATE", "SPN_AGENT_CLIENT_CERTIFICATE"],
        help="Client certificate with its chain: PEM text or a path.",
    ),
]
CertificateKey = Annotated[
    str | None,
    typer.Option(
        "--certificate-key",
        envvar=["SPN_CERTIFICATE_KEY", "SPN_AGENT_CLIENT_CERTIFICATE_KEY"],
        help="Its private key: PEM text or a path.",
    ),
]
Trust = Annotated[
    str | None,
    typer.Option(
        "--trust",
        envvar=["SPN_TRUST", "SPN_AGENT_TRUST_CERTIFICATE_ROOT"],
        help="Certificates that the hub's chain must end at, roots or not: PEM text or a path. "
        "Default: the system's roots.",
    ),
]
InstanceId = Annotated[
    str | None,
    typer.Option("--instance-id", envvar="SPN_INSTANCE_ID", help="Names this instance. Default: random."),
]
CertificateInterval = Annotated[
    float,
    typer.Option(
        "--certificate-interval",
        envvar="SPN_CERTIFICATE_INTERVAL",
        help="Seconds between two looks at the files of certificate, key and trust; SIGHUP has them read at once.",
    ),
]
HubAddresses = Annotated[
    str | None,
    typer.Option(
        "--hub-addresses",
        envvar="SPN_HUB_ADDRESSES",
        help="Where the hubs are, instead of asking DNS: IP, IP:PORT or [V6]:PORT, separated by commas.",
    ),
]
Resolver = Annotated[
    str | None,
    typer.Option(
        "--resolver",
        envvar="SPN_RESOLVER",
        help="DNS server to ask for the hub's name, IP or IP:PORT. Default: the system's resolver.",
    ),
]
ResolveInterval = Annotated[
    float,
    typer.Option("--resolve-interval", envvar="SPN_RESOLVE_INTERVAL", help="Seconds between two DNS checks."),
]
ResumeTimeout = Annotated[
    float,
    typer.Option(
        "--resume-timeout",
        envvar="SPN_RESUME_TIMEOUT",
        help="Seconds that a connection may be without a hub before it is reset.",
    ),
]
IdleTimeout = Annotated[
    float,
    typer.Option(
        "--idle-timeout",
        envvar="SPN_IDLE_TIMEOUT",
        help="Seconds; a hub that is silent for this long is lost. The shorter of both sides' holds.",
    ),
]
KeepAlive = Annotated[
    float,
    typer.Option(
        "--keep-alive", envvar="SPN_KEEP_ALIVE", help="Seconds of silence after which a PING is sent; 0: never."
    ),
]
SuspectAfter = Annotated[
    float,
    typer.Option(
        "--suspect-after",
        envvar="SPN_SUSPECT_AFTER",
        help="Seconds without an answer after which connections move to another hub, if there is one.",
    ),
]
ProbeTimeout = Annotated[
    float,
    typer.Option(
        "--probe-timeout",
        envvar="SPN_PROBE_TIMEOUT",
        help="Seconds; a hub whose port is closed is lost when it hasn't answered for this long.",
    ),
]
ReplayBuffer = Annotated[
    int,
    typer.Option(
        "--replay-buffer",
        envvar="SPN_REPLAY_BUFFER",
        help="Bytes that are kept of a connection until the other agent has acknowledged them, at most.",
    ),
]
ReplayBudget = Annotated[
    int,
    typer.Option(
        "--replay-budget",
        envvar="SPN_REPLAY_BUDGET",
        help="Bytes that all connections may keep so together, above 256 KiB each.",
    ),
]
DrainTimeout = Annotated[
    float,
    typer.Option(
        "--drain-timeout",
        envvar="SPN_DRAIN_TIMEOUT",
        min=0,
        help="Seconds that SIGTERM leaves to open connections; what is still open then is reset.",
    ),
]
TcpKeepalive = Annotated[
    str,
    typer.Option(
        "--tcp-keepalive",
        envvar="SPN_TCP_KEEPALIVE",
        help="IDLE,INTERVAL,COUNT: a TCP peer silent for IDLE seconds is asked COUNT times, INTERVAL apart; or off.",
    ),
]
Health = Annotated[
    str,
    typer.Option(
        "--health-check",
        envvar="SPN_HEALTH_CHECK",
        help="tcp: connect; http:/PATH: GET it, 2xx and 3xx are healthy; off. While it fails the weight is 0.",
    ),
]
HealthInterval = Annotated[
    float,
    typer.Option("--health-interval", envvar="SPN_HEALTH_INTERVAL", help="Seconds from one check to the next."),
]
HealthTimeout = Annotated[
    float, typer.Option("--health-timeout", envvar="SPN_HEALTH_TIMEOUT", help="Seconds that a check may take.")
]
HealthFall = Annotated[
    int,
    typer.Option("--health-fall", envvar="SPN_HEALTH_FALL", min=1, help="Failed checks in a row: weight 0."),
]
HealthRise = Annotated[
    int,
    typer.Option("--health-rise", envvar="SPN_HEALTH_RISE", min=1, help="Passed checks in a row: the weight again."),
]
LogLevel = Annotated[
    str,
    typer.Option("--log-level", envvar="SPN_LOG_LEVEL", help="debug, info, warning, error or critical."),
]
LogFormat = Annotated[
    str | None,
    typer.Option("--log-format", envvar="SPN_LOG_FORMAT", help="json or console. Default: console on a terminal."),
]
