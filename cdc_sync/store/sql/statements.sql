-- The store's statements, for both databases; see `statements.py` for the tokens. Each database's own.sql adds some.

-- The parts of statements. They stand for `@NAME` in those that follow.

-- name: @entry
o.watch, o.application_id, o.status, o.job_id, o.deleted, o.metadata, o.kinds, o.state, o.revision, o.queued_at, o.due_at,
o.attempted, o.attempts, o.first_attempt_at, o.not_found_since, o.reason

-- name: @transition
-- The transition of the entry `o`, by which people group entries; the same as `transition` in `core/diff.py`.
(SELECT CASE WHEN o.deleted AND NOT coalesce(s.deleted, FALSE) THEN 'deleted'
             WHEN s.status IS NULL THEN '(new) → ' || o.status
             WHEN s.deleted AND NOT o.deleted THEN 'deleted → ' || o.status
             WHEN s.job_id = o.job_id THEN s.status || ' → ' || o.status
             WHEN s.status = o.status THEN 'job ' || s.job_id || ' → ' || o.job_id
             ELSE s.status || ' → ' || o.status || ', job ' || s.job_id || ' → ' || o.job_id END
   FROM @snapshot s WHERE s.watch = o.watch AND s.application_id = o.application_id)

-- name: @chosen
-- A person's choice of entries: see `acts.Chosen`.
o.watch @in(watches)
   AND (:any_id OR o.application_id @in(ids))
   AND (CAST(:deleted AS boolean) IS NULL OR o.deleted = :deleted)
   AND (CAST(:transition AS text) IS NULL OR :transition = @transition)
   AND (CAST(:mark AS text) IS NULL OR (replace(o.metadata, :mark, '') <> o.metadata) = :marked)

-- name: @same
-- The row `t` is about the application of `x`.
t.watch = x.watch AND t.application_id = x.application_id

-- name: @still_so
-- The record `t` is as the row was when it was compared.
@same AND t.row_key = x.row_key AND t.in_scope
   AND (x.status IS NULL OR (t.status = x.status AND t.job_id = x.job_id AND t.deleted = x.deleted))

-- name: @listed
-- An application of the rows.
(watch, application_id) IN (SELECT x.watch, x.application_id FROM @rows)

-- name: @has_entry
-- The application of the record `s` has an entry.
EXISTS (SELECT 1 FROM @outbox o WHERE o.watch = s.watch AND o.application_id = s.application_id)

-- name: @of_lane
-- The entry `o` waits in the lane.
o.state = 'pending' AND o.endpoint = :endpoint AND o.watch = :watch

-- name: @sendable
-- The entry `o` of the lane may be called now. While its application is suspected, nothing is sent of it.
@of_lane AND o.due_at <= :now AND NOT o.application_id @in(besides)
AND NOT EXISTS (SELECT 1 FROM @suspicion u WHERE u.watch = o.watch AND u.application_id = o.application_id)

-- name: fuse
SELECT fuse FROM @watch WHERE name = :watch;

-- name: session
SELECT session FROM @watch WHERE name = :watch;

-- name: set_session
INSERT INTO @watch (name, session) VALUES (:watch, :session)
ON CONFLICT (name) DO UPDATE SET session = excluded.session;

-- name: @known
s.number, s.application_id, s.row_key, s.in_scope, s.status, s.job_id, s.deleted, s.metadata, s.acknowledged_at, s.adopted,
EXISTS (SELECT 1 FROM @suspicion u WHERE u.watch = s.watch AND u.application_id = s.application_id), @entry

-- name: before
-- By application, and by rows that belonged to another application.
SELECT @known
  FROM (SELECT f.number FROM @each(ids) i
         CROSS JOIN @found snapshot f WHERE f.watch = :watch AND f.application_id = i.value
         UNION ALL
        SELECT f.number FROM @each_pair(rows) j
         CROSS JOIN @found snapshot f WHERE f.watch = :watch AND f.row_key = j.first AND f.application_id <> j.second
       ) AS found
 CROSS JOIN @found snapshot s WHERE s.number = found.number
  LEFT JOIN @found outbox o WHERE o.watch = s.watch AND o.application_id = s.application_id;

