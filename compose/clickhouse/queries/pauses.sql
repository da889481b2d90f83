-- How often connections were paused, how many of them went on, and after how many seconds, by service. The hub that
-- resumes one may be another than the one that paused it.
SELECT
    service,
    planned,
    count() AS pauses,
    countIf(next = 'connectionResumed') AS resumed,
    quantileIf(0.5)(wait, next = 'connectionResumed') AS medianSeconds,
    maxIf(wait, next = 'connectionResumed') AS longestSeconds
FROM
(
    SELECT
        serviceUrn AS service,
        eventType,
        planned,
        leadInFrame(eventType) OVER story AS next,
        dateDiff('microsecond', timestamp, leadInFrame(timestamp) OVER story) / 1e6 AS wait
    FROM spn.events FINAL
    WHERE eventType IN ('connectionPaused', 'connectionResumed')
    -- Within an epoch the connection is resumed first, and paused afterwards.
    WINDOW story AS (
        PARTITION BY connectionUid ORDER BY epoch, eventType DESC ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
    )
)
WHERE eventType = 'connectionPaused'
GROUP BY service, planned
ORDER BY service, planned;
