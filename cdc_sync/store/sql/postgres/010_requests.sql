-- What operators' commands ask of the leader. A command adds its request and removes it; the leader answers it. The
-- times are the database's clock in milliseconds.
DROP TABLE IF EXISTS cdc_sync.request; -- which an older version's `sql uninstall --store` left
CREATE TABLE cdc_sync.request (
    number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          text COLLATE "C" NOT NULL UNIQUE,
    what        text COLLATE "C" NOT NULL,
    arguments   text NOT NULL,
    asked_at    bigint NOT NULL,
    expires_at  bigint NOT NULL,
    answer      text,
    answered_at bigint
);