-- name: elsewhere
-- `|| ''` keeps SQLite from the index of watches, of which there may be a thousand.
SELECT s.watch, @known
  FROM @each(ids) i
 CROSS JOIN @found snapshot s WHERE s.application_id = i.value
  LEFT JOIN @found outbox o WHERE o.watch = s.watch AND o.application_id = s.application_id
 WHERE (s.watch || '') @in(watches)
 ORDER BY s.acknowledged_at NULLS FIRST;

-- name: current
SELECT @entry FROM @each_pair(ids) i
 CROSS JOIN @found outbox o WHERE o.watch = i.first AND o.application_id = i.second;

-- name: metadata
SELECT s.watch, s.application_id, s.metadata FROM @each_pair(ids) i
 CROSS JOIN @found snapshot s WHERE s.watch = i.first AND s.application_id = i.second;

-- name: remove(watch text, application_id text)
DELETE FROM @outbox WHERE @listed;

-- name: forget_application(watch text, application_id text)
DELETE FROM @snapshot WHERE @listed;

-- name: forget_lines(watch text, application_id text)
-- The first condition has an index.
DELETE FROM @history WHERE application_id IN (SELECT x.application_id FROM @rows) AND @listed;

-- name: forget_rows(watch text, application_id text)
DELETE FROM @skipped WHERE application_id IN (SELECT x.application_id FROM @rows) AND @listed;

-- name: deleted_before
-- Some numbers at a time: applications whose deletion was acknowledged before then.
SELECT s.watch, s.application_id FROM @snapshot s
 WHERE s.number > :after AND s.number <= :last AND s.deleted AND s.acknowledged_at < :before AND NOT @has_entry
 ORDER BY s.watch, s.application_id;

-- name: prunable
-- Lines of the history that are too old, or too many.
SELECT number FROM (SELECT number, at FROM @history ORDER BY number LIMIT :limit) AS oldest
 WHERE at < :before OR number <= (SELECT max(number) FROM @history) - :keep;

-- name: prune(number bigint)
DELETE FROM @history WHERE number IN (SELECT x.number FROM @rows);

-- name: seen_new(watch text, application_id text, row_key text)
INSERT INTO @snapshot @given;

-- name: adopt_new(watch text, application_id text, row_key text, status text, job_id text, deleted boolean, metadata text, acknowledged_at bigint, adopted boolean, verified text)
INSERT INTO @snapshot @given;

-- name: move(watch text, application_id text, row_key text)
UPDATE @snapshot AS t SET row_key = x.row_key, in_scope = TRUE, verified = NULL FROM @rows WHERE @same;

-- name: acknowledge(watch text, application_id text, status text, job_id text, deleted boolean, metadata text, at bigint, adopted boolean)
UPDATE @snapshot AS t
   SET status = x.status, job_id = x.job_id, deleted = x.deleted, metadata = x.metadata, acknowledged_at = x.at,
       adopted = x.adopted, verified = NULL
  FROM @rows WHERE @same;

-- name: leave_scope(watch text, application_id text)
UPDATE @snapshot AS t SET in_scope = FALSE, verified = NULL FROM @rows WHERE @same AND t.in_scope;

-- name: verify(watch text, application_id text, row_key text, digest text, status text, job_id text, deleted boolean)
UPDATE @snapshot AS t SET verified = x.digest FROM @rows WHERE @still_so;

-- name: enqueue(watch text, application_id text, status text, job_id text, deleted boolean, metadata text, kinds text, state text, revision bigint, queued_at bigint, due_at bigint, attempted boolean, attempts bigint, reason text, endpoint text)
-- What was attempted stays so.
INSERT INTO @outbox AS o @given
ON CONFLICT (watch, application_id) DO UPDATE
   SET status = excluded.status, job_id = excluded.job_id, deleted = excluded.deleted, metadata = excluded.metadata,
       kinds = excluded.kinds, state = excluded.state, revision = o.revision + 1, queued_at = excluded.queued_at,
       due_at = excluded.due_at, attempts = 0, first_attempt_at = NULL, not_found_since = NULL,
       reason = excluded.reason, endpoint = excluded.endpoint;

-- name: refresh(watch text, application_id text, metadata text, endpoint text)
UPDATE @outbox AS t SET metadata = x.metadata, endpoint = x.endpoint, revision = t.revision + 1
  FROM @rows WHERE @same;

