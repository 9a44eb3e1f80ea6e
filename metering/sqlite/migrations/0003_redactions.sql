-- +goose Up

-- Decisions that the value of one field of what is stored under a key must not be kept:
-- who proposed it, and, apart from that, who else approved it. From the approval on the
-- value is overwritten.
CREATE TABLE redactions (
    number      INTEGER PRIMARY KEY, -- in the order of proposals
    id          TEXT    NOT NULL UNIQUE,
    event_key   BLOB    NOT NULL,
    field       TEXT    NOT NULL,
    reason      TEXT    NOT NULL CHECK (reason <> ''),
    proposed_by TEXT    NOT NULL CHECK (proposed_by <> ''),
    proposed_us INTEGER NOT NULL,    -- microseconds UTC
    UNIQUE (event_key, field)
) STRICT;

CREATE TABLE redactions_approved (
    id          TEXT    PRIMARY KEY REFERENCES redactions (id),
    approved_by TEXT    NOT NULL CHECK (approved_by <> ''),
    approved_us INTEGER NOT NULL
) STRICT;

-- Every row of events and conflicts that was overwritten, with the hash of what it says
-- since. The row's own content_hash stays that of the content as it was sent, so that
-- the same event sent again is known; the newest hash here is what it must say now.
CREATE TABLE redacted_rows (
    number       INTEGER PRIMARY KEY, -- in the order of overwriting
    place        INTEGER NOT NULL,
    redaction    TEXT    NOT NULL REFERENCES redactions_approved (id),
    content_hash BLOB    NOT NULL,
    UNIQUE (place, redaction)
) STRICT;

-- Every refusal whose kept form was erased.
CREATE TABLE erased_forms (
    refusal   TEXT PRIMARY KEY REFERENCES refusals (id),
    redaction TEXT NOT NULL REFERENCES redactions_approved (id)
) STRICT;
