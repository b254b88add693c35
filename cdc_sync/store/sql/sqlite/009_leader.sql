-- One daemon of a store works, the leader; the others wait. Its lock is on the file beside this one. The columns without a
-- meaning here are those of the shared store.
CREATE TABLE leader (
    one           INTEGER PRIMARY KEY CHECK (one = 1),
    holder        TEXT NOT NULL,
    host          TEXT NOT NULL,
    process       INTEGER NOT NULL,
    place         TEXT NOT NULL,
    since         INTEGER NOT NULL,
    lease         REAL NOT NULL,
    beat          INTEGER NOT NULL,
    backend       INTEGER,
    configuration TEXT NOT NULL,
    stopped       INTEGER NOT NULL
);

-- session is the one on the ATS's database by which the watch was captured last; the leader may end it.
CREATE TABLE watch_9 (
    name       TEXT PRIMARY KEY,
    fuse       TEXT,
    known      INTEGER NOT NULL DEFAULT 0,
    changed_at INTEGER,
    session    TEXT
) WITHOUT ROWID;
INSERT INTO watch_9 SELECT name, fuse, known, changed_at, session FROM watch;
DROP TABLE watch;
ALTER TABLE watch_9 RENAME TO watch;

-- What is wrong now, as the leader sees it.
CREATE TABLE condition_9 (
    name    TEXT PRIMARY KEY,
    message TEXT NOT NULL,
    since   INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO condition_9 SELECT name, message, since FROM condition;
DROP TABLE condition;
ALTER TABLE condition_9 RENAME TO condition;
