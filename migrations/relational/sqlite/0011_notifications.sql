-- +goose Up
-- Who was told at the partner of an approved version of a contract, and which words
-- they were given. Rows are facts, inserted once.

CREATE TABLE notifications (
    seq             INTEGER PRIMARY KEY,
    kind            TEXT NOT NULL,
    id              TEXT NOT NULL,
    number          INTEGER NOT NULL,
    digest          TEXT NOT NULL,          -- what they were told of
    document_sha256 TEXT NOT NULL,          -- of the YAML
    sheet_sha256    TEXT NOT NULL CHECK (length(sheet_sha256) = 64), -- of the rendered term sheet
    sheet_format    TEXT NOT NULL CHECK (sheet_format <> ''),        -- md or html
    notified        TEXT NOT NULL CHECK (notified <> ''),            -- who was told
    how             TEXT NOT NULL CHECK (how <> ''),
    notified_on     TEXT NOT NULL CHECK (notified_on <> ''),         -- a day, in the contract's zone
    notified_by     TEXT NOT NULL CHECK (notified_by <> ''),
    unauthenticated INTEGER NOT NULL CHECK (unauthenticated IN (0, 1)),
    evidence        TEXT NOT NULL,          -- where it can be read; empty: nowhere
    recorded_at     TEXT NOT NULL,
    UNIQUE (kind, id, number, notified, how, notified_on, notified_by, evidence, sheet_sha256, sheet_format),
    FOREIGN KEY (kind, id, number, digest) REFERENCES catalogue_versions (kind, id, number, digest)
) STRICT;

-- +goose StatementBegin
CREATE TRIGGER notifications_no_update BEFORE UPDATE ON notifications
BEGIN SELECT RAISE(ABORT, 'notifications is append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER notifications_no_delete BEFORE DELETE ON notifications
BEGIN SELECT RAISE(ABORT, 'notifications is append-only'); END;
-- +goose StatementEnd
