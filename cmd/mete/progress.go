package main

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress draws how far long work is, on a terminal only: a bar for each named step,
// with its rate and what is left.
type progress struct {
	e    *env
	name string
	bar  *progressbar.ProgressBar
}

// drawEvery bounds how often the bar is drawn.
const drawEvery = 100 * time.Millisecond

func newProgress(e *env) *progress { return &progress{e: e} }

// step says that done of so many are done in a named step of the work.
func (p *progress) step(name string, done, of int) { p.draw(name, int64(done), int64(of), false) }

func (p *progress) draw(name string, done, of int64, bytes bool) {
	if !p.e.terminal {
		return
	}
	if name != p.name {
		p.done()
		if of <= 0 {
			of = -1 // unknown: a spinner with the count
		}
		p.name = name
		p.bar = progressbar.NewOptions64(of,
			progressbar.OptionSetWriter(p.e.err), progressbar.OptionSetDescription(name), progressbar.OptionShowCount(),
			progressbar.OptionShowBytes(bytes), progressbar.OptionShowIts(), progressbar.OptionSetPredictTime(true),
			progressbar.OptionThrottle(drawEvery), progressbar.OptionSetWidth(24), progressbar.OptionClearOnFinish())
	}
	p.bar.Set64(done)
}

// done wipes the bar.
func (p *progress) done() {
	if p.bar != nil {
		p.bar.Clear()
		p.bar, p.name = nil, ""
	}
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
