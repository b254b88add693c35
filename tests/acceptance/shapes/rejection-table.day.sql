-- As things were when cdc-sync came: 1 is moved, 2 hired, 3 canceled, 4 deleted, 5 undone, 6 to 7, 8 renumbered, 9 still.
INSERT INTO public.candidacy (id, hellowork_id, stage_id, job_id, created_on, changed_on)
SELECT number, format('0000000%s-0000-4000-8000-00000000abcd', number)::uuid, 2,
       CASE number WHEN 8 THEN 72 ELSE 71 END, '2024-07-10', '2024-07-11'
  FROM generate_series(1, 9) AS number;
SELECT setval('public.candidacy_id_seq', 1000);
INSERT INTO public.rejection (candidacy_id) VALUES (6), (NULL), (4711);

--- day

-- A card is moved; the name of another one is written differently.
--> 00000001-0000-4000-8000-00000000abcd interview_by_recruiter NAN-2024-71
UPDATE public.candidacy SET stage_id = 3, changed_on = current_date WHERE id = 1;
UPDATE public.candidacy SET candidate_name = 'Jeanne Martin', changed_on = current_date WHERE id = 9;

-- Hired stays hired, whatever rejections there are: of nobody, of one that is long gone, of a number that none can have.
--> 00000002-0000-4000-8000-00000000abcd hired NAN-2024-71
UPDATE public.candidacy SET hired = true, changed_on = current_date WHERE id = 2;
INSERT INTO public.rejection (candidacy_id) VALUES (NULL), (4712), (99999999999), (2);

--> 00000003-0000-4000-8000-00000000abcd whithdrawn NAN-2024-71
UPDATE public.candidacy SET canceled = true, changed_on = current_date WHERE id = 3;

-- Rejections are rows of their own, and touch nothing else.
--> 00000004-0000-4000-8000-00000000abcd rejected NAN-2024-71
--> 00000005-0000-4000-8000-00000000abcd rejected NAN-2024-71
INSERT INTO public.rejection (candidacy_id) VALUES (4), (5);

-- One is given to another candidacy.
--> 00000006-0000-4000-8000-00000000abcd seen_by_recruiter NAN-2024-71
--> 00000007-0000-4000-8000-00000000abcd rejected NAN-2024-71
UPDATE public.rejection SET candidacy_id = 7 WHERE candidacy_id = 6;

-- The job is published again, under another reference.
--> 00000008-0000-4000-8000-00000000abcd seen_by_recruiter PAR-2025-1
UPDATE public.job SET reference = 'PAR-2025-1' WHERE id = 72;

--- later

-- Undone by deleting it, and by marking it.
--> 00000004-0000-4000-8000-00000000abcd seen_by_recruiter NAN-2024-71
--> 00000005-0000-4000-8000-00000000abcd seen_by_recruiter NAN-2024-71
DELETE FROM public.rejection WHERE candidacy_id = 4;
UPDATE public.rejection SET undone_on = current_date WHERE candidacy_id = 5;
