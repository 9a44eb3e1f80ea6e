-- +goose NO TRANSACTION
-- +goose Up

-- One text for a server and for a cluster: the words in double braces are filled in
-- by metering/clickhouse. On a cluster each table is a replicated one on every shard,
-- NAME_local, below a Distributed one of the plain name.
--
-- Nothing here is ever updated, deleted, merged away, summed or replaced. Every row of
-- the first group carries the epoch it was written under and the sequence of its
-- stream message; it counts if its epoch is in the chain of its partition and its
-- sequence is not above that epoch's end. An epoch's bits are, from the highest down,
-- 26 of the lease, 10 of the try, 18 at random and 10 of the partition.

-- The chain: who filled a partition, one row for each epoch. An epoch begins after the
-- sequence where the one before it ends; the newest epoch's previous, that one's
-- previous and so on are the chain, all others never count.
{{create "epochs"}} (
    epoch        UInt64,
    partition    UInt16,
    lease        UInt64,                  -- number of the owner's lease
    previous     UInt64,                  -- epoch, 0 for none
    starts_after UInt64,                  -- sequence
    owner        String,                  -- host and process, for people
    opened_at    DateTime64(6, 'UTC')
) ENGINE = {{engine}} ORDER BY (partition, epoch) {{settings}};
{{distributed "epochs" "epoch"}}

-- The commit: one row per stream message, with the tally of what became of its events.
-- A block's rows here are inserted last and in one part.
{{create "messages"}} (
    epoch       UInt64 CODEC(Delta, ZSTD),
    sequence    UInt64 CODEC(Delta, ZSTD),
    accepted_at Nullable(DateTime64(6, 'UTC')) CODEC(Delta, ZSTD),
    announced   UInt32 CODEC(ZSTD),       -- events, by the message's header
    stored      UInt32 CODEC(ZSTD),
    duplicate   UInt32 CODEC(ZSTD),
    conflict    UInt32 CODEC(ZSTD),
    undecoded   UInt32 CODEC(ZSTD),
    digest      FixedString(32) CODEC(NONE) -- SHA-256 of the packed payload
) ENGINE = {{engine}} ORDER BY (epoch, sequence) {{settings}};
{{distributed "messages" "epoch"}}

-- One row per stored event. Absent numbers are NULL, absent texts are ''.
{{create "events"}} (
    epoch       UInt64 CODEC(ZSTD),
    sequence    UInt64 CODEC(ZSTD),
    idx         UInt32 CODEC(ZSTD),       -- in the message
    event_key   FixedString(16) CODEC(NONE),
    type        LowCardinality(String),
    app         LowCardinality(String),
    occurred_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    accepted_at Nullable(DateTime64(6, 'UTC')) CODEC(Delta, ZSTD),
    time_absent Bool,                     -- no time was sent, occurred_at is the acceptance
    source      LowCardinality(String),
    event_id    String CODEC(ZSTD),
    customer    LowCardinality(String),
    class       LowCardinality(String),
    operation   LowCardinality(String),
    unit        LowCardinality(String),
    currency    LowCardinality(String),
    status      UInt16 CODEC(ZSTD),
    environment LowCardinality(String),
    dimensions  LowCardinality(String),   -- canonical JSON object, '' when none
    quantity    Nullable(Decimal(38, 9)) CODEC(ZSTD),
    bytes       Int64 CODEC(ZSTD),
    amount_minor Nullable(Int64) CODEC(ZSTD), -- minor units of the currency
    tax_minor   Nullable(Int64) CODEC(ZSTD),
    fee_minor   Nullable(Int64) CODEC(ZSTD),
    latency_ms  Nullable(Decimal(38, 9)) CODEC(ZSTD),
    deal        String CODEC(ZSTD),
    lead        String CODEC(ZSTD),
    refers_to   String CODEC(ZSTD),
    reference   String CODEC(ZSTD),
    region      LowCardinality(String),
    paid_months UInt16 CODEC(ZSTD),
    INDEX by_sequence sequence TYPE minmax GRANULARITY 1
) ENGINE = {{engine}} PARTITION BY toYYYYMM(occurred_at)
  PRIMARY KEY (type, app, occurred_at) ORDER BY (type, app, occurred_at, event_key) {{settings}};
{{distributed "events" "sipHash64(event_key)"}}

