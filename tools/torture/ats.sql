-- The ATS's tables beside those of its application.

-- part: the ledger
-- What was committed, kept by the database itself, in the transaction that commits it: only it knows
-- whether a transaction was committed if its connection was lost. The triggers are deferred, so that they see what is
-- committed, not what was on the way. Of each change both is kept: the state of the row, and that of the application,
-- for which another row may speak.
CREATE TABLE public.ledger (
    application text NOT NULL,
    status      text,
    job_id      text,
    gone        boolean NOT NULL, -- deleted, softly or really
    at          timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE FUNCTION public.keep_ledger() RETURNS trigger LANGUAGE plpgsql AS
$$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO public.ledger VALUES (OLD.hellowork_id, OLD.status, OLD.job_id, true);
    ELSE
        INSERT INTO public.ledger
        SELECT hellowork_id, status, job_id, deleted_at IS NOT NULL FROM public.applications WHERE id = NEW.id;
    END IF;
    INSERT INTO public.ledger
    SELECT hellowork_id, status, job_id, deleted_at IS NOT NULL
      FROM public.applications
     WHERE hellowork_id = coalesce(NEW.hellowork_id, OLD.hellowork_id)
     ORDER BY deleted_at IS NULL DESC, created_at DESC, id DESC
     LIMIT 1;
    RETURN NULL;
END
$$;

CREATE SEQUENCE public.change_number;

-- part: its triggers on a table
CREATE CONSTRAINT TRIGGER keep_ledger AFTER INSERT OR DELETE ON public.applications
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE PROCEDURE public.keep_ledger();
CREATE CONSTRAINT TRIGGER keep_ledger_of_updates AFTER UPDATE ON public.applications
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN ((OLD.status, OLD.job_id, OLD.deleted_at) IS DISTINCT FROM (NEW.status, NEW.job_id, NEW.deleted_at))
    EXECUTE PROCEDURE public.keep_ledger();

-- part: many tenants; new rows go to the table of theirs
CREATE FUNCTION public.to_its_tenant() RETURNS trigger LANGUAGE plpgsql AS
$$
BEGIN
    EXECUTE format('INSERT INTO %I.applications SELECT ($1).*',
                   'tenant_' || lpad(mod(abs(hashtext(NEW.hellowork_id)::bigint), {tenants})::text, 2, '0')) USING NEW;
    RETURN NULL;
END
$$;
CREATE TRIGGER to_its_tenant BEFORE INSERT ON public.applications
    FOR EACH ROW EXECUTE PROCEDURE public.to_its_tenant();

-- part: one tenant
CREATE SCHEMA {tenant};
CREATE TABLE {tenant}.applications (LIKE public.applications INCLUDING INDEXES) INHERITS (public.applications);

-- part: the truth
-- The canonical row: a live one before a deleted one, the later created before the earlier, then the last key.
SELECT DISTINCT ON (hellowork_id) hellowork_id, status, job_id, deleted_at IS NOT NULL
  FROM public.applications
 ORDER BY hellowork_id, deleted_at IS NULL DESC, created_at DESC, id DESC
