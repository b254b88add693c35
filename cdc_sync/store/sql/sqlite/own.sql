-- SQLite's own statements.

-- name: set_session
-- The former leader of a file has ended, and its sessions with it. So a watch connects while the disk is full, too.
SELECT NULL;

-- name: compare
SELECT json_group_array(
       coalesce(s.number,
                CASE substr(e.value, 1, 1)
                WHEN 'n' THEN 0
                WHEN 'o' THEN coalesce((SELECT -1 FROM @snapshot o
                                         WHERE o.watch = :watch AND o.in_scope = 1
                                           AND o.application_id = json_extract(substr(e.value, 2), '$[1]')), 0)
                ELSE -1
                END))
  FROM json_each(:digests) e
  LEFT JOIN @snapshot s
    ON s.watch = :watch AND s.row_key = substr(e.value, 17) AND s.verified = substr(e.value, 1, 16)
   AND NOT EXISTS (SELECT 1 FROM @outbox o WHERE o.watch = s.watch AND o.application_id = s.application_id);

-- name: entries
-- Watch by watch, in the index's order: a mass change costs only the wanted rows. The same in the next two. The caller
-- sorts the result.
SELECT o.watch, o.application_id, o.status, o.job_id, o.deleted, o.metadata, o.kinds, o.state, o.revision, o.queued_at,
       o.due_at, o.attempted, o.attempts, o.first_attempt_at, o.not_found_since, o.reason
  FROM json_each(:watches) w
 CROSS JOIN @outbox o
    ON o.watch = w.value
   AND o.application_id IN (SELECT i.application_id FROM @outbox i
                             WHERE i.state = :state AND i.watch = w.value
                             ORDER BY i.queued_at, i.application_id LIMIT :each);

-- name: skipped_of_each
SELECT k.watch, k.row_key, k.application_id, k.reason
  FROM json_each(:watches) w
 CROSS JOIN @skipped k
    ON k.watch = w.value
   AND k.row_key IN (SELECT i.row_key FROM @skipped i WHERE i.watch = w.value ORDER BY i.row_key LIMIT :each);

-- name: ids_from
-- The `+` keeps the index of watches away, so that the index of ids gives the order.
SELECT s.watch, s.application_id, s.row_key, NULL AS reason
  FROM json_each(:watches) w
 CROSS JOIN @snapshot s
    ON s.watch = w.value
   AND s.application_id IN (SELECT i.application_id FROM @snapshot i
                             WHERE i.watch = w.value AND i.application_id >= :text
                             ORDER BY i.application_id LIMIT :limit)
UNION ALL
SELECT * FROM (SELECT watch, application_id, row_key, reason
                 FROM @skipped
                WHERE application_id >= :text AND +watch IN (SELECT value FROM json_each(:watches))
                ORDER BY application_id LIMIT :limit) AS unreported;
