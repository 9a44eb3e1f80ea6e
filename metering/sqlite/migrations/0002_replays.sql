-- +goose Up

-- Who sent what was refused, so that a replay may send what its sender may: '' is who
-- reads files here, '?' is unknown. Rows from before, of requests and messages, tell
-- no credential.
ALTER TABLE refusals ADD COLUMN sender TEXT NOT NULL DEFAULT '';
UPDATE refusals SET sender = '?' WHERE location LIKE '%]';

-- Of what key the kept form is; NULL where none is kept. Rows from before get theirs
-- when the file is opened: SQL cannot hash.
ALTER TABLE refusals ADD COLUMN event_key BLOB;
CREATE INDEX refusals_by_key ON refusals (event_key) WHERE event_key IS NOT NULL;
CREATE INDEX refusals_without_key ON refusals (id) WHERE event IS NOT NULL AND event_key IS NULL;
CREATE INDEX refusals_by_digest ON refusals (digest);

-- Each time that a refusal went through the gate again, and what came of it. Rows are
-- added, none changes.
CREATE TABLE replays (
    id       INTEGER PRIMARY KEY,
    refusal  TEXT    NOT NULL REFERENCES refusals,
    tried_us INTEGER NOT NULL,                          -- microseconds UTC
    tried_by TEXT    NOT NULL CHECK (tried_by <> ''),
    passed   INTEGER NOT NULL CHECK (passed IN (0, 1)),
    receipt  TEXT    NOT NULL,                          -- passed: the event's key
    position TEXT    NOT NULL,                          -- passed: where the stream put it
    class    TEXT    NOT NULL,                          -- refused again: the newest reason
    reason   TEXT    NOT NULL,
    detail   TEXT    NOT NULL,
    field    TEXT    NOT NULL,
    UNIQUE (refusal, tried_us, tried_by, passed, receipt, position, class, reason, detail, field),
    CHECK ((passed = 1) = (receipt <> '') AND (passed = 1) = (reason = ''))
) STRICT;
CREATE INDEX replays_passed ON replays (refusal) WHERE passed = 1;
