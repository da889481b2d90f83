"""The process that brings the journal's frames to Kafka, in order and without a loss.

``process`` is the hub's side of it, ``shipper`` where that process begins, ``loop`` its work. Imports ``journal`` and
``kafka``; the hub's own process imports ``process`` alone.
"""
