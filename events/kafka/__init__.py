"""The log in Kafka: settings, the topic and its faults, one reader of all of it, and members of a consumer group.

aiokafka is used here and by the shipper's process. Imports the event model; knows nothing of the journal.
"""
