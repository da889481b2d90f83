"""Other hosts on this machine: network namespaces, each joined to ours by a wire of its own (Linux, root).

Their firewall loses packets and goes silent for real, in the kernel, and their address can be changed while programs
run on them. Delay and reordering are :mod:`tests.support.path`'s, since netem is a kernel module that many lack.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

__all__ = ["Files", "Host", "NamespacesMissing"]


class NamespacesMissing(Exception):
    """No namespaces can be made here; the message says why."""


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NamespacesMissing(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")


class Files:
    """This host with other files at some paths (Linux, root): a mount namespace for each command.

    :param files: what is seen, by where it is seen. Both exist.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        if os.geteuid() != 0:
            raise NamespacesMissing("only root can make mount namespaces")
        mounts = "".join(f"mount --bind {shlex.quote(str(seen))} {where} && " for where, seen in files.items())
        self.within: Sequence[str] = ("unshare", "--mount", "sh", "-c", f'{mounts}exec "$@"', "sh")
        """What runs a command there."""
        _run(*self.within, "true")


class Host:
    """A host with one wire to ours. A context manager, which leaves nothing behind.

    :param number: 1 to 250; the wire's network is 10.213.{number}.0/24.
    :param firewall: it has one, for :meth:`lose` and :meth:`cut`.
    """

    def __init__(self, number: int, *, firewall: bool = True) -> None:
        self._programs = ("ip", "iptables") if firewall else ("ip",)
        self.gateways = f"10.213.{number}.1", f"10.213.{number}.254"
        """Our two addresses on its wire."""
        self.address = f"10.213.{number}.200"
        """An address of it that stays."""
        self._changing = f"10.213.{number}.2"
        """What it sends from."""
        self._number = number
        self._lock = Path(tempfile.gettempdir()) / f"spn-test-host-{number}.lock"
        self._locked: int | None = None
        self._name, self._ours, self._theirs = f"spn-{number}", f"spno{number}", f"spnt{number}"

    @property
    def within(self) -> Sequence[str]:
        """What runs a command there."""
        return ("ip", "netns", "exec", self._name)

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise NamespacesMissing("only root can make network namespaces")
        for program in self._programs:
            if shutil.which(program) is None:
                raise NamespacesMissing(f"no {program} here (Debian: iproute2, iptables)")
        # Networks are the machine's: the tests of another checkout wait until this one is gone.
        self._locked = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._locked, fcntl.LOCK_EX)
        # What tests have left that were killed would answer in its place.
        self._remove()
        try:
            _run("ip", "netns", "add", self._name)
            _run("ip", "link", "add", self._ours, "type", "veth", "peer", "name", self._theirs)
            _run("ip", "link", "set", self._theirs, "netns", self._name)
            for gateway in self.gateways:
                _run("ip", "addr", "add", f"{gateway}/24", "dev", self._ours)
            _run("ip", "link", "set", self._ours, "up")
            self._there("sysctl", "-q", "-w", "net.ipv4.conf.all.promote_secondaries=1")
            self._there("ip", "addr", "add", f"{self._changing}/24", "dev", self._theirs)
            self._there("ip", "addr", "add", f"{self.address}/32", "dev", self._theirs)
            self._there("ip", "link", "set", self._theirs, "up")
            self._there("ip", "link", "set", "lo", "up")
        except NamespacesMissing:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()
        if self._locked is not None:
            os.close(self._locked)
            self._locked = None

    def _remove(self) -> None:
        within = subprocess.run(["ip", "netns", "pids", self._name], capture_output=True, text=True, check=False)
        for process in within.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        # The wire goes with the namespace, as soon as no process is left in it.
        for command in (["ip", "link", "del", self._ours], ["ip", "netns", "del", self._name]):
            subprocess.run(command, capture_output=True, check=False)

    def _there(self, *command: str) -> None:
        _run(*self.within, *command)

    def reach(self, other: Host) -> None:
        """Reach our addresses on another host's wire, over its own."""
        for gateway in other.gateways:
            self._there("ip", "route", "add", f"{gateway}/32", "via", self.gateways[0])

    def take_address(self, gateway: str) -> None:
        """Our host has this address of its no more."""
        _run("ip", "addr", "del", f"{gateway}/24", "dev", self._ours)

    def give_address(self, gateway: str) -> None:
        """It is there again."""
        _run("ip", "addr", "add", f"{gateway}/24", "dev", self._ours)

    def set_mtu(self, mtu: int) -> None:
        """The wire carries IP packets of so many bytes to it: it drops larger ones, and sends none. Nobody says so."""
        self._there("ip", "link", "set", self._theirs, "mtu", str(mtu))
        # A wire in memory carries joined datagrams as one packet of any size, unless they are to be taken apart before.
        self._there("ip", "link", "set", self._theirs, "gso_max_segs", "1")
        _run("ip", "link", "set", self._ours, "gso_max_segs", "1")

    def lose(self, share: float) -> None:
        """Lose this share of the UDP packets, each way."""
        for chain in ("INPUT", "OUTPUT"):
            statistic = ("-m", "statistic", "--mode", "random", "--probability", str(share))
            self._there("iptables", "-A", chain, "-p", "udp", *statistic, "-j", "DROP")

    def cut(self, peer: str) -> None:
        """No UDP packet to or from the address ``peer`` passes, and nobody is told."""
        self._there("iptables", "-A", "OUTPUT", "-p", "udp", "-d", peer, "-j", "DROP")
        self._there("iptables", "-A", "INPUT", "-p", "udp", "-s", peer, "-j", "DROP")

    def cut_wire(self) -> None:
        """Nothing passes any more, for good, and nobody there hears that it doesn't."""
        self._there("ip", "link", "set", self._theirs, "down")

    def heal(self) -> None:
        """Everything passes."""
        self._there("iptables", "-F")

    def change_address(self) -> None:
        """Send from another address; what was bound to the old one can send no more."""
        old = self._changing
        self._changing = f"10.213.{self._number}.{int(old.rpartition('.')[2]) + 1}"
        self._there("ip", "addr", "add", f"{self._changing}/24", "dev", self._theirs)
        self._there("ip", "addr", "del", f"{old}/24", "dev", self._theirs)