-- The identity of every stored event, forever, with what is asked about the first when
-- it comes again. Half of the SHA-256 is enough to tell two contents apart.
{{create "keys"}} (
    event_key    FixedString(16) CODEC(NONE),
    content_hash FixedString(16) CODEC(NONE),
    epoch        UInt64 CODEC(ZSTD),
    sequence     UInt64 CODEC(ZSTD),
    idx          UInt32 CODEC(ZSTD),
    type         LowCardinality(String),
    app          LowCardinality(String),
    occurred_at  DateTime64(6, 'UTC') CODEC(ZSTD)
) ENGINE = {{engine}} ORDER BY event_key {{settings "index_granularity = 512"}};
{{distributed "keys" "sipHash64(event_key)"}}

-- The events of type usage.voided, with the key of the event that each takes out, which
-- may be stored later or never.
{{create "voids"}} (
    target_key  FixedString(16) CODEC(NONE),
    event_key   FixedString(16) CODEC(NONE),
    epoch       UInt64 CODEC(ZSTD),
    sequence    UInt64 CODEC(ZSTD),
    idx         UInt32 CODEC(ZSTD),
    accepted_at Nullable(DateTime64(6, 'UTC')) CODEC(ZSTD)
) ENGINE = {{engine}} ORDER BY target_key {{settings}};
{{distributed "voids" "epoch"}}

-- Events whose key was stored before: with the same content, and with another. App and
-- occurred_at are those of the first, which counts; of a conflict the whole
-- accept-listed form is kept.
{{create "duplicates"}} (
    event_key   FixedString(16) CODEC(NONE),
    epoch       UInt64 CODEC(ZSTD),
    sequence    UInt64 CODEC(ZSTD),
    idx         UInt32 CODEC(ZSTD),
    app         LowCardinality(String),
    occurred_at DateTime64(6, 'UTC') CODEC(ZSTD)
) ENGINE = {{engine}} PARTITION BY toYYYYMM(occurred_at) ORDER BY (event_key, sequence, idx) {{settings}};
{{distributed "duplicates" "epoch"}}

{{create "conflicts"}} (
    event_key    FixedString(16) CODEC(NONE),
    epoch        UInt64 CODEC(ZSTD),
    sequence     UInt64 CODEC(ZSTD),
    idx          UInt32 CODEC(ZSTD),
    app          LowCardinality(String),
    occurred_at  DateTime64(6, 'UTC') CODEC(ZSTD),
    content_hash FixedString(32) CODEC(NONE),
    accepted_at  Nullable(DateTime64(6, 'UTC')) CODEC(ZSTD),
    event        String CODEC(ZSTD)       -- JSON
) ENGINE = {{engine}} PARTITION BY toYYYYMM(occurred_at) ORDER BY (event_key, sequence, idx) {{settings}};
{{distributed "conflicts" "epoch"}}

-- Events of stored messages that could not be read.
{{create "undecoded"}} (
    epoch    UInt64 CODEC(Delta, ZSTD),
    sequence UInt64 CODEC(Delta, ZSTD),
    idx      UInt32 CODEC(ZSTD),
    reason   LowCardinality(String)
) ENGINE = {{engine}} ORDER BY (epoch, sequence, idx) {{settings}};
{{distributed "undecoded" "epoch"}}

-- The stream that fills the store. There is one; two rows that differ stop the store.
{{create "streams"}} (
    name        String,
    partitions  UInt16,
    attached_at DateTime64(6, 'UTC')
) ENGINE = {{engine}} ORDER BY (name, partitions) {{settings}};
{{distributed "streams" "sipHash64(name)"}}

-- What did not become an accepted event. Of the unclean no value is kept. Of several
-- rows of one id the one that was kept first counts.
{{create "refusals"}} (
    id          String CODEC(ZSTD),
    kept_at     DateTime64(6, 'UTC') CODEC(ZSTD),
    class       LowCardinality(String),
    reason      LowCardinality(String),
    detail      String CODEC(ZSTD),
    field       LowCardinality(String),
    source      LowCardinality(String),
    location    String CODEC(ZSTD),
    digest      String CODEC(ZSTD),
    event       Nullable(String) CODEC(ZSTD),
    received_at Nullable(DateTime64(6, 'UTC')) CODEC(ZSTD)
) ENGINE = {{engine}} ORDER BY (id, kept_at) {{settings}};
{{distributed "refusals" "sipHash64(id)"}}
