-- +goose Up
-- Appeals against measures of scorecards, and what was decided about them. Which close
-- took an accepted value is in the manifests.

CREATE TABLE appeals (
    id        TEXT NOT NULL PRIMARY KEY,  -- made of app, month, measure and number
    month     TEXT NOT NULL,
    app       TEXT NOT NULL,
    content   TEXT NOT NULL,              -- JSON as opened
    opened_at TEXT NOT NULL
);
CREATE INDEX appeals_by_month ON appeals (month, app);

CREATE TABLE appeal_decisions (
    appeal_id TEXT NOT NULL PRIMARY KEY REFERENCES appeals (id),
    content   TEXT NOT NULL               -- JSON: accepted with a value or declined, reason, by whom
);

-- +goose StatementBegin
CREATE FUNCTION appeals_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'appeals is append-only';
END;
$$;
-- +goose StatementEnd
CREATE TRIGGER appeals_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON appeals
    FOR EACH STATEMENT EXECUTE FUNCTION appeals_append_only();

-- +goose StatementBegin
CREATE FUNCTION appeal_decisions_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'appeal_decisions is append-only';
END;
$$;
-- +goose StatementEnd
CREATE TRIGGER appeal_decisions_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON appeal_decisions
    FOR EACH STATEMENT EXECUTE FUNCTION appeal_decisions_append_only();
