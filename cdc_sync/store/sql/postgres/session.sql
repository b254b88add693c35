-- Whatever the role or the database sets: a commit is on disk when it returns, and the server ends no session of ours while
-- it works. Prepared statements are planned for their values each time: a plan made for an empty outbox would last until the
-- next autovacuum. Before version 12 PostgreSQL has no such setting.
SELECT set_config('default_transaction_read_only', 'off', false),
       set_config('array_nulls', 'on', false),
       CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END,
       CASE WHEN current_setting('plan_cache_mode', true) IS NOT NULL
            THEN set_config('plan_cache_mode', 'force_custom_plan', false) END,
       CASE WHEN current_setting('transaction_timeout', true) IS NOT NULL
            THEN set_config('transaction_timeout', '0', false) END
