"""What operators see of a running hub over HTTP. It is read-only: nothing here changes what the hub does.

``server`` answers, ``state`` and ``metrics`` are what it answers with. Counterparts: :mod:`spnhub.hub_process`, whose
loop it runs in; :mod:`spnhub.cli.check`, which reads ``/state``.

Nothing is imported here: a hub without ``--ops`` loads no HTTP server, and no metrics.
"""
