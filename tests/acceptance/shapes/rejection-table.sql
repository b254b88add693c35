-- What config/rejection-table.yaml reads: an ATS whose rejections are rows of their own and whose only timestamps are
-- dates.
CREATE TABLE public.stage (
    id smallint PRIMARY KEY,
    label varchar(40) NOT NULL
);

CREATE TABLE public.job (
    id integer PRIMARY KEY,
    reference varchar(20) NOT NULL UNIQUE
);

CREATE TABLE public.candidacy (
    id serial PRIMARY KEY,
    hellowork_id uuid,
    candidate_name text,
    stage_id smallint NOT NULL REFERENCES public.stage,
    job_id integer REFERENCES public.job,
    hired boolean NOT NULL DEFAULT false,
    canceled boolean,
    created_on date NOT NULL DEFAULT current_date,
    changed_on date NOT NULL DEFAULT current_date
);
CREATE INDEX ON public.candidacy (changed_on);

-- No foreign key: old rejections have outlived their candidacies, and some were typed in before there was one.
CREATE TABLE public.rejection (
    id serial PRIMARY KEY,
    candidacy_id bigint,
    comment text,
    rejected_on date NOT NULL DEFAULT current_date,
    undone_on date
);
CREATE INDEX ON public.rejection (candidacy_id);

INSERT INTO public.stage VALUES (1, 'New'), (2, 'Read'), (3, 'Interview'), (4, 'Offer');
INSERT INTO public.job VALUES (71, 'NAN-2024-71'), (72, 'PAR-2024-72');
