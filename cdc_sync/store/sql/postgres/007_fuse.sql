-- The fuse drains instead of counting in windows. One that was blown may have been blown for an edited map: it goes on
-- holding everything until a person decides.
UPDATE cdc_sync.watch
   SET fuse = json_build_object(
           'at', fuse::json -> 'window_start',
           'changes', fuse::json -> 'changes',
           'deletions', fuse::json -> 'deletions',
           'blown_at', fuse::json -> 'blown_at',
           'reason', fuse::json -> 'reason',
           'holds_all', fuse::json ->> 'blown_at' IS NOT NULL)::text
 WHERE fuse IS NOT NULL;
