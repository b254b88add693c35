-- The fuse drains instead of counting in windows. One that was blown may have been blown for an edited map: it goes on
-- holding everything until a person decides.
UPDATE watch
   SET fuse = json_object(
           'at', json_extract(fuse, '$.window_start'),
           'changes', json_extract(fuse, '$.changes'),
           'deletions', json_extract(fuse, '$.deletions'),
           'blown_at', json_extract(fuse, '$.blown_at'),
           'reason', json_extract(fuse, '$.reason'),
           'holds_all', json(CASE WHEN json_extract(fuse, '$.blown_at') IS NULL THEN 'false' ELSE 'true' END))
 WHERE fuse IS NOT NULL;
