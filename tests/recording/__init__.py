"""Tests of :mod:`spnhub.recording`."""
