
-- The owners of the watched tables may read all this, and no more: their pg_dump would fail as a whole otherwise.
DO $cdc_sync$
{readable}
$cdc_sync$;
