-- +goose Up
-- What the marketplace declared and agreed, and who decided on it. Rows are facts: they
-- are inserted once and never changed.

CREATE TABLE catalogue_head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seq INTEGER NOT NULL                    -- steps so far: writers move it on, one at a time
) STRICT;
INSERT INTO catalogue_head (one, seq) VALUES (1, 0);

CREATE TABLE catalogue_versions (
    kind            TEXT NOT NULL,
    id              TEXT NOT NULL,
    number          INTEGER NOT NULL CHECK (number > 0),
    seq             INTEGER NOT NULL,       -- the step that recorded it
    digest          TEXT NOT NULL,          -- SHA-256 of kind, id and content
    effective_from  TEXT NOT NULL,          -- 2026-10-01; empty: from the beginning
    until_on        TEXT NOT NULL,          -- exclusive; empty: open
    corrects        INTEGER NOT NULL,       -- the version that was wrong, 0: none
    recorded_at     TEXT NOT NULL,
    author          TEXT NOT NULL CHECK (author <> ''),
    unauthenticated INTEGER NOT NULL CHECK (unauthenticated IN (0, 1)),
    file            TEXT NOT NULL,
    content         TEXT NOT NULL,          -- canonical JSON
    document        TEXT NOT NULL,          -- YAML as written
    PRIMARY KEY (kind, id, number),
    UNIQUE (kind, id, number, digest)
) STRICT;
CREATE INDEX catalogue_versions_by_seq ON catalogue_versions (seq);

CREATE TABLE decisions (
    seq                  INTEGER PRIMARY KEY,
    kind                 TEXT NOT NULL,
    id                   TEXT NOT NULL,
    number               INTEGER NOT NULL,
    digest               TEXT NOT NULL,     -- what was decided on
    document_sha256      TEXT NOT NULL,     -- of the YAML that was shown
    verdict              TEXT NOT NULL CHECK (verdict IN ('approved', 'accepted', 'rejected')),
    decided_by           TEXT NOT NULL CHECK (decided_by <> ''),
    unauthenticated      INTEGER NOT NULL CHECK (unauthenticated IN (0, 1)),
    decided_at           TEXT NOT NULL,
    recorded_by          TEXT NOT NULL,     -- empty: decided_by
    recorder_unauthenticated INTEGER NOT NULL CHECK (recorder_unauthenticated IN (0, 1)),
    recorded_at          TEXT NOT NULL,
    reason               TEXT NOT NULL,     -- or evidence
    UNIQUE (kind, id, number, verdict, decided_by),
    FOREIGN KEY (kind, id, number, digest) REFERENCES catalogue_versions (kind, id, number, digest)
) STRICT;

-- +goose StatementBegin
CREATE TRIGGER catalogue_versions_no_update BEFORE UPDATE ON catalogue_versions
BEGIN SELECT RAISE(ABORT, 'catalogue_versions is append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER catalogue_versions_no_delete BEFORE DELETE ON catalogue_versions
BEGIN SELECT RAISE(ABORT, 'catalogue_versions is append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER decisions_no_update BEFORE UPDATE ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions is append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER decisions_no_delete BEFORE DELETE ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions is append-only'); END;
-- +goose StatementEnd
