-- +goose NO TRANSACTION
-- +goose Up

-- Decisions that the value of one field of what is stored under a key must not be kept:
-- a row for the proposal, and one that says all of it again with who else approved it.
-- Of several rows of one id the approval that was kept first counts, else the proposal
-- that was kept first.
{{create "redactions"}} (
    id          String,
    kept_at     DateTime64(6, 'UTC'),
    event_key   FixedString(16),
    field       String,
    reason      String,
    proposed_by String,
    proposed_at DateTime64(6, 'UTC'),
    approved_by String,                     -- '' in a proposal
    approved_at Nullable(DateTime64(6, 'UTC'))
) ENGINE = {{engine}} ORDER BY (event_key, id, kept_at) {{settings}};
{{distributed "redactions" "sipHash64(event_key)"}}

-- Which rows of events and conflicts are overwritten, by which redactions, and the hash
-- of what they say then. A place is the same under every epoch, so that what is stored
-- again from the stream is overwritten again. A row here counts for what of applied is
-- approved. The hash of what was sent is that by which the same event is known again.
{{create "redacted_rows"}} (
    event_key    FixedString(16),
    partition    UInt16,
    sequence     UInt64,
    idx          UInt32,
    applied      String,                    -- ids of redactions, in order, with a comma between
    sent_hash    FixedString(32) CODEC(NONE),
    content_hash FixedString(32) CODEC(NONE)
) ENGINE = {{engine}} ORDER BY (event_key, sequence, idx) {{settings}};
{{distributed "redacted_rows" "sipHash64(event_key)"}}

-- The redaction by which the kept form was erased.
{{alter "refusals"}} ADD COLUMN IF NOT EXISTS erased_by String AFTER event_key;
{{alterDistributed "refusals" "ADD COLUMN IF NOT EXISTS erased_by String AFTER event_key"}}

-- What was overwritten stays in parts that others have replaced until the engine deletes
-- them. It keeps them for minutes, since it does not make sure that the new ones are on
-- disk. Here it does, and keeps them no longer.
{{alter "events"}} MODIFY SETTING old_parts_lifetime = 1, min_rows_to_fsync_after_merge = 1;
{{alter "conflicts"}} MODIFY SETTING old_parts_lifetime = 1, min_rows_to_fsync_after_merge = 1;
{{alter "refusals"}} MODIFY SETTING old_parts_lifetime = 1, min_rows_to_fsync_after_merge = 1;
{{alter "replays"}} MODIFY SETTING old_parts_lifetime = 1, min_rows_to_fsync_after_merge = 1;
