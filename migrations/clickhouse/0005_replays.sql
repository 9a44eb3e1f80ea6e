-- +goose NO TRANSACTION
-- +goose Up

-- Who sent what was refused, so that a replay may send what its sender may: '' is who
-- reads files here, '?' is unknown. Rows from before, of requests and messages, tell
-- no credential. Of what key the kept form is, is NULL where none is kept or it cannot
-- be read, and in rows from before.
{{alter "refusals"}}
    ADD COLUMN IF NOT EXISTS sender LowCardinality(String) DEFAULT if(endsWith(location, ']'), '?', '') CODEC(ZSTD) AFTER source,
    ADD COLUMN IF NOT EXISTS event_key Nullable(FixedString(16)) AFTER event;
{{alterDistributed "refusals" "ADD COLUMN IF NOT EXISTS sender LowCardinality(String) AFTER source, ADD COLUMN IF NOT EXISTS event_key Nullable(FixedString(16)) AFTER event"}}

-- Each time that a refusal went through the gate again, and what came of it. Equal rows
-- are one.
{{create "replays"}} (
    refusal  String,                        -- its id
    tried_at DateTime64(6, 'UTC'),
    tried_by String,
    passed   Bool,
    receipt  String,                        -- passed: the event's key
    position String,                        -- passed: where the stream put it
    class    LowCardinality(String),        -- refused again: the newest reason
    reason   LowCardinality(String),
    detail   String,
    field    LowCardinality(String)
) ENGINE = {{engine}} ORDER BY (refusal, tried_at) {{settings}};
{{distributed "replays" "sipHash64(refusal)"}}
