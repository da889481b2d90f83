"""Everything from files: a hub and both agents are told nothing else, and a connection goes through."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.processes import Program, Site, address_of
from tests.support.tcp import Ending, TcpPeer, TcpServer

pytestmark = pytest.mark.system


def toml(path: Path, **keys: str | float) -> str:
    """A file of these keys, as an argument."""
    lines = (f"{key.replace('_', '-')} = {json.dumps(value)}\n" for key, value in keys.items())
    path.write_text("".join(lines))
    return f"--config={path}"


async def test_a_network_of_files(tmp_path: Path) -> None:
    """A flag wins over the file in each of them."""
    site = Site(tmp_path)
    for name in ("provider", "consumer"):
        given = site.environment(name)
        for part, variable in (("crt", "SPN_CERTIFICATE"), ("key", "SPN_CERTIFICATE_KEY"), ("ca", "SPN_TRUST")):
            (tmp_path / f"{name}.{part}").write_text(given[variable])
    with TcpServer() as server:
        both = {"hub_url": given["SPN_HUB_URL"], "service_urn": given["SPN_SERVICE_URN"], "log_level": "debug"}
        hub = toml(
            tmp_path / "hub.toml",
            inventory=f"file:{tmp_path}/inventory.yaml",
            journal=f"{tmp_path}/journal",
            hub_id="of-the-file",
            log_format="json",
            idle_timeout=15.5,
        )
        site.programs.append(await Program.start("spnhub", hub, "--hub-id", "of-the-flag"))
        try:
            assert (await site.programs[0].line("hub.ready"))["hubId"] == "of-the-flag"
            addresses = {"provider": f"127.0.0.1:{server.address[1]}", "consumer": "127.0.0.1:0"}
            for name, key in (("provider", "forward_address"), ("consumer", "bind_address")):
                pem = {"certificate": f"{tmp_path}/{name}.crt", "certificate_key": f"{tmp_path}/{name}.key"}
                trust = {"trust": f"{tmp_path}/{name}.ca", key: addresses[name]}
                argument = toml(tmp_path / f"{name}.toml", **both, **pem, **trust)
                site.programs.append(await Program.start("spnagent", name, argument))
                await site.programs[-1].line("session.established")
            client = await TcpPeer.connect(await address_of(site.programs[-1]))
            await client.send(b"by files")
            client.finish()
            accepted = await server.accept()
            assert await accepted.receive_all() == (b"by files", Ending.FIN)
            accepted.close()
            client.close()
        finally:
            await site.close()
