-- Whatever the role or the database sets: a commit is on disk when it returns.
SELECT set_config('default_transaction_read_only', 'off', false),
       CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END
