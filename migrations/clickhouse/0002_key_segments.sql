-- +goose NO TRANSACTION
-- +goose Up

-- What the filter in front of table keys knows, so that it need not be made from all
-- events again: segments of package internal/keyfilter in pieces. Nothing is lost with
-- a row here. A later segment of the same beginning replaces one that it contains.
{{create "key_segments"}} (
    partition    UInt16,
    starts_after UInt64,                  -- sequence
    last         UInt64,                  -- sequence
    piece        UInt16,
    pieces       UInt16,
    bytes        String
) ENGINE = {{replacing "last"}} ORDER BY (partition, starts_after, piece) {{settings}};
{{distributed "key_segments" "partition"}}
