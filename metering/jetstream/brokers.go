package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Brokers is which brokers were asked how they run, and which were away.
type Brokers struct {
	Expected int      `json:"expected"`
	Checked  []string `json:"checked"`           // by name; their settings are safe
	Missing  []string `json:"missing,omitempty"` // by name, where those that answered know it

	Err error `json:"-"` // why they could not be asked the last time
}

// Unchecked says which brokers have not told how they run, empty if all have.
func (b Brokers) Unchecked() string {
	n := b.Expected - len(b.Checked)
	switch {
	case b.Err != nil:
		return "brokers do not tell how they run: " + b.Err.Error()
	case n <= 0:
		return ""
	case len(b.Missing) > 0:
		return fmt.Sprintf("%d of %d brokers are away and were not checked: %s", n, b.Expected, strings.Join(b.Missing, ", "))
	}
	return fmt.Sprintf("%d of %d brokers are away and were not checked", n, b.Expected)
}

// told is what is known once so many brokers have answered.
func (s Settings) told(facts []ServerFacts) Brokers {
	b := Brokers{Expected: max(s.Brokers, len(facts))}
	for _, f := range facts {
		b.Checked = append(b.Checked, f.Name)
	}
	for _, f := range facts {
		for _, p := range f.Peers {
			if !slices.Contains(b.Checked, p) && !slices.Contains(b.Missing, p) {
				b.Missing = append(b.Missing, p)
			}
		}
	}
	slices.Sort(b.Checked)
	slices.Sort(b.Missing)
	return b
}

// Brokers is which brokers were checked when they were asked last.
func (all *Streams) Brokers() Brokers {
	all.mu.Lock()
	defer all.mu.Unlock()
	return all.brokers
}

// How often [Streams.Watch] asks: while a broker was not checked, and else.
const (
	watchMissing = 5 * time.Second
	watchAll     = time.Minute
)

// Watch asks the brokers again how they run until ctx ends: one that was away when we
// began, and one that was started again, may run otherwise. It returns the
// [SettingError]s of brokers that would lose or miscount events; brokers that do not
// answer are away, which is told and no error. Changed, if given, is told when others
// are away than before. A broker in this process is not asked again.
func (all *Streams) Watch(ctx context.Context, changed func(Brokers)) error {
	if all.settings.Embedded {
		<-ctx.Done()
		return nil
	}
	back := all.conn.StatusChanged(nats.CONNECTED)
	defer all.conn.RemoveStatusListener(back)
	for {
		before := all.Brokers()
		pause := watchAll
		if before.Unchecked() != "" {
			pause = watchMissing
		}
		select {
		case <-time.After(pause):
		case <-back: // the broker that we were connected to may be another one now
		case <-ctx.Done():
			return nil
		}
		err := all.checkServers(ctx)
		var unsafe *SettingError
		if ctx.Err() != nil {
			return nil
		}
		if errors.As(err, &unsafe) {
			return err
		}
		all.mu.Lock()
		all.brokers.Err = err
		now := all.brokers
		all.mu.Unlock()
		if changed != nil && now.Unchecked() != before.Unchecked() {
			changed(now)
		}
	}
}
