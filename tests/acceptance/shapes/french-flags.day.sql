-- As things were when cdc-sync came.
INSERT INTO public.candidature (num_cand, ref_hellowork, nom, tel, num_offre, code_etape, dt_saisie, fg_suppr)
SELECT number, 'hw-' || name, 'MARTIN', '0600000000', 71, '01', '2024-03-31', flag
  FROM unnest(ARRAY['moved', 'hired', 'rejected', 'elsewhere', 'archived', 'touched', 'deleted', 'blank', 'gone'],
              ARRAY['N', NULL, '', 'N', NULL, 'N', 'N', NULL, ''])
       WITH ORDINALITY AS one (name, flag, number);
INSERT INTO public.candidature (num_cand, ref_hellowork, nom, num_offre, code_etape, dt_saisie)
SELECT 100 + number, 'hw-many-' || number, 'MARTIN', 72, '01', '2024-03-31' FROM generate_series(1, 30) AS number;
INSERT INTO public.candidature (num_cand, ref_hellowork, num_offre, code_etape, dt_saisie)
VALUES (98, NULL, 71, '01', '2024-03-31'), (99, '  ', 71, '01', '2024-03-31');

--- day

-- New from HelloWork.
--> hw-new seen_by_recruiter 71
INSERT INTO public.candidature (num_cand, ref_hellowork, num_offre, code_etape, dt_saisie)
VALUES (1000, 'hw-new', 71, '01', (now() AT TIME ZONE 'Europe/Paris')::date);

--> hw-moved interview_by_recruiter 71
UPDATE public.candidature SET code_etape = '02' WHERE ref_hellowork = 'hw-moved';

-- The step stays as it is.
--> hw-hired hired 71
UPDATE public.candidature SET fg_embauche = 'O' WHERE ref_hellowork = 'hw-hired';

--> hw-rejected rejected 71
UPDATE public.candidature SET code_etape = '09' WHERE ref_hellowork = 'hw-rejected';

--> hw-elsewhere seen_by_recruiter 72
UPDATE public.candidature SET num_offre = 72 WHERE ref_hellowork = 'hw-elsewhere';

-- Archived, and moved while it is.
UPDATE public.candidature SET fg_archive = 'O', code_etape = '02' WHERE ref_hellowork = 'hw-archived';

-- Nothing that HelloWork is told.
UPDATE public.candidature SET tel = '0700000000', fg_embauche = 'N', fg_archive = '' WHERE ref_hellowork = 'hw-touched';

-- One flag for another that means the same, and not deleted by either.
UPDATE public.candidature SET fg_suppr = 'N' WHERE ref_hellowork = 'hw-blank';

--> hw-deleted deleted 71
UPDATE public.candidature SET fg_suppr = 'O' WHERE ref_hellowork = 'hw-deleted';

--> hw-gone deleted 71
DELETE FROM public.candidature WHERE ref_hellowork = 'hw-gone';

--- later

-- Not deleted after all.
--> hw-deleted seen_by_recruiter 71
UPDATE public.candidature SET fg_suppr = '' WHERE ref_hellowork = 'hw-deleted';

-- Back from the archive.
--> hw-archived interview_by_recruiter 71
UPDATE public.candidature SET fg_archive = 'N' WHERE ref_hellowork = 'hw-archived';

--- many

-- Ten years of candidatures are marked as deleted.
--> hw-many-* deleted 72
UPDATE public.candidature SET fg_suppr = 'O' WHERE ref_hellowork LIKE 'hw-many-%';
