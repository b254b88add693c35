-- From the schema of 0.2.0 and 0.2.1. What is being called is in the sender's memory only: a claim is an attempt.
UPDATE cdc_sync.outbox
   SET attempted = true, attempts = attempts + 1, first_attempt_at = coalesce(first_attempt_at, due_at)
 WHERE claimed_by IS NOT NULL;
ALTER TABLE cdc_sync.outbox DROP COLUMN claimed_by;
ALTER TABLE cdc_sync.watch DROP COLUMN leased_by;
DROP FUNCTION cdc_sync.forget_verified() CASCADE;
DROP INDEX cdc_sync.history_failures;
DROP TABLE cdc_sync.condition, cdc_sync.daemon;

-- An entry's endpoint has its account, and so has a state's metadata; without one it is the default account's. What a watch
-- with headers of its own was sent, or waits, is of the account with the watch's name. The note `credentials` has the
-- watches of the last daemon, each with the owner of its own headers, NULL without any.
WITH with_own (watch) AS (
    SELECT o.key FROM cdc_sync.about a CROSS JOIN LATERAL json_each_text(a.value::json) AS o
     WHERE a.name = 'credentials' AND o.value IS NOT NULL),
known AS (
    UPDATE cdc_sync.snapshot AS s
       SET metadata = left(s.metadata, -1) || ',"account":' || to_json(s.watch)::text || '}'
      FROM with_own WHERE s.watch = with_own.watch AND s.metadata IS NOT NULL)
UPDATE cdc_sync.outbox AS s
   SET metadata = left(s.metadata, -1) || ',"account":' || to_json(s.watch)::text || '}',
       endpoint = CASE s.endpoint WHEN 'nowhere' THEN s.endpoint ELSE s.endpoint || ' [' || s.watch || ']' END
  FROM with_own WHERE s.watch = with_own.watch;
INSERT INTO cdc_sync.endpoint (endpoint) SELECT DISTINCT endpoint FROM cdc_sync.outbox WHERE state = 'pending'
    ON CONFLICT DO NOTHING;
-- Who shared paused headers is paused: each watch has an endpoint of its own now.
UPDATE cdc_sync.about AS a
   SET value = (SELECT coalesce(json_agg(endpoint), '[]')::text FROM (
       SELECT p.endpoint FROM json_array_elements_text(a.value::json) AS p (endpoint)
       UNION
       SELECT replace(p.endpoint, ' [' || o.value || ']', ' [' || o.key || ']')
         FROM json_array_elements_text(a.value::json) AS p (endpoint), cdc_sync.about AS c,
              json_each_text(c.value::json) AS o
        WHERE c.name = 'credentials' AND o.value IS NOT NULL) AS paused)
 WHERE a.name = 'paused';
DELETE FROM cdc_sync.about WHERE name IN ('credentials', 'actions');
