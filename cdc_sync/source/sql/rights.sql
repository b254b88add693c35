
-- What others have on all this goes, by ALTER DEFAULT PRIVILEGES for instance: who may put a trigger on the log acts
-- with the rights of our functions' owner, as by the functions themselves whoever may execute them.
DO $cdc_sync$
{revoke}
$cdc_sync$;
