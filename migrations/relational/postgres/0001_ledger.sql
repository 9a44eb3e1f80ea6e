-- The books. Entries and postings are append-only, and an entry sums to zero in each
-- currency: postings are written first, under a deferred foreign key, and the row of
-- the entry seals them. Text of dates is YYYY-MM-DD, of months YYYY-MM.

-- +goose Up
CREATE TABLE ledger_head (
    id  BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    seq BIGINT NOT NULL CHECK (seq >= 0) -- of the last entry; locked from numbering to commit
);
INSERT INTO ledger_head (id, seq) VALUES (1, 0);

-- A month without a row is open. Each step keeps the last entry before it, so that
-- a later one booked in a closed month stands out.
CREATE TABLE months (
    month       TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (length(month) = 7),
    state       TEXT COLLATE "C" NOT NULL CHECK (state IN ('open', 'closing', 'closed', 'locked')),
    closing_at  TEXT COLLATE "C" NOT NULL DEFAULT '',
    closing_seq BIGINT           CHECK (closing_seq >= 0),
    closed_at   TEXT COLLATE "C" NOT NULL DEFAULT '',
    closed_seq  BIGINT           CHECK (closed_seq >= closing_seq),
    locked_at   TEXT COLLATE "C" NOT NULL DEFAULT '',
    locked_seq  BIGINT           CHECK (locked_seq >= closed_seq),
    CHECK ((state = 'open') = (closing_seq IS NULL)),
    CHECK ((state IN ('open', 'closing')) = (closed_seq IS NULL)),
    CHECK ((state = 'locked') = (locked_seq IS NOT NULL))
);

CREATE TABLE entries (
    seq          BIGINT NOT NULL PRIMARY KEY CHECK (seq > 0),
    id           TEXT   COLLATE "C" NOT NULL UNIQUE CHECK (id <> ''),
    kind         TEXT   COLLATE "C" NOT NULL CHECK (kind <> ''),
    value_on     TEXT   COLLATE "C" NOT NULL CHECK (length(value_on) = 10),
    booked_on    TEXT   COLLATE "C" NOT NULL CHECK (length(booked_on) = 10),
    memo         TEXT   COLLATE "C" NOT NULL,
    content_hash TEXT   COLLATE "C" NOT NULL CHECK (length(content_hash) = 64)
);
CREATE INDEX entries_booked_on ON entries (booked_on, seq);
CREATE INDEX entries_value_on ON entries (value_on, seq);

CREATE TABLE postings (
    entry_seq    BIGINT NOT NULL REFERENCES entries (seq) DEFERRABLE INITIALLY DEFERRED,
    idx          BIGINT NOT NULL CHECK (idx >= 0),
    account      TEXT   COLLATE "C" NOT NULL CHECK (account <> ''),
    currency     TEXT   COLLATE "C" NOT NULL CHECK (length(currency) = 3),
    amount_minor BIGINT NOT NULL CHECK (amount_minor <> 0),
    PRIMARY KEY (entry_seq, idx)
);
CREATE INDEX postings_account ON postings (account, currency, entry_seq);

CREATE TABLE balances ( -- the fold of all postings, kept in the same transaction
    account       TEXT   COLLATE "C" NOT NULL CHECK (account <> ''),
    currency      TEXT   COLLATE "C" NOT NULL CHECK (length(currency) = 3),
    balance_minor BIGINT NOT NULL,
    postings      BIGINT NOT NULL CHECK (postings > 0),
    PRIMARY KEY (account, currency)
) WITH (fillfactor = 50); -- updated all the time: leave room on the page

-- +goose StatementBegin
CREATE FUNCTION ledger_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% are append-only: post a correcting entry', TG_TABLE_NAME;
END $$;
-- +goose StatementEnd
CREATE TRIGGER entries_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only();
CREATE TRIGGER postings_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON postings
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only();

-- Both guards look rows up by number, a few at a time; a plan made while the tables
-- were empty must not read them whole for ever, hence enable_seqscan.
-- Taking the head's lock makes a writer that did not take it wait for the one that
-- did, so that it sees the entry it wants to add to.
-- +goose StatementBegin
CREATE FUNCTION ledger_before_entry() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    PERFORM 1 FROM ledger_head WHERE id = 1 FOR UPDATE;
    IF EXISTS (SELECT 1 FROM new_rows n JOIN entries e ON e.seq = n.entry_seq) THEN
        RAISE EXCEPTION 'the entry is in the books: no posting can be added to it';
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER postings_before_entry AFTER INSERT ON postings
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_before_entry();

-- +goose StatementBegin
CREATE FUNCTION ledger_balance() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    bad BIGINT;
BEGIN
    SELECT n.seq INTO bad FROM new_rows n
        WHERE (SELECT count(*) FROM postings p WHERE p.entry_seq = n.seq) < 2 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'entry % has fewer than two postings', bad;
    END IF;
    SELECT n.seq INTO bad FROM new_rows n
        WHERE EXISTS (SELECT 1 FROM postings p WHERE p.entry_seq = n.seq
                      GROUP BY p.currency HAVING sum(p.amount_minor) <> 0) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'entry % does not sum to zero in each currency', bad;
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER entries_balance AFTER INSERT ON entries
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_balance();
