-- +goose Up
-- Each row of payouts once more, by a digest of all its columns, numbered without a
-- gap: a row that was deleted, doubled or altered by hand no longer has its fact. A
-- run and the state of a payout change, and have a fact for each change.

CREATE TABLE payout_facts (
    seq    BIGINT NOT NULL PRIMARY KEY CHECK (seq > 0),
    run_id TEXT NOT NULL,               -- empty: a hold
    kind   TEXT NOT NULL CHECK (kind IN ('run', 'plan', 'approval', 'return', 'payout', 'state', 'attempt', 'receipt', 'confirmation', 'hold')),
    key    TEXT NOT NULL,               -- which row: P-2026-11-20-007.1
    digest TEXT NOT NULL CHECK (length(digest) = 64),
    chain  TEXT NOT NULL CHECK (length(chain) = 64) -- over this fact and the chain of the one before it of its run
);
CREATE INDEX payout_facts_by_run ON payout_facts (run_id, seq);

CREATE TABLE payout_head (
    id  INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    seq BIGINT NOT NULL CHECK (seq >= -1) -- of the last fact; -1: what was kept before has none yet
);
INSERT INTO payout_head (id, seq) VALUES (1, -1);

CREATE TRIGGER payout_facts_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON payout_facts
    FOR EACH STATEMENT EXECUTE FUNCTION payouts_append_only();
