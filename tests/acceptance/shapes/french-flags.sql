-- What config/french-flags.yaml reads: flags of one letter, padded labels, and no date of the last change.
CREATE TABLE public.etape (
    code_etape char(2) PRIMARY KEY,
    libelle char(30) NOT NULL,
    ordre smallint
);

CREATE TABLE public.offre (
    num_offre numeric(10) PRIMARY KEY,
    intitule varchar(80),
    fg_close char(1)
);

CREATE TABLE public.candidature (
    num_cand numeric(10) PRIMARY KEY,
    num_offre numeric(10) REFERENCES public.offre,
    code_etape char(2) REFERENCES public.etape,
    ref_hellowork varchar(64),
    nom varchar(50),
    prenom varchar(50),
    tel varchar(20),
    mel varchar(80),
    dt_naissance date,
    pretentions numeric(8, 2),
    dt_saisie date NOT NULL,
    fg_embauche char(1),
    fg_suppr char(1) DEFAULT 'N',
    fg_archive char(1)
);
CREATE INDEX ON public.candidature (ref_hellowork);

INSERT INTO public.etape VALUES ('01', 'Reçue', 1), ('02', 'Entretien', 2), ('03', 'Proposition', 3), ('09', 'Refusée', 9);
INSERT INTO public.offre VALUES (71, 'Infirmier'), (72, 'Boulanger');
