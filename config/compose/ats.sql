-- The ATS of config/compose.yaml, for a first try: its table, some rows, and a role for cdc-sync, which gets its
-- privileges from `cdc-sync sql grants`.
CREATE TABLE public.applications (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hellowork_id text,
    status text NOT NULL,
    job_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    source text,
    deleted_at timestamptz
);
INSERT INTO public.applications (hellowork_id, status, job_id)
SELECT 'hw-' || number, 'received', 'job-' || (number % 3 + 1) FROM generate_series(1, 10) AS number;

CREATE ROLE cdc_sync LOGIN PASSWORD 'cdc_sync';
