-- What config/horilla.yaml reads, with the types and constraints that Django gives it there; many columns are left out.
-- `hellowork_id` was added by a DBA.
CREATE TABLE public.recruitment_recruitment (
    id bigserial PRIMARY KEY,
    title varchar(50),
    closed boolean NOT NULL DEFAULT false,
    is_active boolean NOT NULL DEFAULT true
);

CREATE TABLE public.base_jobposition (
    id bigserial PRIMARY KEY,
    job_position varchar(50) NOT NULL
);

CREATE TABLE public.recruitment_stage (
    id bigserial PRIMARY KEY,
    stage varchar(50) NOT NULL,
    stage_type varchar(20) NOT NULL,
    sequence integer,
    recruitment_id_id bigint NOT NULL REFERENCES public.recruitment_recruitment DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE public.recruitment_candidate (
    id bigserial PRIMARY KEY,
    created_at timestamptz,
    is_active boolean NOT NULL DEFAULT true,
    name varchar(100),
    email varchar(254) NOT NULL,
    mobile varchar(15) NOT NULL DEFAULT '',
    dob date,
    gender varchar(15),
    source varchar(20),
    start_onboard boolean NOT NULL DEFAULT false,
    hired boolean NOT NULL DEFAULT false,
    canceled boolean NOT NULL DEFAULT false,
    converted boolean NOT NULL DEFAULT false,
    joining_date date,
    offer_letter_status varchar(10) NOT NULL DEFAULT 'not_sent',
    last_updated date,
    hired_date date,
    job_position_id_id bigint REFERENCES public.base_jobposition DEFERRABLE INITIALLY DEFERRED,
    recruitment_id_id bigint REFERENCES public.recruitment_recruitment DEFERRABLE INITIALLY DEFERRED,
    stage_id_id bigint REFERENCES public.recruitment_stage DEFERRABLE INITIALLY DEFERRED,
    hellowork_id varchar(64) UNIQUE
);
CREATE INDEX ON public.recruitment_candidate (stage_id_id);

CREATE TABLE public.recruitment_rejectedcandidate (
    id bigserial PRIMARY KEY,
    created_at timestamptz,
    is_active boolean NOT NULL DEFAULT true,
    description text NOT NULL,
    candidate_id_id bigint NOT NULL UNIQUE REFERENCES public.recruitment_candidate DEFERRABLE INITIALLY DEFERRED
);

INSERT INTO public.recruitment_recruitment VALUES (71, 'Nurses'), (72, 'Bakers');
INSERT INTO public.base_jobposition VALUES (1, 'Nurse'), (2, 'Baker');
INSERT INTO public.recruitment_stage (id, stage, stage_type, recruitment_id_id) VALUES
    (1, 'Initial', 'initial', 71), (2, 'Applied', 'applied', 71), (3, 'Talk at the ward', 'interview', 71),
    (4, 'Hired', 'hired', 71), (5, 'Cancelled', 'cancelled', 71),
    (6, 'Initial', 'initial', 72), (7, 'Trial day', 'test', 72);
