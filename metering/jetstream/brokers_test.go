package jetstream

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

// A majority of the brokers must tell how they run before anything begins; the others
// are named, and asked again.
func TestBrokersThatAreAway(t *testing.T) {
	b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 1})
	here := factsOf(b.nats)[0]
	called := func(name string, peers ...string) ServerFacts {
		f := here
		f.Name, f.Peers = name, peers
		return f
	}
	var answers atomic.Pointer[[]ServerFacts]
	tell := func(all ...ServerFacts) { answers.Store(&all) }
	s := b.streams.settings
	s.Facts = func(context.Context) ([]ServerFacts, error) { return *answers.Load(), nil }
	for _, c := range []struct {
		brokers   int
		answers   []ServerFacts
		unchecked string // "-": not begun
	}{
		{1, []ServerFacts{called("a")}, ""},
		{0, []ServerFacts{called("a"), called("b")}, ""},
		{3, []ServerFacts{called("a"), called("b", "c", "a"), called("c")}, ""},
		{3, []ServerFacts{called("a"), called("b", "c", "a")}, "1 of 3 brokers are away and were not checked: c"},
		{3, []ServerFacts{called("a"), called("b")}, "1 of 3 brokers are away and were not checked"},
		{3, []ServerFacts{called("a")}, "-"},
		{2, []ServerFacts{called("a")}, "-"},
		{5, []ServerFacts{called("a"), called("b"), called("c", "a", "b", "d", "e")}, "2 of 5 brokers are away and were not checked: d, e"},
		{5, []ServerFacts{called("a"), called("b")}, "-"},
	} {
		s.Brokers = c.brokers
		tell(c.answers...)
		got, err := Ensure(within(t, 10*time.Second), b.conn, s)
		switch {
		case c.unchecked == "-":
			if err == nil {
				t.Errorf("%d of %d brokers answered, and it began", len(c.answers), c.brokers)
			}
		case err != nil:
			t.Errorf("%d of %d brokers answered: %v", len(c.answers), c.brokers, err)
		case got.Brokers().Unchecked() != c.unchecked:
			t.Errorf("%d of %d brokers answered: %q, want %q", len(c.answers), c.brokers, got.Brokers().Unchecked(), c.unchecked)
		}
	}

	s.Brokers = 3
	tell(called("a"), called("b", "a", "c"))
	streams, err := Ensure(within(t, 10*time.Second), b.conn, s)
	if err != nil {
		t.Fatal(err)
	}
	unsafe := called("c")
	unsafe.SyncAlways = false
	tell(called("a"), called("b", "a", "c"), unsafe)
	var wrong *SettingError
	if err := streams.Watch(within(t, 30*time.Second), nil); !errors.As(err, &wrong) || wrong.Where != "server c" {
		t.Errorf("c came back without syncing: %v", err)
	}
	if err := b.streams.Watch(within(t, 100*time.Millisecond), nil); err != nil {
		t.Errorf("nothing changed: %v", err)
	}
}
