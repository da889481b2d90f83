-- Why connections and sessions ended, and what was refused with which code, by service.
SELECT
    ifNull(serviceUrn, '') AS service,
    eventType,
    coalesce(disconnectReason, terminateReason, 'refused') AS ending,
    ifNull(toString(code), '') AS code,
    -- A refused handshake's event may stand for many.
    sum(ifNull(count, 1)) AS times
FROM spn.events FINAL
WHERE eventType IN ('endSpnConnection', 'endSpnSession', 'sessionRefused', 'connectionRefused', 'resumeRefused')
GROUP BY service, eventType, ending, code
ORDER BY times DESC, service, eventType, ending, code;
