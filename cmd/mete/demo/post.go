package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
)

const (
	postBatch = 500 // events of one request
	batchType = "application/cloudevents-batch+json"
)

// Post sends the events of an NDJSON file to an HTTP endpoint in batches, with the
// credential's token. Answers that refuse single events are what the sender expects
// of its own mistakes; anything else fails.
func Post(ctx context.Context, url, token, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	var batch []json.RawMessage
	for in.Scan() {
		batch = append(batch, bytes.Clone(in.Bytes()))
		if len(batch) == postBatch {
			if err := post(ctx, url, token, batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	if err := in.Err(); err != nil || len(batch) == 0 {
		return err
	}
	return post(ctx, url, token, batch)
}

func post(ctx context.Context, url, token string, batch []json.RawMessage) error {
	body, err := json.Marshal(batch)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", batchType)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("POST %s: %s: %s", url, res.Status, answer)
	}
	return nil
}
