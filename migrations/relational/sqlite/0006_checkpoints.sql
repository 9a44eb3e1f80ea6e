-- +goose Up
-- How far reconciles found stream and metering store to agree, and what they had
-- counted in the stream up to there: messages up to the newest checkpoint may expire.

CREATE TABLE checkpoints (
    stream  TEXT NOT NULL,                       -- its own name
    number  INTEGER NOT NULL CHECK (number > 0), -- the newest is the largest
    content TEXT NOT NULL,                       -- JSON: cutoff, messages, announced events, when
    digest  TEXT NOT NULL CHECK (length(digest) = 64),
    PRIMARY KEY (stream, number)
) STRICT;

-- +goose StatementBegin
CREATE TRIGGER checkpoints_no_update BEFORE UPDATE ON checkpoints
BEGIN
    SELECT RAISE(ABORT, 'checkpoints is append-only');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER checkpoints_no_delete BEFORE DELETE ON checkpoints
BEGIN
    SELECT RAISE(ABORT, 'checkpoints is append-only');
END;
-- +goose StatementEnd
