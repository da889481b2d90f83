"""What there is, what flows and what went wrong, now and at any moment of the log: for the browser and the terminal.

``page`` makes one page of it (pure, the same for both), ``flow`` the rates on it, ``live`` follows the sources.
Counterparts: :mod:`spnhub.events.analysis` (the folds), :mod:`spnhub.cli.log_top`.
"""