-- name: add_endpoint(endpoint text)
INSERT INTO @endpoint @given ON CONFLICT DO NOTHING;

-- name: tally(name text, known bigint, changed_at bigint, fuse text)
INSERT INTO @watch AS w @given
ON CONFLICT (name) DO UPDATE
   SET known = w.known + excluded.known, changed_at = coalesce(excluded.changed_at, w.changed_at),
       fuse = coalesce(excluded.fuse, w.fuse);

-- name: set_fuse
INSERT INTO @watch (name, fuse) VALUES (:watch, :fuse) ON CONFLICT (name) DO UPDATE SET fuse = excluded.fuse;

-- name: fuses_of_accounts
SELECT account, fuse FROM @account_fuse WHERE watch = :watch AND account @in(accounts);

-- name: set_account_fuse(watch text, account text, fuse text)
INSERT INTO @account_fuse @given ON CONFLICT (watch, account) DO UPDATE SET fuse = excluded.fuse;

-- name: forget_fuses
DELETE FROM @account_fuse WHERE watch = :watch;

-- name: suspect(watch text, application_id text, at bigint, due_at bigint)
INSERT INTO @suspicion @given ON CONFLICT (watch, application_id) DO NOTHING;

-- name: set_suspicion_due(watch text, application_id text, due_at bigint)
UPDATE @suspicion AS t SET due_at = x.due_at FROM @rows WHERE @same;

-- name: answer(watch text, application_id text)
DELETE FROM @suspicion WHERE @listed;

-- name: due_suspicions
SELECT application_id, at, due_at FROM @suspicion
 WHERE watch = :watch AND due_at <= :now ORDER BY due_at, application_id LIMIT :limit;

-- name: suspected
SELECT application_id FROM @suspicion WHERE watch = :watch AND application_id @in(ids);

-- name: next_suspicion
SELECT min(due_at) FROM @suspicion WHERE watch = :watch;

-- name: skip(watch text, row_key text, application_id text, reason text, at bigint)
INSERT INTO @skipped @given
ON CONFLICT (watch, row_key) DO UPDATE
   SET application_id = excluded.application_id, reason = excluded.reason, at = excluded.at;

-- name: unskip(watch text, row_key text)
DELETE FROM @skipped WHERE (watch, row_key) IN (SELECT x.watch, x.row_key FROM @rows);

-- name: set_position(watch text, name text, value text)
INSERT INTO @position @given ON CONFLICT (watch, name) DO UPDATE SET value = excluded.value;

-- name: positions
SELECT name, value FROM @position WHERE watch = :watch;

-- name: add_history(at bigint, watch text, application_id text, event text, detail text)
INSERT INTO @history @given;

-- name: end_attempt(watch text, application_id text, attempted boolean, attempts bigint, state text, due_at bigint, first_attempt_at bigint, not_found_since bigint, reason text)
UPDATE @outbox AS t
   SET attempted = x.attempted, attempts = x.attempts, state = x.state, due_at = x.due_at,
       first_attempt_at = x.first_attempt_at, not_found_since = x.not_found_since, reason = x.reason
  FROM @rows WHERE @same;

-- name: mark_attempted(watch text, application_id text)
UPDATE @outbox AS t SET attempted = TRUE FROM @rows WHERE @same;

-- name: count_calls(step bigint, outcome text, count bigint)
INSERT INTO @call_count AS c @given
ON CONFLICT (step, outcome) DO UPDATE SET count = c.count + excluded.count;

-- name: set_health(endpoint text, health text)
INSERT INTO @endpoint @given ON CONFLICT (endpoint) DO UPDATE SET health = excluded.health;

-- name: endpoints
SELECT endpoint, health FROM @endpoint;

