-- The starts of services on demand that took longest, in seconds.
SELECT serviceUrn AS service, hubId, timestamp, latency
FROM spn.events FINAL
WHERE eventType = 'serviceStarted'
ORDER BY latency DESC, timestamp
LIMIT 20;
