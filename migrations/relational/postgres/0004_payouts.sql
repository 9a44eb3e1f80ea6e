-- +goose Up
-- Runs, payouts and holds. Only the two state columns and a payout's reason change;
-- every other row is a fact that is inserted once.

CREATE TABLE payout_runs (
    id       TEXT NOT NULL PRIMARY KEY,          -- 2026-11-20.usd.manual.meridian-us
    revision INTEGER NOT NULL CHECK (revision > 0),
    pay_on   TEXT NOT NULL,
    state    TEXT NOT NULL CHECK (state IN ('planned', 'sent-back', 'approved', 'submitted', 'part-settled', 'settled'))
);

CREATE TABLE payout_plans (
    run_id     TEXT NOT NULL REFERENCES payout_runs (id),
    revision   INTEGER NOT NULL,
    content    TEXT NOT NULL,           -- SHA-256 of document, what is approved
    document   TEXT NOT NULL,           -- JSON
    planned_at TEXT NOT NULL,
    PRIMARY KEY (run_id, revision)
);

CREATE TABLE payout_approvals (
    run_id          TEXT NOT NULL,
    revision        INTEGER NOT NULL,
    approver        TEXT NOT NULL,      -- approved_by in lower case: nobody counts twice
    approved_by     TEXT NOT NULL,
    content         TEXT NOT NULL,
    approved_at     TEXT NOT NULL,
    unauthenticated INTEGER NOT NULL CHECK (unauthenticated IN (0, 1)),
    PRIMARY KEY (run_id, revision, approver),
    FOREIGN KEY (run_id, revision) REFERENCES payout_plans (run_id, revision)
);

CREATE TABLE payout_returns (           -- runs sent back to their planner
    run_id   TEXT NOT NULL,
    revision INTEGER NOT NULL,
    sent_by  TEXT NOT NULL,
    sent_at  TEXT NOT NULL,
    reason   TEXT NOT NULL,
    PRIMARY KEY (run_id, revision),
    FOREIGN KEY (run_id, revision) REFERENCES payout_plans (run_id, revision)
);

CREATE TABLE payouts (
    id           TEXT NOT NULL PRIMARY KEY,      -- P-2026-11-20-007
    run_id       TEXT NOT NULL,
    revision     INTEGER NOT NULL,
    partner      TEXT NOT NULL,
    currency     TEXT NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor > 0),
    account      TEXT NOT NULL,
    pay_on       TEXT NOT NULL,
    replaces     TEXT REFERENCES payouts (id),
    document     TEXT NOT NULL,         -- JSON as planned
    state        TEXT NOT NULL CHECK (state IN ('planned', 'in transit', 'settled', 'failed', 'returned', 'cancelled')),
    reason       TEXT NOT NULL,
    FOREIGN KEY (run_id, revision) REFERENCES payout_plans (run_id, revision)
);
CREATE INDEX payouts_by_run ON payouts (run_id, revision);
CREATE INDEX payouts_by_partner ON payouts (partner, currency, pay_on);
CREATE INDEX payouts_by_day ON payouts (pay_on);
CREATE UNIQUE INDEX one_open_payout ON payouts (partner, currency) WHERE state IN ('planned', 'in transit');
CREATE UNIQUE INDEX paid_again_once ON payouts (replaces) WHERE state <> 'cancelled';

CREATE TABLE payout_attempts (
    payout_id    TEXT NOT NULL REFERENCES payouts (id),
    number       INTEGER NOT NULL CHECK (number = 1), -- after a proven failure a new payout, never a second attempt
    key          TEXT NOT NULL UNIQUE,
    params_hash  TEXT NOT NULL,
    attempted_at TEXT NOT NULL,
    booked_on    TEXT NOT NULL,
    PRIMARY KEY (payout_id, number)
);

CREATE TABLE payout_receipts (          -- what the rail answered first
    payout_id  TEXT NOT NULL,
    number     INTEGER NOT NULL,
    outcome    TEXT NOT NULL CHECK (outcome IN ('accepted', 'paid', 'failed', 'returned')),
    ref        TEXT NOT NULL,
    told_on    TEXT NOT NULL,
    reason     TEXT NOT NULL,
    PRIMARY KEY (payout_id, number),
    FOREIGN KEY (payout_id, number) REFERENCES payout_attempts (payout_id, number)
);

