-- +goose NO TRANSACTION
-- +goose Up

-- Every question reads the epoch of every event in its time. There are few, of random
-- bits: ZSTD took longer to unpack them than to unpack all that is summed up.
{{alter "events"}} MODIFY COLUMN epoch CODEC(LZ4HC(9));

-- Repeats are found by a row here and a row there of six columns: 4 KiB are less to
-- unpack than 16.
{{alter "keys"}} MODIFY SETTING min_compress_block_size = 4096;
