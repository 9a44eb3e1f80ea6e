-- +goose Up
-- Which apps could be placed because of a month, frozen with its scorecards.

CREATE TABLE placements (
    month   TEXT NOT NULL REFERENCES closes (month),
    app     TEXT NOT NULL,
    content TEXT NOT NULL,              -- JSON: eligible or not, each requirement with what was measured
    PRIMARY KEY (month, app)
) STRICT;

-- +goose StatementBegin
CREATE TRIGGER placements_no_update BEFORE UPDATE ON placements
BEGIN SELECT RAISE(ABORT, 'placements is append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER placements_no_delete BEFORE DELETE ON placements
BEGIN SELECT RAISE(ABORT, 'placements is append-only'); END;
-- +goose StatementEnd