-- name: lanes
-- From watch to watch, one step in the index for each, however many entries wait.
WITH RECURSIVE lane (endpoint, watch) AS (
    SELECT e.endpoint, (SELECT o.watch FROM @outbox o WHERE o.state = 'pending' AND o.endpoint = e.endpoint
                         ORDER BY o.watch LIMIT 1)
      FROM @endpoint e
    UNION ALL
    SELECT l.endpoint, (SELECT o.watch FROM @outbox o
                         WHERE o.state = 'pending' AND o.endpoint = l.endpoint AND o.watch > l.watch
                         ORDER BY o.watch LIMIT 1)
      FROM lane l WHERE l.watch IS NOT NULL
)
SELECT l.endpoint, l.watch, (SELECT o.due_at FROM @outbox o
                              WHERE o.state = 'pending' AND o.endpoint = l.endpoint AND o.watch = l.watch
                              ORDER BY o.due_at LIMIT 1)
  FROM lane l WHERE l.watch IS NOT NULL;

-- name: pending_in
SELECT count(*) FROM @outbox o WHERE @of_lane;

-- name: due
-- Ordered as the index, and by nothing else: a tie-break would sort all due entries. A probe reads them all, for the
-- least attempted, but only once after each wait of the endpoint.
SELECT @entry FROM @outbox o
 WHERE @sendable
   AND (NOT CAST(:probing AS boolean) OR o.attempts = (SELECT min(o.attempts) FROM @outbox o WHERE @sendable))
 ORDER BY o.due_at LIMIT :limit;

-- name: next_due
SELECT min(o.due_at) FROM @outbox o WHERE @of_lane AND o.due_at > :now;

-- name: entries_due_after
SELECT watch, application_id FROM @outbox WHERE due_at > :latest AND watch @in(watches) LIMIT :limit;

-- name: suspicions_due_after
SELECT watch, application_id FROM @suspicion WHERE due_at > :latest AND watch @in(watches) LIMIT :limit;

-- name: in_state
SELECT o.watch, o.application_id, o.revision FROM @outbox o WHERE o.state = :state AND @chosen
 ORDER BY o.queued_at, o.watch, o.application_id LIMIT :limit;

-- name: held_groups
-- The same selection, by one walk through the held entries; each group's oldest entries are the examples.
WITH held AS (
SELECT o.watch, o.application_id, o.queued_at, coalesce(o.reason, '') AS reason, @transition AS transition
  FROM @outbox o WHERE o.state = 'held' AND @chosen),
numbered AS (
SELECT watch, transition, application_id, count(*) OVER of_group AS number, min(queued_at) OVER of_group AS since,
       min(reason) OVER of_group AS reason, max(reason) OVER of_group AS other_reason,
       row_number() OVER (PARTITION BY watch, transition ORDER BY queued_at, application_id) AS place
  FROM held
WINDOW of_group AS (PARTITION BY watch, transition))
SELECT watch, transition, number, since, reason, other_reason, application_id
  FROM numbered WHERE place <= :examples ORDER BY watch, number DESC, transition, place;

-- name: revive(watch text, application_id text, due_at bigint, endpoint text)
UPDATE @outbox AS t
   SET state = 'pending', due_at = x.due_at, attempts = 0, first_attempt_at = NULL, not_found_since = NULL,
       reason = NULL, endpoint = x.endpoint
  FROM @rows WHERE @same;

-- name: set_entry_due(watch text, application_id text, due_at bigint)
UPDATE @outbox AS t SET due_at = x.due_at FROM @rows WHERE @same;

-- name: held_left
SELECT count(*) FROM (SELECT 1 AS one FROM @outbox WHERE state = 'held' AND watch = :watch LIMIT 1) AS found;

-- name: fuses
SELECT name, fuse FROM @watch WHERE fuse IS NOT NULL;

-- name: add_repairs(watch text, cause text, count bigint)
INSERT INTO @repair AS r @given
ON CONFLICT (watch, cause) DO UPDATE SET count = r.count + excluded.count;

-- name: set_condition(name text, message text, since bigint)
INSERT INTO @condition @given ON CONFLICT (name) DO UPDATE SET message = excluded.message;

-- name: clear_condition(name text)
DELETE FROM @condition WHERE name IN (SELECT x.name FROM @rows);

-- name: conditions
SELECT name, message, since FROM @condition ORDER BY since, name;

-- name: leader
SELECT holder, host, process, place, since, lease, beat, backend, configuration, stopped FROM @leader;

