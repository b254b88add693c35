-- As things were when cdc-sync came.
INSERT INTO public.hr_applicant (x_hellowork_id, partner_name, partner_phone, stage_id, job_id, active, create_date,
                                 write_date, date_last_stage_update)
SELECT 'hw-' || name, 'Jeanne Martin', '+33600000000', 1, 11, true, '2024-03-31 01:30:00', '2024-04-02 10:00:00',
       '2024-04-02 10:00:00'
  FROM unnest(ARRAY['one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten']) AS name;
INSERT INTO public.hr_applicant (x_hellowork_id, stage_id, job_id, active, create_date, write_date)
SELECT 'hw-many-' || number, 3, 12, true, '2024-03-31 01:30:00', '2024-04-02 10:00:00'
  FROM generate_series(1, 30) AS number;

-- The first of them is a talent as well, by a copy of the row.
INSERT INTO public.hr_applicant (id, x_hellowork_id, active, create_date, write_date, pool_applicant_id)
VALUES (4999, 'hw-one', true, '2024-04-03 10:00:00', '2024-04-03 10:00:00', 4999);
UPDATE public.hr_applicant SET pool_applicant_id = 4999 WHERE x_hellowork_id = 'hw-one';

--- day

-- New from HelloWork.
--> hw-new seen_by_recruiter 11
INSERT INTO public.hr_applicant (x_hellowork_id, stage_id, job_id, active, create_date, write_date)
VALUES ('hw-new', 1, 11, true, now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC');

-- Not from HelloWork.
INSERT INTO public.hr_applicant (stage_id, job_id, active, create_date, write_date)
VALUES (1, 11, true, now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC');

-- A card is dragged, and Odoo notes where it was.
--> hw-one interview_by_recruiter 11
UPDATE public.hr_applicant SET stage_id = 3, last_stage_id = 1, date_last_stage_update = now() AT TIME ZONE 'UTC',
       write_date = now() AT TIME ZONE 'UTC' WHERE x_hellowork_id = 'hw-one' AND id <> 4999;

-- To the stage that hires.
--> hw-two hired 11
UPDATE public.hr_applicant SET stage_id = 6, last_stage_id = 1, date_closed = now() AT TIME ZONE 'UTC',
       date_last_stage_update = now() AT TIME ZONE 'UTC', write_date = now() AT TIME ZONE 'UTC'
 WHERE x_hellowork_id = 'hw-two';

-- Refused.
--> hw-three rejected 11
--> hw-four rejected 11
UPDATE public.hr_applicant SET active = false, refuse_reason_id = 1, refuse_date = now() AT TIME ZONE 'UTC',
       write_date = now() AT TIME ZONE 'UTC' WHERE x_hellowork_id IN ('hw-three', 'hw-four');

-- Archived without a reason: tidied up.
UPDATE public.hr_applicant SET active = false, write_date = now() AT TIME ZONE 'UTC' WHERE x_hellowork_id = 'hw-five';

-- Nothing that HelloWork is told.
UPDATE public.hr_applicant SET kanban_state = 'blocked', priority = '3', partner_phone = '+33700000000',
       write_date = now() AT TIME ZONE 'UTC' WHERE x_hellowork_id = 'hw-six';

-- Added to a talent pool: the row is copied, with HelloWork's id, and both point at the copy.
INSERT INTO public.hr_applicant (id, x_hellowork_id, active, create_date, write_date, pool_applicant_id)
VALUES (5000, 'hw-seven', true, now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC', 5000);
UPDATE public.hr_applicant SET pool_applicant_id = 5000, write_date = now() AT TIME ZONE 'UTC'
 WHERE x_hellowork_id = 'hw-seven' AND id <> 5000;

--> hw-eight seen_by_recruiter 12
UPDATE public.hr_applicant SET job_id = 12, write_date = now() AT TIME ZONE 'UTC' WHERE x_hellowork_id = 'hw-eight';

--> hw-nine deleted 11
DELETE FROM public.hr_applicant WHERE x_hellowork_id = 'hw-nine';

--- later

-- Restored, without the reason.
--> hw-three seen_by_recruiter 11
UPDATE public.hr_applicant SET active = true, refuse_reason_id = NULL, refuse_date = NULL,
       write_date = now() AT TIME ZONE 'UTC' WHERE x_hellowork_id = 'hw-three';

-- The applicant goes on, and the talent is nobody's application.
--> hw-seven offred 11
UPDATE public.hr_applicant SET stage_id = 5, last_stage_id = 1, date_last_stage_update = now() AT TIME ZONE 'UTC',
       write_date = now() AT TIME ZONE 'UTC' WHERE x_hellowork_id = 'hw-seven' AND id <> 5000;
UPDATE public.hr_applicant SET priority = '2', write_date = now() AT TIME ZONE 'UTC' WHERE id = 5000;

-- The job is gone, and with it the foreign key; the decision counts all the same, for the job that was.
--> hw-ten interview_by_recruiter 11
UPDATE public.hr_applicant SET job_id = NULL, stage_id = 3, write_date = now() AT TIME ZONE 'UTC'
 WHERE x_hellowork_id = 'hw-ten';

--- later

-- The talent is deleted, which is no news of the application.
DELETE FROM public.hr_applicant WHERE id = 5000;

--- many

-- A job is filled, and all the others are refused at once.
--> hw-many-* rejected 12
UPDATE public.hr_applicant SET active = false, refuse_reason_id = 1, write_date = now() AT TIME ZONE 'UTC'
 WHERE x_hellowork_id LIKE 'hw-many-%';
