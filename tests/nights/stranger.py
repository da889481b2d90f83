"""``python -m tests.nights.stranger``: a stranger's first hour, from an empty folder, timed; ends at the first failure.

Only commands that a stranger types run here, in a shell, with an environment of their own (``--install`` makes one from
this checkout as ``make install`` does; else the one that runs this is taken).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from spnhub.demo.site import free_port

__all__ = ["Hour", "hour"]

_CHECKOUT: Final = Path(__file__).parents[2]
_URN: Final = "urn:chip-in:service:acme:tokyo"
_SECOND: Final = """
import sys, yaml
document = yaml.safe_load(open("net/inventory.yaml"))
services = document["realms"][0]["hubs"][0]["services"]
services.append({**services[0], "name": "second", "title": "second"})
yaml.safe_dump(document, open("net/inventory.yaml", "w"))
"""
_ROTATE: Final = """
from spnhub.pki import Authority
from pathlib import Path
net = Path("net")
authority = Authority((net / "ca.pem").read_bytes(), (net / "ca.key").read_bytes())
made = authority.client("hello-consumer", days=90)
(net / "consumer.key").write_bytes(made.key)
(net / "consumer.pem").write_bytes(made.certificate)
"""


class Hour:
    """A folder, what runs in it, and how long each step took.

    :param folder: empty.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.steps: list[tuple[str, float]] = []
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SPN")}
        self._environment = inherited | {"PATH": f"{programs}:{os.environ['PATH']}"}
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def run(self, text: str) -> str:
        """A command to its end, and what it prints."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            logs = "\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in self.folder.glob("*.log"))
            raise AssertionError(f"{text}\n{done.stdout}\n{done.stderr}\n{logs}")
        return done.stdout

    def start(self, text: str, log: str) -> subprocess.Popen[bytes]:
        """A command that goes on."""
        with (self.folder / log).open("ab") as file:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {text}"],
                cwd=self.folder,
                env=self._environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._running.append(process)
        return process

    def until(self, text: str, seconds: float = 60.0) -> None:
        """Try a command again and again, until it succeeds."""
        end = time.monotonic() + seconds
        while True:
            try:
                self.run(text)
                return
            except AssertionError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def step(self, what: str, do: Callable[[], object]) -> None:
        """Do it, and say how long it took."""
        began = time.monotonic()
        do()
        self.steps.append((what, time.monotonic() - began))
        print(f"{self.steps[-1][1]:7.1f} s  {what}", flush=True)


def hour(folder: Path, *, install: bool) -> list[tuple[str, float]]:
    """All steps: what, and seconds."""
    programs = folder / "env" / "bin" if install else Path(sys.executable).parent
    with Hour(folder, programs) as own:
        if install:
            own.step("install", lambda: own.run(_install()))
        hub, one, two, entry, entry_two = (
            free_port(socket.SOCK_DGRAM),
            *(free_port(socket.SOCK_STREAM) for _ in range(4)),
        )
        own.step(
            "`spnhub init`: CA, certificates, inventory",
            lambda: own.run(f"spnhub init acme/tokyo/hello --dir net --port {hub}"),
        )
        first = _tables("hello", one, entry)
        (folder / "agent.toml").write_text(
            f'hub-url = "https://localhost:{hub}"\ntrust = "net/ca.pem"\ncertificate-interval = 1\n{first}'
        )
        start_hub = f"spnhub --inventory file:{folder}/net/inventory.yaml --hub-id hub-1 --journal journal"

        hubs: list[subprocess.Popen[bytes]] = []

        def first_curl() -> None:
            (folder / "www").mkdir()
            (folder / "www" / "big").write_bytes(os.urandom(20 << 20))
            own.start(f"python3 -m http.server --bind 127.0.0.1 --directory www {one}", "one.log")
            hubs.append(own.start(start_hub, "hub.log"))
            own.start("spnagent run --config agent.toml", "agents.log")
            own.until(f"curl -sf -o answer http://127.0.0.1:{entry}/")

        own.step("hub, agents, and the first curl that is answered", first_curl)

        servers: list[subprocess.Popen[bytes]] = []

        def second() -> None:
            servers.append(own.start(f"python3 -m http.server --bind 127.0.0.1 {two}", "two.log"))
            own.run(f"python3 -c '{_SECOND}'")
            own.run("kill -HUP $(jq .pid journal/lock)")
            with (folder / "agent.toml").open("a") as file:
                file.write(_tables("second", two, entry_two))
            own.until(f"curl -sf -o answer http://127.0.0.1:{entry_two}/")

        own.step("a second service on the same agents, which nobody restarted", second)

        def broken() -> None:
            os.killpg(servers[0].pid, signal.SIGKILL)
            own.run(f"! curl -sf -o answer http://127.0.0.1:{entry_two}/")
            own.until(f"spnlog incidents journal | grep -q 'CONNECT_FAILED.*{two}'")

        own.step("a broken backend found: `spnlog incidents` has its address and reason", broken)

        def update() -> None:
            download = own.start(f"curl -sf --limit-rate 8M -o copy http://127.0.0.1:{entry}/big", "curl.log")
            own.until("test -s copy")
            hubs[0].terminate()
            hubs[0].wait(timeout=60)
            own.start(start_hub, "hub.log")
            assert download.wait(timeout=120) == 0
            own.run("cmp www/big copy")

        own.step("the hub replaced under a download of 20 MiB at 8 MiB/s, not a byte missing", update)

        def rotate() -> None:
            own.run(f"python3 -c '{_ROTATE}'")
            own.until("grep -q certificate.renewed agents.log")
            own.until(f"curl -sf -o answer http://127.0.0.1:{entry}/")

        own.step("the consumer's certificate rotated: files replaced, sessions renewed", rotate)
        return own.steps


def _install() -> str:
    return (
        "python3.11 -m venv env && env/bin/python -m pip -q --disable-pip-version-check install"
        f" --require-hashes -r {_CHECKOUT}/requirements.lock && env/bin/python -m pip -q --disable-pip-version-check"
        f" install --no-deps --no-build-isolation -e {_CHECKOUT}"
    )


def _tables(service: str, forward: int, listen: int) -> str:
    return "".join(
        f'[{role}.{service}]\nservice-urn = "{_URN}:{service}"\ncertificate = "net/{role}.pem"\n'
        f'certificate-key = "net/{role}.key"\n{key} = "127.0.0.1:{port}"\n'
        for role, key, port in (("provider", "forward", forward), ("consumer", "listen", listen))
    )


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.nights.stranger", description=__doc__)
    parser.add_argument("--install", action="store_true", help="into an environment of its own, from the package index")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stranger-") as folder:
        steps = hour(Path(folder), install=options.install)
    print(f"{sum(seconds for _, seconds in steps):7.1f} s  in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
