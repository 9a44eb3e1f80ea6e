package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// answerPatience is how long a producer waits for the answer about a message.
const answerPatience = 30 * time.Second

// Publish sends the events of an NDJSON file over NATS: those of each source in one
// message, by the owner of the source with its own credential. It returns when the
// answer about every message says that its events are accepted.
func Publish(ctx context.Context, url string, tokens map[string]string, file string) error {
	bySource, err := eventsBySource(file)
	if err != nil {
		return err
	}
	for _, source := range slices.Sorted(maps.Keys(bySource)) {
		owner := factOwners[source]
		if err := publish(ctx, url, owner, tokens[owner], source, bySource[source]); err != nil {
			return fmt.Errorf("publish events of %s as %s: %w", source, owner, err)
		}
	}
	return nil
}

func eventsBySource(file string) (map[string][]json.RawMessage, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	bySource := map[string][]json.RawMessage{}
	in := bufio.NewScanner(f)
	for in.Scan() {
		var e event
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		bySource[e.Source] = append(bySource[e.Source], bytes.Clone(in.Bytes()))
	}
	return bySource, in.Err()
}

// publish sends one message and waits for the answer about its events.
func publish(ctx context.Context, url, owner, token, source string, events []json.RawMessage) error {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	conn, err := nats.Connect(url, nats.UserInfo(owner, token), nats.CustomInboxPrefix("_INBOX."+owner))
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	reply := "answer." + source + ".demo"
	answers, err := conn.SubscribeSync(reply)
	if err != nil {
		return err
	}
	body, err := json.Marshal(events)
	if err != nil {
		return err
	}
	m := &nats.Msg{Subject: "intake." + source, Data: body,
		Header: nats.Header{"Content-Type": {batchType}, "Mete-Reply": {reply}}}
	if _, err := js.PublishMsg(ctx, m); err != nil {
		return err
	}
	answer, err := answers.NextMsgWithContext(ctx)
	if err != nil {
		return err
	}
	var verdicts []struct{ Status, Detail string }
	if err := json.Unmarshal(answer.Data, &verdicts); err != nil || len(verdicts) != len(events) {
		return fmt.Errorf("%d verdicts on %d events: %.200s", len(verdicts), len(events), answer.Data)
	}
	for i, v := range verdicts {
		if v.Status != "accepted" {
			return fmt.Errorf("event %d is %s: %s", i+1, v.Status, v.Detail)
		}
	}
	return nil
}