-- name: lead
INSERT INTO @leader (one, holder, host, process, place, since, lease, beat, backend, configuration, stopped)
VALUES (1, :holder, :host, :process, :place, :since, :lease, :beat, :backend, :configuration, :stopped)
ON CONFLICT (one) DO UPDATE
   SET holder = excluded.holder, host = excluded.host, process = excluded.process, place = excluded.place,
       since = excluded.since, lease = excluded.lease, beat = excluded.beat, backend = excluded.backend,
       configuration = excluded.configuration, stopped = excluded.stopped;

-- name: stop_leading
UPDATE @leader SET stopped = TRUE WHERE holder = :holder;

-- name: prune_call_counts
DELETE FROM @call_count WHERE step <= :until;

-- name: add_request
INSERT INTO @request (id, what, arguments, asked_at, expires_at)
VALUES (:id, :what, :arguments, @clock, @clock + :within);

-- name: next_request
-- One that was asked in the future is void, too: the clock was set back, and its deadline would come late. Its command
-- cannot take it back while it is executed; one that is taken back is left out.
SELECT id, what, arguments, @clock BETWEEN asked_at AND expires_at
  FROM @request WHERE answer IS NULL ORDER BY number LIMIT 1 @unlocked;

-- name: answer_request
UPDATE @request SET answer = :answer, answered_at = @clock WHERE id = :id;

-- name: answer_to
SELECT answer FROM @request WHERE id = :id;

-- name: lock_request
-- The leader may be executing it.
UPDATE @request SET id = id WHERE id = :id;

-- name: remove_request
DELETE FROM @request WHERE id = :id;

-- name: prune_requests
-- Those of commands that were killed: a living one removes its request within a minute.
DELETE FROM @request WHERE NOT @clock BETWEEN asked_at - 60000 AND expires_at + 60000;

-- name: about
SELECT value FROM @about WHERE name = :name;

