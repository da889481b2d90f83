"""What every actor stands on: its mailbox, timers, the shared environment, work in slices, rate-limited counters.

pykka is used in ``runtime`` alone. ``environment`` applies what actors decide; nothing else changes the state. Imports
``contract`` and the fold of the events; knows no actor.
"""
