-- Bytes that each service carried in each hour: the sum of the deltas of that time, as `spnlog metrics --by hour` has it.
-- The start of a resumed connection's leg has the last word on what the leg before carried: in the hour of that leg's end,
-- what was replayed is taken off again and what a crash left unreported is added. So has connectionFinished, of a
-- conversation that had ended in order when no hub was there: it counts as a leg that carries nothing.
WITH
    legs AS
    (
        SELECT
            realm,
            connectionUid,
            epoch,
            any(serviceUrn) AS service,
            max(ifNull(startSentOffset, sentOffset)) AS startSent,
            max(ifNull(startReceiveOffset, receiveOffset)) AS startReceived,
            maxIf(timestamp, eventType != 'startSpnConnection') AS endedAt,
            max(ifNull(startSentOffset + totalSentBytes, sentOffset)) AS endSent,
            max(ifNull(startReceiveOffset + totalReceiveBytes, receiveOffset)) AS endReceived
        FROM spn.events FINAL
        WHERE eventType IN ('startSpnConnection', 'endSpnConnection', 'connectionFinished')
        GROUP BY realm, connectionUid, epoch
    ),
    corrections AS
    (
        SELECT
            realm,
            service,
            endedAt AS at,
            leadInFrame(startSent) OVER conversation - endSent AS sent,
            leadInFrame(startReceived) OVER conversation - endReceived AS received
        FROM legs
        WINDOW conversation AS (
            PARTITION BY realm, connectionUid ORDER BY epoch ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
        )
    )
SELECT
    realm,
    service,
    toStartOfHour(at) AS hour,
    sum(sent) AS sentBytes,
    sum(received) AS receivedBytes
FROM
(
    SELECT realm, serviceUrn AS service, timestamp AS at, deltaSentBytes AS sent, deltaReceiveBytes AS received
    FROM spn.events FINAL
    WHERE deltaSentBytes IS NOT NULL
    UNION ALL
    SELECT realm, service, at, sent, received FROM corrections
)
WHERE sent != 0 OR received != 0
GROUP BY realm, service, hour
HAVING sentBytes != 0 OR receivedBytes != 0
ORDER BY hour, realm, service;
