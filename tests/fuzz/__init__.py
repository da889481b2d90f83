"""Fuzzing: every parser that takes bytes from a peer, a file, a topic, a registry or over HTTP.

:mod:`.table` is the list of harnesses, and the only one. ``python -m tests.fuzz`` runs them, each as long as it is
told: inputs that are changed at random, of a fixed seed, then such as coverage leads to, where atheris is installed. A
slice is in :mod:`.test_fuzz`, the long run in ``make prove``. ``corpus/`` keeps what was found, a file for each.
"""
