-- +goose Up
-- Appeals against measures of scorecards, and what was decided about them. Which close
-- took an accepted value is in the manifests.

CREATE TABLE appeals (
    id        TEXT NOT NULL PRIMARY KEY,  -- made of app, month, measure and number
    month     TEXT NOT NULL,
    app       TEXT NOT NULL,
    content   TEXT NOT NULL,              -- JSON as opened
    opened_at TEXT NOT NULL
) STRICT;
CREATE INDEX appeals_by_month ON appeals (month, app);

CREATE TABLE appeal_decisions (
    appeal_id TEXT NOT NULL PRIMARY KEY REFERENCES appeals (id),
    content   TEXT NOT NULL               -- JSON: accepted with a value or declined, reason, by whom
) STRICT;

-- +goose StatementBegin
CREATE TRIGGER appeals_no_update BEFORE UPDATE ON appeals
BEGIN SELECT RAISE(ABORT, 'appeals is append-only'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER appeals_no_delete BEFORE DELETE ON appeals
BEGIN SELECT RAISE(ABORT, 'appeals is append-only'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER appeal_decisions_no_update BEFORE UPDATE ON appeal_decisions
BEGIN SELECT RAISE(ABORT, 'appeal_decisions is append-only'); END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER appeal_decisions_no_delete BEFORE DELETE ON appeal_decisions
BEGIN SELECT RAISE(ABORT, 'appeal_decisions is append-only'); END;
-- +goose StatementEnd
