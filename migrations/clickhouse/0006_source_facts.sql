-- +goose NO TRANSACTION
-- +goose Up

-- What sources say that they sent of a day. The content that was kept first counts,
-- others are kept beside it. Equal contents of one day are one.
{{create "day_totals"}} (
    source      LowCardinality(String),
    day         String,                     -- YYYY-MM-DD
    kept_at     DateTime64(6, 'UTC'),
    zone        LowCardinality(String),
    totals      String CODEC(ZSTD),         -- JSON array
    digest      FixedString(32) CODEC(NONE),
    sent_by     LowCardinality(String),
    received_at Nullable(DateTime64(6, 'UTC'))
) ENGINE = {{engine}} ORDER BY (day, source, kept_at) {{settings}};
{{distributed "day_totals" "sipHash64(source)"}}

-- Signs of life of sources. Of several rows of one quarter of an hour the one that was
-- kept first counts.
{{create "heartbeats"}} (
    source      LowCardinality(String),
    slot        Int64,                      -- quarters of an hour since 1970
    kept_at     DateTime64(6, 'UTC'),
    beat_at     DateTime64(6, 'UTC'),
    sent_by     LowCardinality(String),
    received_at Nullable(DateTime64(6, 'UTC'))
) ENGINE = {{engine}} ORDER BY (source, slot, kept_at) {{settings}};
{{distributed "heartbeats" "sipHash64(source)"}}
