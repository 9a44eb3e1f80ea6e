-- +goose Up

-- The stream that fills the store. There is one row; its number is part of every
-- position so that positions of another stream can never be mistaken for these.
CREATE TABLE streams (
    incarnation INTEGER PRIMARY KEY CHECK (incarnation > 0),
    name        TEXT    NOT NULL UNIQUE,
    partitions  INTEGER NOT NULL CHECK (partitions > 0)
) STRICT;

-- How far each partition is stored.
CREATE TABLE positions (
    partition   INTEGER PRIMARY KEY CHECK (partition >= 0),
    incarnation INTEGER NOT NULL REFERENCES streams,
    sequence    INTEGER NOT NULL CHECK (sequence > 0)
) STRICT;

-- One row per stream message, with the tally of what became of its events. The
-- tallies are written from what the message said, the rows below from what was
-- stored: reconcile compares the two.
CREATE TABLE messages (
    id          INTEGER PRIMARY KEY, -- counted from 1 in the order of storing
    incarnation INTEGER NOT NULL REFERENCES streams,
    partition   INTEGER NOT NULL,
    sequence    INTEGER NOT NULL,
    accepted_us INTEGER,             -- microseconds UTC; NULL when the message says no time
    announced   INTEGER NOT NULL,    -- events, by the message's header
    stored      INTEGER NOT NULL,
    duplicate   INTEGER NOT NULL,
    conflict    INTEGER NOT NULL,
    undecoded   INTEGER NOT NULL,
    digest      BLOB    NOT NULL     -- SHA-256 of the packed payload
) STRICT;
CREATE UNIQUE INDEX messages_by_position ON messages (partition, incarnation, sequence);

-- The places of events below are message id * 2^20 + index in the message: places
-- grow in the order of storing, and an event can be stored at one place only.

-- Every distinct combination of the fields that usage is grouped by, once.
CREATE TABLE cells (
    id          INTEGER PRIMARY KEY,
    app         TEXT    NOT NULL,
    customer    TEXT    NOT NULL,
    type        TEXT    NOT NULL,
    class       TEXT    NOT NULL,
    operation   TEXT    NOT NULL,
    unit        TEXT    NOT NULL,
    currency    TEXT    NOT NULL,
    status      INTEGER NOT NULL,
    environment TEXT    NOT NULL,
    dimensions  TEXT    NOT NULL, -- canonical JSON object, '' when none
    UNIQUE (app, customer, type, class, operation, unit, currency, status, environment, dimensions)
) STRICT;
CREATE INDEX cells_by_type ON cells (type);

CREATE TABLE sources (
    id   INTEGER PRIMARY KEY,
    name TEXT    NOT NULL UNIQUE
) STRICT;

-- One row per stored event. Absent numbers are NULL, absent texts are ''.
CREATE TABLE events (
    place          INTEGER PRIMARY KEY,
    event_key      BLOB    NOT NULL,
    content_hash   BLOB    NOT NULL,
    cell           INTEGER NOT NULL REFERENCES cells,
    source         INTEGER NOT NULL REFERENCES sources,
    event_id       TEXT    NOT NULL,
    occurred_us    INTEGER NOT NULL,           -- microseconds UTC
    accepted_us    INTEGER,                    -- microseconds UTC
    time_absent    INTEGER NOT NULL,           -- 1: no time was sent, occurred_us is the acceptance
    slow           INTEGER NOT NULL,           -- 1: latency_ms is above the bound of slow events
    latency_ms     TEXT,                       -- decimal
    bytes          INTEGER NOT NULL,
    quantity_whole INTEGER,                    -- quantity = whole + nano / 1e9, of one sign
    quantity_nano  INTEGER,
    amount_minor   INTEGER,                    -- minor units of the cell's currency
    tax_minor      INTEGER,
    fee_minor      INTEGER,
    deal           TEXT    NOT NULL DEFAULT '',
    lead           TEXT    NOT NULL DEFAULT '',
    refers_to      TEXT    NOT NULL DEFAULT '',
    reference      TEXT    NOT NULL DEFAULT '',
    region         TEXT    NOT NULL DEFAULT '',
    paid_months    INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX events_by_time ON events (occurred_us, cell);

-- The identity of every stored event, forever. New keys are appended to keys_recent
-- and moved into keys in sorted batches, in the transaction of the block that fills
-- the batch: keys are hashes, and inserting them one by one would rewrite a page of
-- the tree for each event.
CREATE TABLE keys (
    event_key BLOB    PRIMARY KEY,
    place     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE keys_recent (
    place     INTEGER PRIMARY KEY,
    event_key BLOB    NOT NULL
) STRICT;

-- The events of type usage.voided, with the event that each takes out. A void may
-- be stored before its target; target is NULL until then.
CREATE TABLE voids (
    place      INTEGER PRIMARY KEY,
    target_key BLOB    NOT NULL,
    target     INTEGER               -- place of the target
) STRICT;
CREATE INDEX voids_by_target ON voids (target, place) WHERE target IS NOT NULL;
CREATE INDEX voids_waiting ON voids (target_key) WHERE target IS NULL;

-- Events whose key was stored before: with the same content, and with another. The
-- first stays what counts; of the others the whole accept-listed form is kept.
CREATE TABLE duplicates (
    place     INTEGER PRIMARY KEY,
    event_key BLOB    NOT NULL
) STRICT;
CREATE INDEX duplicates_by_key ON duplicates (event_key, place);

CREATE TABLE conflicts (
    place        INTEGER PRIMARY KEY,
    event_key    BLOB    NOT NULL,
    content_hash BLOB    NOT NULL,
    accepted_us  INTEGER,
    event        TEXT    NOT NULL -- the accept-listed form, JSON
) STRICT;
CREATE INDEX conflicts_by_key ON conflicts (event_key, place);

-- Events of stored messages that could not be read.
CREATE TABLE undecoded (
    place  INTEGER PRIMARY KEY,
    reason TEXT    NOT NULL
) STRICT;

-- What did not become an accepted event. Of the unclean no value is kept.
CREATE TABLE refusals (
    id          TEXT PRIMARY KEY,
    class       TEXT NOT NULL CHECK (class IN ('unclean', 'unusable')),
    reason      TEXT NOT NULL,
    detail      TEXT NOT NULL,
    field       TEXT NOT NULL,
    source      TEXT NOT NULL,
    location    TEXT NOT NULL,
    digest      TEXT NOT NULL,
    event       BLOB CHECK (event IS NULL OR class = 'unusable'),
    received_us INTEGER
) STRICT;
CREATE INDEX refusals_by_time ON refusals (received_us, id);
CREATE INDEX refusals_by_source ON refusals (source, received_us, id);

-- Events as people read them.
CREATE VIEW event_list AS
SELECT e.place, m.incarnation, m.partition, m.sequence, e.place & 1048575 AS position_index,
       hex(e.event_key) AS event_key, s.name AS source, e.event_id,
       strftime('%Y-%m-%dT%H:%M:%S', e.occurred_us / 1000000, 'unixepoch') || printf('.%06dZ', e.occurred_us % 1000000) AS occurred_at,
       c.type, c.app, c.customer, c.class, c.operation, c.unit, c.currency, c.status, c.environment, c.dimensions,
       e.quantity_whole, e.quantity_nano, e.amount_minor, e.tax_minor, e.fee_minor, e.latency_ms, e.bytes,
       e.deal, e.lead, e.refers_to, e.reference, e.region, e.paid_months
  FROM events e
  JOIN cells c ON c.id = e.cell
  JOIN sources s ON s.id = e.source
  LEFT JOIN messages m ON m.id = e.place >> 20;
