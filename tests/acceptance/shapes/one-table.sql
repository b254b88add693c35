-- What config/one-table.yaml reads: all customers' applications in one table.
DROP TABLE IF EXISTS public.applications;
CREATE TABLE public.applications (
    id bigserial PRIMARY KEY,
    customer text NOT NULL,
    hellowork_id text,
    status text,
    job_id text,
    created_at timestamp NOT NULL DEFAULT now(),
    updated_at timestamp NOT NULL DEFAULT now()
);
CREATE INDEX ON public.applications (updated_at);
CREATE INDEX ON public.applications (hellowork_id);
INSERT INTO public.applications (customer, hellowork_id, status, job_id)
SELECT c, 'hw-' || c, 'NEW', 'job-1' FROM unnest(ARRAY['acme', 'beta', 'gamma']) AS c;
