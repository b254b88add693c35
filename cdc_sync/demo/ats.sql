-- The role of the daemon has no right to anything yet.
CREATE ROLE cdc_sync LOGIN;

-- The ATS's tables, and forty applications.
CREATE TABLE jobs (
    id    text PRIMARY KEY,
    title text NOT NULL
);
CREATE TABLE applications (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hellowork_id text,                 -- NULL: it did not come from HelloWork
    job_id       text NOT NULL REFERENCES jobs,
    candidate    text NOT NULL,        -- personal data: the daemon's role cannot read it
    status       text NOT NULL,
    notes        text,
    source       text,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL, -- set by the ATS's code, where it does not forget to
    deleted_at   timestamptz
);
CREATE INDEX ON applications (hellowork_id);
CREATE INDEX ON applications (updated_at);

-- Half an hour: a poll looks back for minutes, and must not find untouched rows.
INSERT INTO jobs VALUES ('J-100', 'Developer'), ('J-200', 'Tester'), ('J-300', 'Designer');
INSERT INTO applications (hellowork_id, job_id, candidate, status, source, created_at, updated_at)
SELECT CASE WHEN n % 10 > 0 THEN 'HW-' || 1000 + n END,
       'J-100',
       'Candidate ' || n,
       CASE WHEN n <= 20 THEN 'new' ELSE (ARRAY['viewed', 'phone_interview', 'offer'])[1 + n % 3] END,
       CASE WHEN n % 10 > 0 THEN 'hellowork.com' ELSE 'spontaneous' END,
       now() - interval '30 days' + n * interval '1 hour',
       now() - interval '30 minutes'
  FROM generate_series(1, 40) AS n;
