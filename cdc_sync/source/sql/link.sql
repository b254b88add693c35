-- What `cdc-sync link` asks and does. Each statement stands below its name. The links are given as arrays of text: one for
-- each part of the key, then the ids and the status URLs.

-- Who waits for rows that we hold must not wait long enough to be taken for a deadlock's victim.
-- name: patience
SELECT set_config('lock_timeout', (extract(epoch FROM least(current_setting('deadlock_timeout')::interval / 2,
                                                            interval '500ms')) * 1000)::int || 'ms', true),
       -- A million links take long to be written down between two statements; a daemon that freezes does not do this.
       set_config('idle_in_transaction_session_timeout', '10min', true)

-- Problems of the links: of each its place, whether its row exists, the key of the row that has its id already and gets
-- no other one, and its row's other id, which is no problem if the last parameter is true (ids are replaced).
-- name: wrong
SELECT given.place::int, t.{first} IS NOT NULL, other.key, own.{value}::text
  FROM unnest({lists}) WITH ORDINALITY AS given ({names}, id, url, place)
  LEFT JOIN {watched} t ON ({watched_key}) {equals} ({values})
  LEFT JOIN {side} own ON ({own_key}) {equals} ({values}) AND own.{value} <> given.id::{type}
  LEFT JOIN LATERAL (SELECT ARRAY[{key_texts}] AS key FROM {side} s
                      WHERE s.{value} = given.id::{type} AND NOT ({side_key}) {equals} ({values})
                        AND NOT ({side_key}) {equals} ANY (SELECT {values} FROM unnest({lists}) AS given ({names}, id, url))
                    ) AS other ON true
 WHERE t.{first} IS NULL OR other.key IS NOT NULL OR own.{value} IS NOT NULL AND NOT %s
 ORDER BY given.place

-- A unique index would not let rows exchange their ids. So each row that gets another one, and has one that another row
-- gets, has for a moment what no application's id is: a text with a control character, a negative number, a UUID of zeros.
-- name: set_aside
UPDATE {side} AS own
   SET {value} = (CASE (SELECT typcategory FROM pg_catalog.pg_type WHERE oid = pg_typeof(own.{value}))
                  WHEN 'N' THEN '-' || given.place
                  WHEN 'U' THEN '00000000-0000-0000-0000-' || lpad(given.place::text, 12, '0')
                  ELSE chr(1) || given.place END)::{type}
  FROM unnest({lists}) WITH ORDINALITY AS given ({names}, id, url, place)
 WHERE ({own_key}) {equals} ({values}) AND own.{value} <> given.id::{type} AND own.{value} = ANY (%s::text[]::{type}[])

-- A URL belongs to its id. Returns of each row that is written whether it is a new one.
-- name: link
INSERT INTO {side} AS s ({key}, {value})
SELECT {values}, given.id::{type} FROM unnest({lists}) WITH ORDINALITY AS given ({names}, id, url, place)
ON CONFLICT ({key}) DO UPDATE SET {value} = excluded.{value}
 WHERE s.{value} IS DISTINCT FROM excluded.{value}
RETURNING (s.xmax = 0)

-- name: link_with_url
INSERT INTO {side} AS s ({key}, {value}, {url})
SELECT {values}, given.id::{type}, given.url FROM unnest({lists}) WITH ORDINALITY AS given ({names}, id, url, place)
ON CONFLICT ({key}) DO UPDATE
   SET {value} = excluded.{value},
       {url} = CASE WHEN s.{value} = excluded.{value} THEN coalesce(excluded.{url}, s.{url}) ELSE excluded.{url} END
 WHERE s.{value} IS DISTINCT FROM excluded.{value}
    OR s.{url} IS DISTINCT FROM coalesce(excluded.{url}, s.{url})
RETURNING (s.xmax = 0)
