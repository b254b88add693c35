-- What config/openats.yaml reads, with the types and constraints that OpenATS gives it; many columns are left out.
-- `hellowork_id` was added by a DBA.
CREATE TYPE public.stage_type AS ENUM ('none', 'source', 'assessment', 'interview', 'offer', 'rejection');
CREATE TYPE public.offer_status AS ENUM ('draft', 'sent', 'pending', 'accepted', 'declined', 'withdrawn');
CREATE TYPE public.candidate_status AS ENUM ('active', 'rejected');
CREATE TYPE public.job_status AS ENUM ('draft', 'inactive', 'published', 'closed', 'archived');

CREATE TABLE public.jobs (
    id serial PRIMARY KEY,
    slug varchar(255) NOT NULL UNIQUE,
    title varchar(255) NOT NULL,
    status public.job_status NOT NULL DEFAULT 'draft',
    created_at timestamp NOT NULL DEFAULT now(),
    updated_at timestamp NOT NULL DEFAULT now()
);

CREATE TABLE public.job_pipeline_stages (
    id serial PRIMARY KEY,
    job_id integer NOT NULL REFERENCES public.jobs ON DELETE CASCADE,
    name varchar(100) NOT NULL,
    position integer NOT NULL,
    stage_type public.stage_type NOT NULL DEFAULT 'none',
    UNIQUE (job_id, position)
);

CREATE TABLE public.candidates (
    id serial PRIMARY KEY,
    first_name varchar(100) NOT NULL DEFAULT 'Jeanne',
    last_name varchar(100) NOT NULL DEFAULT 'Martin',
    email varchar(255) NOT NULL,
    phone varchar(50),
    resume_url varchar(1000),
    job_id integer NOT NULL REFERENCES public.jobs ON DELETE RESTRICT,
    current_stage_id integer REFERENCES public.job_pipeline_stages ON DELETE SET NULL,
    status public.candidate_status NOT NULL DEFAULT 'active',
    applied_at timestamp NOT NULL DEFAULT now(),
    updated_at timestamp NOT NULL DEFAULT now(),
    rejection_notice_sent_at timestamp,
    hellowork_id varchar(64),
    UNIQUE (job_id, email)
);
CREATE UNIQUE INDEX ON public.candidates (hellowork_id);

CREATE TABLE public.candidate_rejections (
    id serial PRIMARY KEY,
    candidate_id integer NOT NULL REFERENCES public.candidates ON DELETE CASCADE,
    from_stage_id integer REFERENCES public.job_pipeline_stages ON DELETE SET NULL,
    reason varchar(255),
    rejected_at timestamp NOT NULL DEFAULT now()
);

CREATE TABLE public.candidate_stage_history (
    id serial PRIMARY KEY,
    candidate_id integer NOT NULL REFERENCES public.candidates ON DELETE CASCADE,
    stage_id integer NOT NULL REFERENCES public.job_pipeline_stages ON DELETE RESTRICT,
    moved_at timestamp NOT NULL DEFAULT now()
);

CREATE TABLE public.offers (
    id serial PRIMARY KEY,
    candidate_id integer NOT NULL REFERENCES public.candidates ON DELETE CASCADE,
    job_id integer NOT NULL REFERENCES public.jobs ON DELETE CASCADE,
    status public.offer_status NOT NULL DEFAULT 'draft',
    salary numeric(12, 2),
    created_at timestamp NOT NULL DEFAULT now(),
    updated_at timestamp NOT NULL DEFAULT now()
);

INSERT INTO public.jobs (id, slug, title) VALUES (71, 'nurse', 'Nurse'), (72, 'baker', 'Baker');
INSERT INTO public.job_pipeline_stages (id, job_id, name, position, stage_type) VALUES
    (1, 71, 'Applied', 0, 'source'), (2, 71, 'Ward talk', 1, 'interview'), (3, 71, 'Our offer', 2, 'offer'),
    (4, 71, 'Hired', 3, 'none'), (5, 71, 'No thanks', 4, 'rejection'), (6, 72, 'Trial day', 0, 'none');
