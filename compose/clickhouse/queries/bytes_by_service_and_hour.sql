-- Bytes that each service carried in each hour: the sum of the deltas of that time, as `spnlog metrics --by hour` has it.
-- The start of a resumed connection's leg has the last word on what the leg before carried: what was replayed is taken
-- off again, what a crash left untold is added, as soon as both are known.
WITH
    legs AS
    (
        SELECT
            realm,
            connectionUid,
            epoch,
            any(serviceUrn) AS service,
            min(timestamp) AS startedAt,
            max(startSentOffset) AS startSent,
            max(startReceiveOffset) AS startReceived,
            maxIf(timestamp, eventType = 'endSpnConnection') AS endedAt,
            maxIf(startSentOffset + totalSentBytes, eventType = 'endSpnConnection') AS endSent,
            maxIf(startReceiveOffset + totalReceiveBytes, eventType = 'endSpnConnection') AS endReceived
        FROM spn.events FINAL
        WHERE eventType IN ('startSpnConnection', 'endSpnConnection')
        GROUP BY realm, connectionUid, epoch
    ),
    corrections AS
    (
        SELECT
            service,
            greatest(startedAt, lagInFrame(endedAt) OVER conversation) AS at,
            startSent - lagInFrame(endSent) OVER conversation AS sent,
            startReceived - lagInFrame(endReceived) OVER conversation AS received
        FROM legs
        WINDOW conversation AS (
            PARTITION BY realm, connectionUid ORDER BY epoch ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        )
    )
SELECT
    service,
    toStartOfHour(at) AS hour,
    sum(sent) AS sentBytes,
    sum(received) AS receivedBytes
FROM
(
    SELECT serviceUrn AS service, timestamp AS at, deltaSentBytes AS sent, deltaReceiveBytes AS received
    FROM spn.events FINAL
    WHERE deltaSentBytes IS NOT NULL
    UNION ALL
    SELECT service, at, sent, received FROM corrections
)
WHERE sent != 0 OR received != 0
GROUP BY service, hour
ORDER BY hour, service;
