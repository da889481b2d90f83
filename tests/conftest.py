"""What all tests share: the fixtures of a real Kafka broker."""

pytest_plugins = ["tests.support.kafka_fixtures"]
