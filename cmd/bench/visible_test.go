package main

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"mete/metering"
)

// An event is visible with the first answer that covers its message.
func TestDelays(t *testing.T) {
	began := time.Now()
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	show := func(ms int, zero, one uint64) shown {
		return shown{at(ms), metering.Cutoff{{Partition: 0, Sequence: zero}, {Partition: 1, Sequence: one}}}
	}
	w := watching{
		sent:  map[place][]time.Time{{0, 1}: {at(5), at(6)}, {1, 2}: {at(10)}},
		shown: []shown{show(0, 0, 0), show(20, 1, 1), show(30, 4, 1), show(50, 4, 9)},
	}
	got, err := w.delays()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[0] != 14*time.Millisecond || got[1] != 15*time.Millisecond || got[2] != 40*time.Millisecond {
		t.Errorf("delays %v, want 14, 15 and 40 ms", got)
	}
	w.sent[place{1, 10}] = []time.Time{at(0)}
	if _, err := w.delays(); err == nil {
		t.Error("a message that was never shown has a delay")
	}
}

// The first error ends what is handed out.
func TestTogether(t *testing.T) {
	var done atomic.Int64
	things := make([]int, 1000)
	wrong := errors.New("wrong")
	err := together(4, things, func(int) error {
		if done.Add(1) == 10 {
			return wrong
		}
		return nil
	})
	if !errors.Is(err, wrong) {
		t.Errorf("error %v", err)
	}
	done.Store(0)
	if err := together(4, things, func(int) error { done.Add(1); return nil }); err != nil || done.Load() != 1000 {
		t.Errorf("%d things done, %v", done.Load(), err)
	}
}

func TestClosed(t *testing.T) {
	if got := closed("sequence <= transform(a, [f(1)], 0)) AND 1"); got != "sequence <= transform(a, [f(1)], 0)" {
		t.Errorf("%q", got)
	}
}
