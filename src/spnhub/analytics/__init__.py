"""``spnlog serve``: numbers of the event log for Prometheus, by as many processes as are needed.

``serve`` follows the sources and answers over HTTP, ``exposition`` says the numbers in Prometheus' words. Counterparts:
:mod:`spnhub.events.analysis.metrics` (the fold), :mod:`spnhub.events.kafka.group` (who reads which partition).
"""
