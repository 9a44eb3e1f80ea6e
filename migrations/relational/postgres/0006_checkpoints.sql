-- +goose Up
-- How far reconciles found stream and metering store to agree, and what they had
-- counted in the stream up to there: messages up to the newest checkpoint may expire.

CREATE TABLE checkpoints (
    stream  TEXT NOT NULL,                       -- its own name
    number  BIGINT NOT NULL CHECK (number > 0),  -- the newest is the largest
    content TEXT NOT NULL,                       -- JSON: cutoff, messages, announced events, when
    digest  TEXT NOT NULL CHECK (length(digest) = 64),
    PRIMARY KEY (stream, number)
);

-- +goose StatementBegin
CREATE FUNCTION checkpoints_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'checkpoints is append-only';
END;
$$;
-- +goose StatementEnd
CREATE TRIGGER checkpoints_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION checkpoints_append_only();
