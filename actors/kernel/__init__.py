"""What every actor is built on: mailbox, timers, the shared environment, the work queue, rate-limited counters.

pykka is used in ``runtime`` alone. ``environment`` applies what actors decide; nothing else changes the state. Imports
``contract`` and the fold of the events, but no actor.
"""
