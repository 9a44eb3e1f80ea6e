-- +goose Up
-- Which apps could be placed because of a month, frozen with its scorecards.

CREATE TABLE placements (
    month   TEXT NOT NULL REFERENCES closes (month),
    app     TEXT NOT NULL,
    content TEXT NOT NULL,              -- JSON: eligible or not, each requirement with what was measured
    PRIMARY KEY (month, app)
);

-- +goose StatementBegin
CREATE FUNCTION placements_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'placements is append-only';
END;
$$;
-- +goose StatementEnd
CREATE TRIGGER placements_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON placements
    FOR EACH STATEMENT EXECUTE FUNCTION placements_append_only();
