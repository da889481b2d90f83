"""The event log: what is recorded, where it is kept, how it is shipped to Kafka, read, folded and verified."""
