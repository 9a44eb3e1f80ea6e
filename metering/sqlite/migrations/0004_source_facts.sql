-- +goose Up

-- What sources say that they sent of a day. The first content of a day counts, others
-- are kept beside it. Rows are added, none changes.
CREATE TABLE day_totals (
    number      INTEGER PRIMARY KEY, -- in the order of keeping
    source      TEXT    NOT NULL,
    day         TEXT    NOT NULL,    -- YYYY-MM-DD
    zone        TEXT    NOT NULL,
    totals      TEXT    NOT NULL,    -- JSON array
    digest      BLOB    NOT NULL,
    sent_by     TEXT    NOT NULL,
    received_us INTEGER NOT NULL,
    UNIQUE (source, day, digest)
) STRICT;
CREATE INDEX day_totals_by_day ON day_totals (day, source, number);

-- Signs of life of sources, at most one of each quarter of an hour.
CREATE TABLE heartbeats (
    source      TEXT    NOT NULL,
    slot        INTEGER NOT NULL, -- quarters of an hour since 1970
    at_us       INTEGER NOT NULL, -- microseconds UTC
    sent_by     TEXT    NOT NULL,
    received_us INTEGER NOT NULL,
    PRIMARY KEY (source, slot)
) STRICT, WITHOUT ROWID;
