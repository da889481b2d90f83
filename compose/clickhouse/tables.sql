-- The event log in ClickHouse: it reads the topic itself and asks a hub for the schemas (schemas/README.md is the
-- catalogue). Columns are the fields of the events; those that an event doesn't have are null.

CREATE DATABASE IF NOT EXISTS spn;

CREATE TABLE IF NOT EXISTS spn.events
(
    eventId                  String,
    eventType                LowCardinality(String),
    hubId                    LowCardinality(String),
    journalId                String,
    sequence                 Int64,
    timestamp                DateTime64(6, 'UTC'),
    realm                    Nullable(String),
    networkUrn               Nullable(String),
    serviceUrn               Nullable(String),
    spnSessionId             Nullable(String),
    spnEndPoint              Nullable(String),
    endPointType             Nullable(String),
    instanceId               Nullable(String),
    spnConnectionId          Nullable(String),
    consumerSideSpnSessionId Nullable(String),
    providerSideSpnSessionId Nullable(String),
    connectionUid            Nullable(String),
    epoch                    Nullable(Int64),
    startSentOffset          Nullable(Int64),
    startReceiveOffset       Nullable(Int64),
    sentOffset               Nullable(Int64),
    receiveOffset            Nullable(Int64),
    totalSentBytes           Nullable(Int64),
    totalReceiveBytes        Nullable(Int64),
    deltaSentBytes           Nullable(Int64),
    deltaReceiveBytes        Nullable(Int64),
    totalConnectionCount     Nullable(Int64),
    elapsedTime              Nullable(Float64),
    terminateReason          Nullable(String),
    disconnectReason         Nullable(String),
    code                     Nullable(Int64),
    alert                    Nullable(Int64),
    reason                   Nullable(String),
    count                    Nullable(Int64),
    planned                  Nullable(Bool),
    suspended                Nullable(Bool),
    recovered                Nullable(Bool),
    latency                  Nullable(Float64),
    attempt                  Nullable(Int64)
)
-- A redelivered event has the same key: with FINAL it counts once.
ENGINE = ReplacingMergeTree
ORDER BY (hubId, journalId, sequence);

CREATE TABLE IF NOT EXISTS spn.topic AS spn.events
ENGINE = Kafka
SETTINGS
    kafka_broker_list = 'kafka:19092',
    kafka_topic_list = 'spn.events',
    kafka_group_name = 'clickhouse',
    kafka_format = 'AvroConfluent',
    format_avro_schema_registry_url = 'http://hub:9600',
    input_format_avro_allow_missing_fields = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS spn.topic_to_events TO spn.events AS SELECT * FROM spn.topic;
