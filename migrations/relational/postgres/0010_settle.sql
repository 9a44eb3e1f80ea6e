-- +goose Up
-- What lines of statements charged, or gave back, of fees that are earned over months:
-- later closes earn their parts of it. Rows are facts, inserted once with the statement.

CREATE TABLE deferred_lines (
    statement_id TEXT NOT NULL REFERENCES statements (id),
    line         INTEGER NOT NULL CHECK (line > 0),
    month        TEXT NOT NULL,         -- of the statement
    content      TEXT NOT NULL,         -- JSON
    PRIMARY KEY (statement_id, line)
);
CREATE INDEX deferred_lines_by_month ON deferred_lines (month);

-- What partners paid us of what they owe, where they collect.
CREATE TABLE partner_payments (
    partner   TEXT NOT NULL,
    reference TEXT NOT NULL,            -- of the payment, as the bank has it
    paid_on   TEXT NOT NULL,
    content   TEXT NOT NULL,            -- JSON
    PRIMARY KEY (partner, reference)
);
