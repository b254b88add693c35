-- Of the ends of calls only failures have an index: acknowledgements are found among the newest events.
DROP INDEX history_ends;
CREATE INDEX history_failures ON history (event) WHERE event IN ('answered', 'dead-lettered');
