-- What happens to the application of the entry `o`, as people group and name it; `transition` in `core/diff.py` says the same.
(SELECT CASE WHEN o.deleted AND NOT coalesce(s.deleted, FALSE) THEN 'deleted'
             WHEN s.status IS NULL THEN '(new) → ' || o.status
             WHEN s.deleted AND NOT o.deleted THEN 'deleted → ' || o.status
             WHEN s.job_id = o.job_id THEN s.status || ' → ' || o.status
             WHEN s.status = o.status THEN 'job ' || s.job_id || ' → ' || o.job_id
             ELSE s.status || ' → ' || o.status || ', job ' || s.job_id || ' → ' || o.job_id END
   FROM @snapshot s WHERE s.watch = o.watch AND s.application_id = o.application_id)
