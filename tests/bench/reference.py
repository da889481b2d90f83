"""aioquic alone, sans I/O: what one hop of bytes costs its sender and its receiver together, acknowledgements included.

Runs as a process of its own, so that nothing of ours is loaded: ``python -m tests.bench.reference SIZE MEGABYTES``
prints megabytes per CPU second.
"""

from __future__ import annotations

import os
import sys
import time

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.tls import load_pem_private_key, load_pem_x509_certificates

from spnhub.pki import Authority
from tests.support.aioquic_inside import has_shaken_hands, room

_CHUNK = 65_536
_STEP = 0.0002


def measure(datagram_size: int, total: int) -> float:
    """Bytes per CPU second."""
    authority = Authority.create()
    server_side = authority.server("hub.test")
    client = QuicConnection(
        configuration=QuicConfiguration(
            cadata=authority.certificate,
            server_name="hub.test",
            alpn_protocols=["x"],
            max_datagram_size=datagram_size,
        )
    )
    server = QuicConnection(
        configuration=QuicConfiguration(
            is_client=False,
            certificate=load_pem_x509_certificates(server_side.certificate)[0],
            private_key=load_pem_private_key(server_side.key),
            alpn_protocols=["x"],
            max_datagram_size=datagram_size,
        ),
        original_destination_connection_id=client.original_destination_connection_id,
    )
    now = 0.0
    client.connect(("server", 1), now)
    chunk, sent, got, stream_id, spent = os.urandom(_CHUNK), 0, 0, -1, 0.0
    while got < total:
        began = time.process_time()
        if has_shaken_hands(client):
            if stream_id < 0:
                stream_id, spent = client.get_next_available_stream_id(), 0.0
                client.send_stream_data(stream_id, b"")
            if sent < total and room(client, stream_id) < _CHUNK:
                client.send_stream_data(stream_id, chunk)
                sent += _CHUNK
        moved = False
        for source, sink, name in ((client, server, "client"), (server, client, "server")):
            for data, _ in source.datagrams_to_send(now):
                sink.receive_datagram(data, (name, 1), now)
                moved = True
            while (event := sink.next_event()) is not None:
                if isinstance(event, events.StreamDataReceived):
                    got += len(event.data)
        now += _STEP
        if not moved:
            timers = [timer for timer in (client.get_timer(), server.get_timer()) if timer is not None]
            now = max(now, min(timers))
            for side in (client, server):
                timer = side.get_timer()
                if timer is not None and timer <= now:
                    side.handle_timer(now)
        spent += time.process_time() - began
    return got / spent


if __name__ == "__main__":
    print(measure(int(sys.argv[1]), int(sys.argv[2]) * 1_000_000) / 1e6)
