"""The Avro schemas of events and of protocol packets, and the only code that encodes with them (fastavro)."""
