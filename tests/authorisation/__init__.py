"""Who gets a session: a table (:mod:`.axes`), what the specification makes of each cell (:mod:`.oracle`), and each run.

:mod:`.credentials` makes the certificates, :mod:`.world` is the hub that they are shown to, and :mod:`.page` writes the
table into the documents (``python -m tests.authorisation``).
"""
