"""Measurements: ``make bench`` (``python -m tests.bench``). Ratios are taken within one run, so machines compare."""
