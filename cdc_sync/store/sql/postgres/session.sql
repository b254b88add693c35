-- Whatever the role or the database sets: a commit is on disk when it returns.
-- Prepared statements are planned for their values each time: a plan made for an empty outbox would last until the next
-- autovacuum. Before version 12 PostgreSQL has no such setting, and nothing is prepared. Nor behind a pooler that shares
-- sessions: others would keep the setting.
SELECT set_config('default_transaction_read_only', 'off', false),
       CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END,
       CASE WHEN own.is_own AND current_setting('plan_cache_mode', true) IS NOT NULL
            THEN set_config('plan_cache_mode', 'force_custom_plan', false) END IS NOT NULL
  FROM (SELECT pg_backend_pid() = %s) AS own (is_own)
