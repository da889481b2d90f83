"""IP addresses as text and for sockets."""

from __future__ import annotations

import socket

import pytest

from spnhub.transport.system.ip import ip_address, socket_address


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("::1", "::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
    ],
)
def test_addresses(host: str, address: str) -> None:
    """Every form that the system takes."""
    assert ip_address(host) == address


@pytest.mark.parametrize(
    "host", ["localhost", "db.test", "x" * 300, "", " ", "127.0.0.1.", "1.2.3.4.5", "1.2.3.4 x", "ü..", "[::1]", "beef"]
)
def test_names(host: str) -> None:
    """Others are to be looked up, whatever comes of it."""
    assert ip_address(host) is None


def test_for_sockets() -> None:
    """With the scope as the number that sockets want."""
    assert socket_address("127.0.0.1", 80) == (socket.AF_INET, ("127.0.0.1", 80))
    assert socket_address("2001:db8::1", 80) == (socket.AF_INET6, ("2001:db8::1", 80, 0, 0))
    for scope in ("lo", str(socket.if_nametoindex("lo"))):
        expected = (socket.AF_INET6, ("fe80::1", 80, 0, socket.if_nametoindex("lo")))
        assert socket_address(f"fe80::1%{scope}", 80) == expected


@pytest.mark.parametrize("ip", ["localhost", "", "fe80::1%nowhere", "127.1"])
def test_no_socket_address(ip: str) -> None:
    """What isn't one, and what this host hasn't got."""
    with pytest.raises(OSError, match=r"is not an IP address|no interface"):
        socket_address(ip, 80)
