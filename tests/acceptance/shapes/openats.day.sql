-- As things were when cdc-sync came.
INSERT INTO public.candidates (id, hellowork_id, email, job_id, current_stage_id, applied_at, updated_at)
SELECT number, 'hw-' || name, name || '@example.org', 71, 1, '2024-03-31 01:30', '2024-04-02 10:00'
  FROM unnest(ARRAY['moved', 'offered', 'declined', 'dropped', 'rejected', 'undone', 'withdrawn', 'touched', 'gone'])
       WITH ORDINALITY AS one (name, number);
INSERT INTO public.candidates (id, hellowork_id, email, job_id, current_stage_id, applied_at, updated_at)
SELECT 100 + number, 'hw-many-' || number, number || '@example.org', 72, 6, '2024-03-31 01:30', '2024-04-02 10:00'
  FROM generate_series(1, 30) AS number;
SELECT setval('public.candidates_id_seq', 1000);

--- day

-- New from HelloWork, by whatever receives the applications.
--> hw-new seen_by_recruiter 71
INSERT INTO public.candidates (hellowork_id, email, job_id, current_stage_id, applied_at, updated_at)
VALUES ('hw-new', 'new@example.org', 71, 1, now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC');

-- Not from HelloWork.
INSERT INTO public.candidates (email, job_id, current_stage_id, applied_at, updated_at)
VALUES ('nobody@example.org', 71, 1, now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC');

-- A card is dragged to the interviews, whose name only its type explains.
--> hw-moved interview_by_recruiter 71
UPDATE public.candidates SET current_stage_id = 2, updated_at = now() AT TIME ZONE 'UTC' WHERE hellowork_id = 'hw-moved';
INSERT INTO public.candidate_stage_history (candidate_id, stage_id) VALUES (1, 2);

-- To the offers, which makes a draft; sending it is no news.
--> hw-offered offred 71
--> hw-declined offred 71
--> hw-withdrawn offred 71
UPDATE public.candidates SET current_stage_id = 3, updated_at = now() AT TIME ZONE 'UTC'
 WHERE hellowork_id IN ('hw-offered', 'hw-declined', 'hw-withdrawn');
INSERT INTO public.offers (candidate_id, job_id, salary)
SELECT id, job_id, 30000 FROM public.candidates WHERE hellowork_id IN ('hw-offered', 'hw-declined', 'hw-withdrawn');
UPDATE public.offers SET status = 'sent';

-- To the stage of the type rejection: rejected, whatever the enum says.
--> hw-dropped rejected 71
UPDATE public.candidates SET current_stage_id = 5, updated_at = now() AT TIME ZONE 'UTC' WHERE hellowork_id = 'hw-dropped';

-- Rejected by the button: the stage is emptied, and there is a row of its own.
--> hw-rejected rejected 71
--> hw-undone rejected 71
UPDATE public.candidates SET status = 'rejected', current_stage_id = NULL, updated_at = now() AT TIME ZONE 'UTC'
 WHERE hellowork_id IN ('hw-rejected', 'hw-undone');
INSERT INTO public.candidate_rejections (candidate_id, from_stage_id, reason)
SELECT id, 1, 'too far away' FROM public.candidates WHERE hellowork_id IN ('hw-rejected', 'hw-undone');

-- Nothing that HelloWork is told.
UPDATE public.candidates SET phone = '0600000000', updated_at = now() AT TIME ZONE 'UTC'
 WHERE hellowork_id = 'hw-touched';
UPDATE public.jobs SET status = 'published';

--> hw-gone deleted 71
DELETE FROM public.candidates WHERE hellowork_id = 'hw-gone';

--- later

-- The offer is accepted, and the candidate goes on to the next stage.
--> hw-offered hired 71
UPDATE public.offers o SET status = 'accepted', updated_at = now() AT TIME ZONE 'UTC'
  FROM public.candidates c WHERE c.id = o.candidate_id AND c.hellowork_id = 'hw-offered';
UPDATE public.candidates SET current_stage_id = 4, updated_at = now() AT TIME ZONE 'UTC' WHERE hellowork_id = 'hw-offered';

-- Declined: the candidate refused, though the stage is now of the type rejection.
--> hw-declined rejected_candidate 71
UPDATE public.offers o SET status = 'declined', updated_at = now() AT TIME ZONE 'UTC'
  FROM public.candidates c WHERE c.id = o.candidate_id AND c.hellowork_id = 'hw-declined';
UPDATE public.candidates SET current_stage_id = 5, updated_at = now() AT TIME ZONE 'UTC' WHERE hellowork_id = 'hw-declined';

-- The offer is withdrawn; the candidate stays where he is, so there is no news yet.
UPDATE public.offers o SET status = 'withdrawn', updated_at = now() AT TIME ZONE 'UTC'
  FROM public.candidates c WHERE c.id = o.candidate_id AND c.hellowork_id = 'hw-withdrawn';

-- Taken back: active again, where the candidate was.
--> hw-undone seen_by_recruiter 71
UPDATE public.candidates SET status = 'active', current_stage_id = 1, updated_at = now() AT TIME ZONE 'UTC'
 WHERE hellowork_id = 'hw-undone';

--- many

-- A job is closed, and all who are left are rejected by one statement.
--> hw-many-* rejected 72
UPDATE public.candidates SET status = 'rejected', current_stage_id = NULL, updated_at = now() AT TIME ZONE 'UTC'
 WHERE hellowork_id LIKE 'hw-many-%';