-- name: set_about
INSERT INTO @about (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: newest_event
SELECT coalesce((SELECT at FROM @history ORDER BY number DESC LIMIT 1), 0);

-- name: watches
SELECT name FROM @watch;

-- name: entries
SELECT @entry FROM @outbox o WHERE o.state = :state AND o.watch = :watch
 ORDER BY o.queued_at, o.application_id LIMIT :limit;

-- name: oldest
SELECT @entry
  FROM (SELECT w.name AS watch, (SELECT i.application_id FROM @outbox i
                                  WHERE i.state = :state AND i.watch = w.name
                                  ORDER BY i.queued_at, i.application_id LIMIT 1) AS application_id
          FROM @watch w) AS wanted
 CROSS JOIN @found outbox o WHERE o.watch = wanted.watch AND o.application_id = wanted.application_id;

-- name: counts
-- Numbers to add up, by watch and name.
WITH of_outbox AS (SELECT watch, state, count(*) AS number, min(queued_at) AS oldest FROM @outbox GROUP BY watch, state)
SELECT name, 'known', known FROM @watch
UNION ALL
SELECT name, 'changed_at', changed_at FROM @watch WHERE changed_at IS NOT NULL
UNION ALL
SELECT watch, state, number FROM of_outbox
UNION ALL
SELECT watch, 'oldest_queued_at', oldest FROM of_outbox WHERE state = 'pending'
UNION ALL
SELECT watch, 'skipped', count(*) FROM @skipped GROUP BY watch
UNION ALL
SELECT watch, 'suspected', count(*) FROM @suspicion GROUP BY watch;

-- name: entries_after
-- In any state, so that the primary key gives the order and a page costs a page.
SELECT o.application_id, o.state,
       (SELECT s.row_key FROM @snapshot s WHERE s.watch = o.watch AND s.application_id = o.application_id)
  FROM @outbox o WHERE o.watch = :watch AND o.application_id > :after
 ORDER BY o.application_id LIMIT :limit;

-- name: captured_any
SELECT EXISTS (SELECT 1 FROM @position WHERE name = 'baseline');

-- name: known_of
SELECT known FROM @watch WHERE name = :watch;

-- name: positions_of_all
SELECT watch, name, value FROM @position WHERE name @in(names);

-- name: records
-- Each record of an application. From o.watch on: the entry.
SELECT s.watch, s.row_key, s.in_scope, s.status, s.job_id, s.deleted, s.metadata, s.acknowledged_at, s.adopted,
       p.at, p.due_at, @entry
  FROM @snapshot s
  LEFT JOIN @suspicion p ON p.watch = s.watch AND p.application_id = s.application_id
  LEFT JOIN @outbox o ON o.watch = s.watch AND o.application_id = s.application_id
 WHERE s.application_id = :id AND s.watch @in(watches) ORDER BY s.watch;

-- name: skipped_rows
SELECT watch, row_key, reason FROM @skipped WHERE application_id = :id AND watch @in(watches) ORDER BY watch, row_key;

-- name: hits
-- Applications by their id or row; `|| ''` keeps SQLite from the index of watches.
SELECT watch, application_id, row_key, NULL AS reason
  FROM @snapshot WHERE application_id = :id AND (watch || '') @in(watches)
UNION ALL
SELECT watch, application_id, row_key, NULL FROM @snapshot WHERE watch @in(watches) AND row_key @in(keys)
UNION ALL
-- Many rows may have one refused id.
SELECT * FROM (SELECT watch, application_id, row_key, reason
                 FROM @skipped WHERE application_id = :id AND (watch || '') @in(watches)
                LIMIT :limit) AS of_id
UNION ALL
SELECT watch, application_id, row_key, reason FROM @skipped WHERE watch @in(watches) AND row_key @in(keys);

-- name: story
SELECT at, watch, application_id, event, detail FROM @history
 WHERE application_id = :id ORDER BY number DESC LIMIT :limit;

-- name: recent_failures
-- SQLite uses the index only if its condition stands here word for word. Of 0.2.0 some were acknowledged; `detail` as text:
-- JSON may hold an escaped U+0000, which PostgreSQL does not parse.
SELECT number, at, watch, application_id, event, detail FROM @history
 WHERE event IN ('answered', 'dead-lettered')
   AND NOT (:failed AND event = 'answered' AND detail LIKE '%"acknowledged":%')
 ORDER BY number DESC LIMIT :limit;

-- name: recent_acknowledgements
-- Among the newest events only: nearly every second event is one.
SELECT number, at, watch, application_id, event, detail FROM @history
 WHERE event = 'acknowledged' AND number > (SELECT max(number) FROM @history) - :among
 ORDER BY number DESC LIMIT :limit;

-- name: call_counts
SELECT step, outcome, count FROM @call_count WHERE step > :after ORDER BY step;

-- name: repairs
SELECT watch, cause, count FROM @repair ORDER BY watch, cause;

-- name: in_scope_after
SELECT s.application_id, s.number FROM @snapshot s
  LEFT JOIN @outbox o ON o.watch = s.watch AND o.application_id = s.application_id
 WHERE s.watch = :watch AND s.application_id > :after AND s.in_scope AND NOT coalesce(o.deleted, s.deleted)
 ORDER BY s.application_id LIMIT :limit;

-- name: highest_number
SELECT coalesce(max(number), 0) FROM @snapshot;

-- name: forget_watch
DELETE FROM @watch WHERE name = :watch;

-- name: forget_positions
DELETE FROM @position WHERE watch = :watch;

-- name: forget_repairs
DELETE FROM @repair WHERE watch = :watch;

-- name: forget_suspicions
DELETE FROM @suspicion WHERE watch = :watch;

-- name: forget_outbox
-- At once, so that nothing of it is sent between two steps.
DELETE FROM @outbox WHERE watch = :watch;

-- name: records_of_account
-- By the account in their metadata, some numbers at a time.
SELECT s.watch, s.application_id, @has_entry FROM @snapshot s
 WHERE s.number > :after AND s.number <= :last AND replace(s.metadata, :mark, '') <> s.metadata;

-- name: unacknowledge(watch text, application_id text)
UPDATE @snapshot AS s
   SET status = NULL, job_id = NULL, deleted = NULL, metadata = NULL, acknowledged_at = NULL, adopted = FALSE,
       verified = NULL
  FROM @rows WHERE s.watch = x.watch AND s.application_id = x.application_id;

-- name: entries_of_account
SELECT watch, application_id FROM @outbox WHERE replace(metadata, :mark, '') <> metadata;

-- name: some_records
SELECT watch, application_id FROM @snapshot WHERE watch = :watch LIMIT :limit;

-- name: some_lines
SELECT number FROM @history WHERE watch = :watch LIMIT :limit;
