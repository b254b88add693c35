-- SQLite's own statements.

-- name: set_session
-- The former leader of a file has ended, and its sessions with it: so a known watch connects while the disk is full, too.
INSERT INTO watch (name) VALUES (:watch) ON CONFLICT DO NOTHING;

-- name: compare
SELECT coalesce(s.number,
                CASE substr(e.value, 1, 1)
                WHEN 'n' THEN 0
                WHEN 'o' THEN coalesce((SELECT -1 FROM @snapshot o
                                         WHERE o.watch = :watch AND o.in_scope = 1
                                           AND o.application_id = json_extract(substr(e.value, 2), '$[1]')), 0)
                ELSE -1
                END)
  FROM json_each(:digests) e
  LEFT JOIN @snapshot s
    ON s.watch = :watch AND s.row_key = substr(e.value, 17) AND s.verified = substr(e.value, 1, 16)
   AND NOT @has_entry;

-- name: skipped_of_each
SELECT k.watch, k.row_key, k.application_id, k.reason FROM @each(watches) w
 CROSS JOIN @skipped k
    ON k.watch = w.value
   AND k.row_key IN (SELECT i.row_key FROM @skipped i WHERE i.watch = w.value ORDER BY i.row_key LIMIT :limit);
