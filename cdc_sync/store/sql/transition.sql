-- The transition of the entry `o`, by which people group entries; the same as `transition` in `core/diff.py`.
(SELECT CASE WHEN o.deleted AND NOT coalesce(s.deleted, FALSE) THEN 'deleted'
             WHEN s.status IS NULL THEN '(new) → ' || o.status
             WHEN s.deleted AND NOT o.deleted THEN 'deleted → ' || o.status
             WHEN s.job_id = o.job_id THEN s.status || ' → ' || o.status
             WHEN s.status = o.status THEN 'job ' || s.job_id || ' → ' || o.job_id
             ELSE s.status || ' → ' || o.status || ', job ' || s.job_id || ' → ' || o.job_id END
   FROM @snapshot s WHERE s.watch = o.watch AND s.application_id = o.application_id)
