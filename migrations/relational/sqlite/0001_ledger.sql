-- The books. Entries and postings are append-only, and an entry sums to zero in each
-- currency: postings are written first, under a deferred foreign key, and the row of
-- the entry seals them. Text of dates is YYYY-MM-DD, of months YYYY-MM.

-- +goose Up
CREATE TABLE ledger_head (
    id  INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL CHECK (seq >= 0) -- of the last entry; locked from numbering to commit
) STRICT;
INSERT INTO ledger_head (id, seq) VALUES (1, 0);

-- A month without a row is open. Each step keeps the last entry before it, so that
-- a later one booked in a closed month stands out.
CREATE TABLE months (
    month       TEXT    NOT NULL PRIMARY KEY CHECK (length(month) = 7),
    state       TEXT    NOT NULL CHECK (state IN ('open', 'closing', 'closed', 'locked')),
    closing_at  TEXT    NOT NULL DEFAULT '',
    closing_seq INTEGER CHECK (closing_seq >= 0),
    closed_at   TEXT    NOT NULL DEFAULT '',
    closed_seq  INTEGER CHECK (closed_seq >= closing_seq),
    locked_at   TEXT    NOT NULL DEFAULT '',
    locked_seq  INTEGER CHECK (locked_seq >= closed_seq),
    CHECK ((state = 'open') = (closing_seq IS NULL)),
    CHECK ((state IN ('open', 'closing')) = (closed_seq IS NULL)),
    CHECK ((state = 'locked') = (locked_seq IS NOT NULL))
) STRICT;

CREATE TABLE entries (
    seq          INTEGER NOT NULL PRIMARY KEY CHECK (seq > 0),
    id           TEXT    NOT NULL UNIQUE CHECK (id <> ''),
    kind         TEXT    NOT NULL CHECK (kind <> ''),
    value_on     TEXT    NOT NULL CHECK (length(value_on) = 10),
    booked_on    TEXT    NOT NULL CHECK (length(booked_on) = 10),
    memo         TEXT    NOT NULL,
    content_hash TEXT    NOT NULL CHECK (length(content_hash) = 64)
) STRICT;
CREATE INDEX entries_booked_on ON entries (booked_on, seq);
CREATE INDEX entries_value_on ON entries (value_on, seq);

CREATE TABLE postings (
    entry_seq    INTEGER NOT NULL REFERENCES entries (seq) DEFERRABLE INITIALLY DEFERRED,
    idx          INTEGER NOT NULL CHECK (idx >= 0),
    account      TEXT    NOT NULL CHECK (account <> ''),
    currency     TEXT    NOT NULL CHECK (length(currency) = 3),
    amount_minor INTEGER NOT NULL CHECK (amount_minor <> 0),
    PRIMARY KEY (entry_seq, idx)
) STRICT, WITHOUT ROWID;
CREATE INDEX postings_account ON postings (account, currency, entry_seq);

CREATE TABLE balances ( -- the fold of all postings, kept in the same transaction
    account       TEXT    NOT NULL CHECK (account <> ''),
    currency      TEXT    NOT NULL CHECK (length(currency) = 3),
    balance_minor INTEGER NOT NULL,
    postings      INTEGER NOT NULL CHECK (postings > 0),
    PRIMARY KEY (account, currency)
) STRICT, WITHOUT ROWID;

-- +goose StatementBegin
CREATE TRIGGER entries_no_update BEFORE UPDATE ON entries
BEGIN SELECT RAISE(ABORT, 'entries are append-only: post a correcting entry'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries
BEGIN SELECT RAISE(ABORT, 'entries are append-only: post a correcting entry'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER postings_no_update BEFORE UPDATE ON postings
BEGIN SELECT RAISE(ABORT, 'postings are append-only: post a correcting entry'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER postings_no_delete BEFORE DELETE ON postings
BEGIN SELECT RAISE(ABORT, 'postings are append-only: post a correcting entry'); END;
-- +goose StatementEnd

-- REPLACE deletes rows without the triggers above; this stops it.
-- +goose StatementBegin
CREATE TRIGGER entries_no_replace BEFORE INSERT ON entries
WHEN EXISTS (SELECT 1 FROM entries WHERE seq = NEW.seq OR id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'an entry with this number or id is in the books'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER postings_before_entry BEFORE INSERT ON postings
WHEN EXISTS (SELECT 1 FROM entries WHERE seq = NEW.entry_seq)
BEGIN SELECT RAISE(ABORT, 'the entry is in the books: no posting can be added to it'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER entries_balance AFTER INSERT ON entries
BEGIN
    SELECT RAISE(ABORT, 'the entry has fewer than two postings')
    WHERE (SELECT count(*) FROM postings WHERE entry_seq = NEW.seq) < 2;
    SELECT RAISE(ABORT, 'the entry does not sum to zero in each currency')
    WHERE EXISTS (SELECT 1 FROM postings WHERE entry_seq = NEW.seq
                  GROUP BY currency HAVING sum(amount_minor) <> 0);
END;
-- +goose StatementEnd
