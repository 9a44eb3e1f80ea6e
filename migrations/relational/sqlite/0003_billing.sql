-- +goose Up
-- What closes make. Rows are facts: they are inserted once and never changed, so the
-- state of a thing is read from which rows exist.

CREATE TABLE closes (
    month    TEXT NOT NULL PRIMARY KEY,          -- 2026-10
    manifest TEXT NOT NULL,             -- JSON, everything the close depends on
    digest   TEXT NOT NULL
) STRICT;

CREATE TABLE scorecards (
    month TEXT NOT NULL REFERENCES closes (month),
    app   TEXT NOT NULL,
    card  TEXT NOT NULL,                -- JSON, frozen
    PRIMARY KEY (month, app)
) STRICT;

CREATE TABLE priced_groups (
    close_month  TEXT NOT NULL REFERENCES closes (month), -- the close that priced it
    month        TEXT NOT NULL,                            -- the month that was priced
    group_id     TEXT NOT NULL,
    input_digest TEXT NOT NULL,
    result       TEXT NOT NULL,         -- JSON: lines, totals, what became of the events
    barred       TEXT NOT NULL,         -- JSON: differences that a late limit kept off statements
    PRIMARY KEY (close_month, month, group_id)
) STRICT;
CREATE INDEX priced_groups_by_month ON priced_groups (month, close_month);

CREATE TABLE attributions (
    close_month TEXT NOT NULL,
    month       TEXT NOT NULL,
    source      TEXT NOT NULL,
    sale        TEXT NOT NULL,          -- event id of the sale
    contract    TEXT NOT NULL,
    rule        TEXT NOT NULL,
    body        TEXT NOT NULL,          -- JSON
    PRIMARY KEY (source, sale, contract, rule, close_month)
) STRICT;

CREATE TABLE statements (
    id           TEXT NOT NULL PRIMARY KEY,      -- entity.partner.currency.month
    month        TEXT NOT NULL REFERENCES closes (month),
    partner      TEXT NOT NULL,
    currency     TEXT NOT NULL,
    earned_minor INTEGER NOT NULL,
    content      TEXT NOT NULL,         -- JSON, what the digest is of
    digest       TEXT NOT NULL,
    UNIQUE (partner, currency, month)
) STRICT;
CREATE INDEX statements_by_month ON statements (month, partner);

CREATE TABLE statement_issues (
    statement_id    TEXT NOT NULL PRIMARY KEY REFERENCES statements (id),
    issued_by       TEXT NOT NULL,
    issued_on       TEXT NOT NULL,
    booked_on       TEXT NOT NULL,
    issued_at       TEXT NOT NULL,
    unauthenticated INTEGER NOT NULL CHECK (unauthenticated IN (0, 1))
) STRICT;

CREATE TABLE reserve_layers (
    statement_id TEXT NOT NULL PRIMARY KEY REFERENCES statements (id), -- kept with this statement
    month        TEXT NOT NULL,
    partner      TEXT NOT NULL,
    currency     TEXT NOT NULL,
    amount_minor INTEGER NOT NULL CHECK (amount_minor > 0),
    release_on   TEXT NOT NULL
) STRICT;

CREATE TABLE reserve_releases (
    layer       TEXT NOT NULL PRIMARY KEY REFERENCES reserve_layers (statement_id),
    released_by TEXT NOT NULL REFERENCES statements (id),
    month       TEXT NOT NULL
) STRICT;

CREATE TABLE adjustments (
    id          TEXT NOT NULL PRIMARY KEY,
    content     TEXT NOT NULL,          -- JSON as proposed
    proposed_by TEXT NOT NULL,
    proposed_at TEXT NOT NULL
) STRICT;

CREATE TABLE adjustment_approvals (
    adjustment_id TEXT NOT NULL PRIMARY KEY REFERENCES adjustments (id),
    approved_by   TEXT NOT NULL,
    approved_at   TEXT NOT NULL
) STRICT;

CREATE TABLE adjustment_carries (
    adjustment_id TEXT NOT NULL PRIMARY KEY REFERENCES adjustment_approvals (adjustment_id),
    month         TEXT NOT NULL REFERENCES closes (month)
) STRICT;

CREATE TABLE receipts (
    processor  TEXT NOT NULL,
    settlement TEXT NOT NULL,
    settled_on TEXT NOT NULL,
    content    TEXT NOT NULL,           -- JSON
    PRIMARY KEY (processor, settlement)
) STRICT;