CREATE TABLE payout_confirmations (
    payout_id    TEXT NOT NULL REFERENCES payouts (id),
    outcome      TEXT NOT NULL CHECK (outcome IN ('paid', 'failed', 'returned')),
    amount_minor BIGINT NOT NULL,
    bank_on      TEXT NOT NULL,
    bank_ref     TEXT NOT NULL,
    reason       TEXT NOT NULL,
    imported_by  TEXT NOT NULL,
    imported_at  TEXT NOT NULL,
    source       TEXT NOT NULL,
    booked_on    TEXT NOT NULL,
    PRIMARY KEY (payout_id, outcome)
);

CREATE TABLE payout_holds (             -- placing and releasing are a row each
    hold_id      TEXT NOT NULL,
    fact         TEXT NOT NULL CHECK (fact IN ('place', 'release')),
    partner      TEXT NOT NULL,
    currency     TEXT NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor >= 0),
    everything   INTEGER NOT NULL CHECK (everything IN (0, 1)),
    reason       TEXT NOT NULL,
    until_on     TEXT NOT NULL,
    done_by      TEXT NOT NULL,
    done_at      TEXT NOT NULL,
    done_on      TEXT NOT NULL,
    booked_on    TEXT NOT NULL,         -- empty: nothing was due, nothing was moved
    PRIMARY KEY (hold_id, fact)
);
CREATE INDEX payout_holds_by_partner ON payout_holds (partner, currency);

-- +goose StatementBegin
CREATE FUNCTION payouts_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END;
$$;
-- +goose StatementEnd
CREATE TRIGGER payout_plans_no_update BEFORE UPDATE ON payout_plans FOR EACH ROW EXECUTE FUNCTION payouts_append_only();
CREATE TRIGGER payout_plans_no_delete BEFORE DELETE ON payout_plans FOR EACH ROW EXECUTE FUNCTION payouts_append_only();
CREATE TRIGGER payout_approvals_no_update BEFORE UPDATE ON payout_approvals FOR EACH ROW EXECUTE FUNCTION payouts_append_only();
CREATE TRIGGER payout_approvals_no_delete BEFORE DELETE ON payout_approvals FOR EACH ROW EXECUTE FUNCTION payouts_append_only();
CREATE TRIGGER payout_returns_no_update BEFORE UPDATE ON payout_returns FOR EACH ROW EXECUTE FUNCTION payouts_append_only();
CREATE TRIGGER payout_returns_no_delete BEFORE DELETE ON payout_returns FOR EACH ROW EXECUTE FUNCTION payouts_append_only();
CREATE TRIGGER payout_attempts_no_update BEFORE UPDATE ON payout_attempts FOR EACH ROW EXECUTE FUNCTION payouts_append_only();
CREATE TRIGGER payout_attempts_no_delete BEFORE DELETE ON payout_attempts FOR EACH ROW EXECUTE FUNCTION payouts_append_only();
CREATE TRIGGER payout_receipts_no_update BEFORE UPDATE ON payout_receipts FOR EACH ROW EXECUTE FUNCTION payouts_append_only();
CREATE TRIGGER payout_receipts_no_delete BEFORE DELETE ON payout_receipts FOR EACH ROW EXECUTE FUNCTION payouts_append_only();
CREATE TRIGGER payout_confirmations_no_update BEFORE UPDATE ON payout_confirmations FOR EACH ROW EXECUTE FUNCTION payouts_append_only();
CREATE TRIGGER payout_confirmations_no_delete BEFORE DELETE ON payout_confirmations FOR EACH ROW EXECUTE FUNCTION payouts_append_only();
CREATE TRIGGER payout_holds_no_update BEFORE UPDATE ON payout_holds FOR EACH ROW EXECUTE FUNCTION payouts_append_only();
CREATE TRIGGER payout_holds_no_delete BEFORE DELETE ON payout_holds FOR EACH ROW EXECUTE FUNCTION payouts_append_only();
CREATE TRIGGER payouts_no_delete BEFORE DELETE ON payouts FOR EACH ROW EXECUTE FUNCTION payouts_append_only();
