-- Traps in {schema}: see planted.py. Each part behind the first one is a query that plants one kind and counts them.
DISCARD TEMP;
SET search_path = pg_catalog;
CREATE FUNCTION {schema}.sprung(what text) RETURNS boolean LANGUAGE plpgsql AS $trap$
DECLARE
    place pg_catalog.text;
BEGIN
    GET DIAGNOSTICS place = PG_CONTEXT;
    -- Without this function and the trap.
    place := pg_catalog.regexp_replace(place, '^.* at (GET DIAGNOSTICS|PERFORM)', '');
    RAISE LOG '{sprung}[%] % in {schema}, by %; %; %', pg_catalog.current_database(), what, current_user,
        pg_catalog.regexp_replace(pg_catalog.left(pg_catalog.current_query(), 300), E'\\s+', ' ', 'g'),
        pg_catalog.regexp_replace(pg_catalog.left(place, 400), E'\\s+', ' ', 'g');
    RETURN true;
END $trap$;
CREATE FUNCTION pg_temp.plant(VARIADIC statements text[]) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    statement text;
BEGIN
    FOREACH statement IN ARRAY statements LOOP
        EXECUTE statement;
    END LOOP;
    RETURN 1;
EXCEPTION WHEN OTHERS THEN
    RETURN 0; -- nobody can plant what PostgreSQL refuses
END $$;
CREATE FUNCTION pg_temp.type_of(expression text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    type regtype;
BEGIN
    EXECUTE 'SELECT pg_typeof(' || expression || ')' INTO type;
    RETURN type;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;
-- What calls `sprung`, and gives the right answer.
CREATE FUNCTION pg_temp.trap(name text, arguments text, returned text, trap text, answer text) RETURNS text
LANGUAGE sql AS $$
    SELECT format('CREATE FUNCTION {schema}.%I(%s) RETURNS %s LANGUAGE plpgsql AS '
                  '$trap$BEGIN PERFORM {schema}.sprung(%L); %s; END$trap$', name, arguments, returned, trap, answer)
$$;
-- What our statements compare and pass on.
CREATE TEMPORARY TABLE compared AS SELECT unnest(ARRAY[
    'text', 'name', 'oid', 'regclass', 'bigint', 'integer', '"char"', 'character varying', 'xid', 'boolean', 'smallint',
    'regnamespace', 'regprocedure', 'timestamp with time zone', 'json', 'text[]', 'name[]', 'oid[]'
]) AS type;
CREATE TEMPORARY TABLE words AS SELECT unnest(string_to_array(current_setting('planted.words'), ' ')) AS word;

-- next: operators of each symbol, for each pair of these types for which PostgreSQL has one, exact or not
SELECT sum(pg_temp.plant(
           pg_temp.trap('operator ' || symbol, l || ', ' || r, returned, format('operator %s (%s, %s)', symbol, l, r),
                        format('RETURN $1 OPERATOR(pg_catalog.%s) $2', symbol)),
           format('CREATE OPERATOR {schema}.%s (PROCEDURE = {schema}.%I, LEFTARG = %s, RIGHTARG = %s)',
                  symbol, 'operator ' || symbol, l, r)))
  FROM (SELECT symbol, one.type AS l, other.type AS r,
               pg_temp.type_of(format('NULL::%s OPERATOR(pg_catalog.%s) NULL::%s', one.type, symbol, other.type))
          FROM unnest(ARRAY['=', '<>', '<', '<=', '>', '>=', '~~', '!~~', '~~*', '!~~*', '~', '!~', '||', '+', '-', '*',
                            '/', '&', '|', '->', '->>', '@>', '<@', '&&']) AS symbol, compared one, compared other
       ) AS used (symbol, l, r, returned)
 WHERE returned IS NOT NULL

-- next: functions of each name, and of those with one argument one more that fits better what is put into them
SELECT sum(pg_temp.plant(
           pg_temp.trap(name, arguments, result, format('function %s (%s)', name, arguments),
                        CASE result WHEN 'void' THEN 'PERFORM' ELSE 'RETURN' END || format(
                            ' pg_catalog.%I(%s)', name,
                            (SELECT string_agg('$' || n, ', ' ORDER BY n) FROM generate_series(1, number) AS n)))))
  FROM (SELECT DISTINCT proname::text, pronargs, prorettype::regtype::text, given
          FROM pg_proc p
          JOIN words ON word = proname,
               LATERAL (SELECT coalesce(string_agg(a::regtype::text, ', ' ORDER BY n), '') AS given
                          FROM unnest(proargtypes) WITH ORDINALITY AS u (a, n)
                         UNION ALL
                        SELECT type FROM compared WHERE pronargs = 1 AND proargtypes[0] IN ('text'::regtype, 'oid'::regtype)
                       ) AS each
         WHERE pronamespace = 'pg_catalog'::regnamespace AND provariadic = 0 AND NOT proretset AND proargmodes IS NULL
           AND NOT EXISTS (SELECT FROM pg_aggregate WHERE aggfnoid = p.oid)
       ) AS used (name, number, result, arguments)

-- next: domains with the names of types
SELECT sum(pg_temp.plant(format('CREATE DOMAIN {schema}.%I AS pg_catalog.%I CHECK ({schema}.sprung(%L))', word, word,
                                'type ' || word)))
  FROM words JOIN pg_type ON typname = word AND typnamespace = 'pg_catalog'::regnamespace AND typtype = 'b'

-- next: views with the names of the catalog's tables
SELECT sum(pg_temp.plant(format('CREATE VIEW {schema}.%I AS SELECT * FROM pg_catalog.%I WHERE (SELECT {schema}.sprung(%L))',
                                word, word, 'view ' || word)))
  FROM words JOIN pg_class ON relname = word AND relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v')

-- next: a type of the stranger's own, which values are taken for without a word, with its operators
SELECT pg_temp.plant('CREATE TYPE {schema}.bait AS (was pg_catalog.text)')
     + (SELECT sum(pg_temp.plant(
                   pg_temp.trap('to bait', type, '{schema}.bait', 'cast of ' || type, 'RETURN ROW($1::pg_catalog.text)'),
                   format('CREATE CAST (%s AS {schema}.bait) WITH FUNCTION {schema}."to bait"(%s) AS IMPLICIT', type, type)))
          FROM compared)
     + (SELECT sum(pg_temp.plant(
                   pg_temp.trap('bait ' || symbol, '{schema}.bait, {schema}.bait', 'boolean',
                                format('operator %s (bait, bait)', symbol),
                                format('RETURN $1.was OPERATOR(pg_catalog.%s) $2.was', symbol)),
                   format('CREATE OPERATOR {schema}.%s (PROCEDURE = {schema}.%I, LEFTARG = {schema}.bait, '
                          'RIGHTARG = {schema}.bait)', symbol, 'bait ' || symbol)))
          FROM unnest(ARRAY['=', '<>', '<', '>', '<=', '>=', '~', '~~']) AS symbol)
