-- Numbers that people look at all day, kept as they change: a look must not cost a walk through a million records.

-- Each watch: how many applications are known, and when something was news last.
CREATE TABLE tally (
    watch      TEXT PRIMARY KEY,
    known      INTEGER NOT NULL,
    changed_at INTEGER
) WITHOUT ROWID;
INSERT INTO tally (watch, known) SELECT watch, count(*) FROM snapshot GROUP BY watch;

-- Calls that ended, by outcome, in steps of time; step is the beginning of one.
CREATE TABLE call_count (
    step    INTEGER NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('acknowledged', 'retry', 'dead')),
    count   INTEGER NOT NULL,
    PRIMARY KEY (step, outcome)
) WITHOUT ROWID;

-- The newest ends of calls stand among many events that are none.
CREATE INDEX history_ends ON history (event) WHERE event IN ('acknowledged', 'answered', 'dead-lettered');
