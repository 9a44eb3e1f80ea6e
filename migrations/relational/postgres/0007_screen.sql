-- +goose Up
-- What the compliance screen found when a contract was approved, and who overrode what
-- blocked it.

ALTER TABLE decisions ADD COLUMN screen TEXT NOT NULL DEFAULT ''; -- canonical JSON; empty: not screened

CREATE TABLE overrides (
    seq             BIGINT PRIMARY KEY,
    kind            TEXT NOT NULL,
    id              TEXT NOT NULL,
    number          INTEGER NOT NULL,
    digest          TEXT NOT NULL,          -- what was found wanting
    finding         TEXT NOT NULL CHECK (finding <> ''),
    overridden_by   TEXT NOT NULL CHECK (overridden_by <> ''),
    unauthenticated INTEGER NOT NULL CHECK (unauthenticated IN (0, 1)),
    role            TEXT NOT NULL CHECK (role = 'legal'),
    reason          TEXT NOT NULL CHECK (reason <> ''),
    recorded_at     TEXT NOT NULL,
    UNIQUE (kind, id, number, finding, overridden_by),
    FOREIGN KEY (kind, id, number, digest) REFERENCES catalogue_versions (kind, id, number, digest)
);

CREATE TRIGGER overrides_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON overrides
    FOR EACH STATEMENT EXECUTE FUNCTION catalogue_append_only();
