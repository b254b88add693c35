-- As things were when cdc-sync came.
INSERT INTO public.recruitment_candidate
    (id, hellowork_id, name, email, created_at, last_updated, job_position_id_id, recruitment_id_id, stage_id_id)
SELECT number, 'hw-' || name, 'Jeanne Martin', 'jeanne@example.org', '2024-03-31 01:30Z', '2024-04-02', 1, 71, 2
  FROM unnest(ARRAY['moved', 'hired', 'converted', 'rejected', 'undone', 'canceled', 'elsewhere', 'archived', 'touched',
                    'gone', 'staged', 'late'])
       WITH ORDINALITY AS one (name, number);
INSERT INTO public.recruitment_candidate
    (id, hellowork_id, email, created_at, last_updated, recruitment_id_id, stage_id_id)
SELECT 100 + number, 'hw-many-' || number, 'jeanne@example.org', '2024-03-31 01:30Z', '2024-04-02', 72, 7
  FROM generate_series(1, 30) AS number;
INSERT INTO public.recruitment_candidate (id, email, recruitment_id_id, stage_id_id) VALUES (99, 'own@example.org', 71, 2);
SELECT setval('public.recruitment_candidate_id_seq', 1000);

--- day

-- New from HelloWork.
--> hw-new seen_by_recruiter 71
INSERT INTO public.recruitment_candidate (hellowork_id, email, created_at, last_updated, recruitment_id_id, stage_id_id)
VALUES ('hw-new', 'new@example.org', now(), (now() AT TIME ZONE 'Europe/Paris')::date, 71, 1);

-- Not from HelloWork.
INSERT INTO public.recruitment_candidate (email, created_at, last_updated, recruitment_id_id, stage_id_id)
VALUES ('nobody@example.org', now(), (now() AT TIME ZONE 'Europe/Paris')::date, 71, 1);

-- A card is dragged to the interviews.
--> hw-moved interview_by_recruiter 71
UPDATE public.recruitment_candidate
   SET stage_id_id = 3, last_updated = (now() AT TIME ZONE 'Europe/Paris')::date WHERE hellowork_id = 'hw-moved';

-- The stage of the type hired sets the flag.
--> hw-hired hired 71
UPDATE public.recruitment_candidate
   SET stage_id_id = 4, hired = true, hired_date = current_date, last_updated = (now() AT TIME ZONE 'Europe/Paris')::date
 WHERE hellowork_id = 'hw-hired';

-- A bulk action: the ORM's update() leaves last_updated alone, and the stage too.
--> hw-converted hired 71
UPDATE public.recruitment_candidate SET converted = true WHERE hellowork_id = 'hw-converted';

-- Rejected: a row of its own, and canceled by another write of the same request.
--> hw-rejected rejected 71
INSERT INTO public.recruitment_rejectedcandidate (candidate_id_id, description)
SELECT id, 'too far away' FROM public.recruitment_candidate WHERE hellowork_id = 'hw-rejected';
UPDATE public.recruitment_candidate
   SET canceled = true, stage_id_id = 5, last_updated = (now() AT TIME ZONE 'Europe/Paris')::date
 WHERE hellowork_id = 'hw-rejected';

-- Rejected, and nothing else was written.
--> hw-undone rejected 71
INSERT INTO public.recruitment_rejectedcandidate (candidate_id_id, description)
SELECT id, 'by mistake' FROM public.recruitment_candidate WHERE hellowork_id = 'hw-undone';

-- Canceled without a rejection: withdrawn, perhaps.
--> hw-canceled outdated 71
UPDATE public.recruitment_candidate
   SET canceled = true, stage_id_id = 5, last_updated = (now() AT TIME ZONE 'Europe/Paris')::date
 WHERE hellowork_id = 'hw-canceled';

-- Another recruitment, whose stages are others.
--> hw-elsewhere seen_by_recruiter 72
UPDATE public.recruitment_candidate
   SET recruitment_id_id = 72, job_position_id_id = 2, stage_id_id = 7,
       last_updated = (now() AT TIME ZONE 'Europe/Paris')::date
 WHERE hellowork_id = 'hw-elsewhere';

-- Archived, and moved while it is.
UPDATE public.recruitment_candidate
   SET is_active = false, stage_id_id = 3, last_updated = (now() AT TIME ZONE 'Europe/Paris')::date
 WHERE hellowork_id = 'hw-archived';

-- Nothing that HelloWork is told.
UPDATE public.recruitment_candidate
   SET mobile = '0600000000', offer_letter_status = 'sent', job_position_id_id = 2, stage_id_id = 1,
       last_updated = (now() AT TIME ZONE 'Europe/Paris')::date
 WHERE hellowork_id = 'hw-touched';

-- A stage gets another name, which nobody is told.
UPDATE public.recruitment_stage SET stage = 'Received' WHERE id = 2;

-- A request that fails.
BEGIN;
UPDATE public.recruitment_candidate SET hired = true WHERE hellowork_id = 'hw-touched';
ROLLBACK;

--> hw-gone deleted 71
DELETE FROM public.recruitment_candidate WHERE hellowork_id = 'hw-gone';

--- later

-- The rejection is taken back.
--> hw-undone seen_by_recruiter 71
DELETE FROM public.recruitment_rejectedcandidate r
 USING public.recruitment_candidate c WHERE c.id = r.candidate_id_id AND c.hellowork_id = 'hw-undone';

-- Back from the archive.
--> hw-archived interview_by_recruiter 71
UPDATE public.recruitment_candidate
   SET is_active = true, last_updated = (now() AT TIME ZONE 'Europe/Paris')::date WHERE hellowork_id = 'hw-archived';

--- many

-- A recruitment is closed, and all who are left in it are canceled at once.
--> hw-many-* outdated 72
UPDATE public.recruitment_candidate
   SET canceled = true, last_updated = (now() AT TIME ZONE 'Europe/Paris')::date WHERE hellowork_id LIKE 'hw-many-%';
