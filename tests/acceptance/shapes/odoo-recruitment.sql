-- What config/odoo-recruitment.yaml reads, with the types and constraints that Odoo 19 gives it; many columns are left
-- out. `x_hellowork_id` is a field of the customer's own.
CREATE TABLE public.hr_recruitment_stage (
    id serial PRIMARY KEY,
    sequence integer,
    name jsonb NOT NULL,
    hired_stage boolean,
    fold boolean,
    create_date timestamp without time zone,
    write_date timestamp without time zone
);

CREATE TABLE public.hr_applicant_refuse_reason (
    id serial PRIMARY KEY,
    name jsonb NOT NULL,
    active boolean
);

CREATE TABLE public.hr_job (
    id serial PRIMARY KEY,
    name jsonb NOT NULL,
    active boolean
);

CREATE TABLE public.hr_applicant (
    id serial PRIMARY KEY,
    x_hellowork_id character varying,
    partner_name character varying,
    email_from character varying(128),
    partner_phone character varying(32),
    partner_phone_sanitized character varying,
    salary_expected double precision,
    priority character varying,
    stage_id integer REFERENCES public.hr_recruitment_stage ON DELETE RESTRICT,
    job_id integer REFERENCES public.hr_job ON DELETE SET NULL,
    last_stage_id integer REFERENCES public.hr_recruitment_stage ON DELETE SET NULL,
    refuse_reason_id integer REFERENCES public.hr_applicant_refuse_reason ON DELETE SET NULL,
    refuse_date timestamp without time zone,
    pool_applicant_id integer REFERENCES public.hr_applicant ON DELETE SET NULL,
    active boolean,
    kanban_state character varying NOT NULL DEFAULT 'normal',
    date_closed timestamp without time zone,
    date_last_stage_update timestamp without time zone,
    create_date timestamp without time zone,
    write_date timestamp without time zone
);
CREATE INDEX ON public.hr_applicant (stage_id);

INSERT INTO public.hr_recruitment_stage (id, sequence, name, hired_stage) VALUES
    (1, 0, '{"en_US": "New", "fr_FR": "Nouveau"}', NULL),
    (2, 1, '{"en_US": "Initial Qualification", "fr_FR": "Qualification initiale"}', NULL),
    (3, 2, '{"en_US": "First Interview", "fr_FR": "Premier entretien"}', false),
    (4, 3, '{"en_US": "Second Interview", "fr_FR": "Deuxième entretien"}', false),
    (5, 4, '{"en_US": "Contract Proposal", "fr_FR": "Proposition de contrat"}', false),
    (6, 5, '{"en_US": "Contract Signed", "fr_FR": "Contrat signé"}', true),
    (7, 6, '{"en_US": "Assessment"}', false);

INSERT INTO public.hr_applicant_refuse_reason (id, name, active) VALUES
    (1, '{"en_US": "Does not fit the job requirements", "fr_FR": "Ne correspond pas au poste"}', true),
    (2, '{"en_US": "Duplicate", "fr_FR": "Doublon"}', true);

INSERT INTO public.hr_job (id, name, active) VALUES
    (11, '{"en_US": "Nurse", "fr_FR": "Infirmier"}', true),
    (12, '{"en_US": "Baker", "fr_FR": "Boulanger"}', true);
