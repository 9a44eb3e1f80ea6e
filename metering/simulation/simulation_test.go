package simulation

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mete/internal/failpoint"
	"mete/internal/testdata"
	"mete/metering/clickhouse"
)

const (
	sigTerm = syscall.SIGTERM
	sigStop = syscall.SIGSTOP
	sigCont = syscall.SIGCONT
)

// size is how much a simulation does.
type size struct {
	first, last uint64 // seeds
	faults      int    // of a run
	least       int    // events of a run
	everyPoint  bool   // each fail-point must have been the place of a kill and, in workers, of a pause
	somePoints  bool   // each fail-point must have been passed
	clusterEach uint64 // every so many seeds run on three brokers; 0: none does
}

// sizeOf reads METE_SIM: nothing for a short simulation, long for all of it, a seed or a
// range of seeds, such as 17 or 20-29, to run those as the long one does.
func sizeOf(t *testing.T) size {
	long := size{first: 1, last: 100, faults: 6, least: 1500, everyPoint: true, somePoints: true, clusterEach: 10}
	switch said := os.Getenv("METE_SIM"); said {
	case "":
		return size{first: 1, last: 2, faults: 3, least: 600, somePoints: true}
	case "long":
		return long
	default:
		long.everyPoint, long.somePoints = false, false
		first, last, _ := strings.Cut(said, "-")
		var err1, err2 error
		long.first, err1 = strconv.ParseUint(first, 10, 64)
		long.last, err2 = strconv.ParseUint(cmp.Or(last, first), 10, 64)
		if err := errors.Join(err1, err2); err != nil || long.last < long.first {
			t.Fatalf("METE_SIM=%s: want long, a seed such as 17, or seeds such as 20-29", said)
		}
		return long
	}
}

// TestSimulation sends events while workers, routers, brokers and stores are killed,
// paused, restored and replaced as each seed says, and compares what is stored with what
// the senders know. All of it, 100 seeds over both stores:
//
//	METE_SIM=long go test -count=1 -run TestSimulation -parallel 4 -timeout 120m -v ./metering/simulation
func TestSimulation(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes for a while")
	}
	size := sizeOf(t)
	sum := newSummary(t)
	t.Run("seeds", func(t *testing.T) {
		for _, engine := range []string{onSQLite, onClickHouse} {
			t.Run(engine, func(t *testing.T) {
				t.Parallel()
				for seed := size.first; seed <= size.last; seed++ {
					t.Run(fmt.Sprint(seed), func(t *testing.T) {
						t.Parallel()
						simulate(t, sum, size, seed, engine)
					})
				}
			})
		}
	})
	sum.report(t, size)
}

// simulate is one seed over one store.
func simulate(t *testing.T, sum *summary, size size, seed uint64, engine string) {
	began := time.Now()
	defer func() {
		if t.Failed() {
			t.Logf("to run it alone: METE_SIM=%d go test -count=1 -run 'TestSimulation/seeds/%s' -v ./metering/simulation", seed, engine)
		}
	}()
	nodes := 1
	if size.clusterEach > 0 && seed%size.clusterEach == 0 {
		nodes = 3
	}
	r := begin(t, sum, size, seed, engine, nodes)
	stop := r.send()
	stopped := false
	defer func() {
		if !stopped {
			stop()
		}
	}()
	// The first fault goes through all places, the others are drawn.
	points := sum.pointsOf(engine)
	n := int(seed - 1)
	faults := []fault{atPoint(points[n%len(points)], actions[n/len(points)%len(actions)])}
	for len(faults) < size.faults {
		faults = append(faults, r.draw())
	}
	names := []string{fmt.Sprintf("begun (%s)", time.Since(began).Round(100*time.Millisecond))}
	step := func(what string, at time.Time) {
		names = append(names, fmt.Sprintf("%s (%s)", what, time.Since(at).Round(100*time.Millisecond)))
	}
	for _, f := range faults {
		at := time.Now()
		f.do(r)
		sum.fault(f.name)
		step(f.name, at)
		if t.Failed() {
			return
		}
	}
	at := time.Now()
	r.until("enough is sent", func() bool { return r.log.events() >= size.least })
	stop()
	stopped = true
	r.settle()
	step("settled", at)
	if t.Failed() {
		return
	}
	at = time.Now()
	s, err := r.open()
	r.must(err)
	f := r.log.compare(t, s, r.j.streams, r.left)
	sameAsModel(t, s, r.j.streams)
	late := int64(0)
	if c, ok := s.(*clickhouse.Store); ok {
		unseen, err := c.Unseen(t.Context())
		r.must(err)
		for _, u := range unseen {
			late += u.Rows
		}
	}
	step("compared", at)
	at = time.Now()
	r.otherStreams()
	step("other streams refused", at)
	sum.ran(engine, r.log, f, late)
	t.Logf("seed %d on %s, %d brokers, %s: %s", seed, engine, nodes, time.Since(began).Round(100*time.Millisecond), strings.Join(names, ", "))
	t.Logf("%d deliveries tried, %d acknowledged, %d given up; %+v; %d rows never count", r.log.tried, r.log.acked, r.log.abandoned, f, late)
}

// summary is what all runs came to.
type summary struct {
	points []failpoint.Declaration

	mu     sync.Mutex
	faults map[string]int
	hits   map[failpoint.Point]int
	acts   map[failpoint.Point]map[string]int
	ends   map[string]int // why children ended by themselves
	runs   map[string]*total
}

// total is the sum of the runs over one store.
type total struct {
	runs, tried, acked, abandoned int
	found                         found
	late                          int64 // rows that never count
}

func newSummary(t *testing.T) *summary {
	t.Helper()
	declared, err := failpoint.Declared(testdata.ModuleRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	s := &summary{faults: map[string]int{}, hits: map[failpoint.Point]int{}, acts: map[failpoint.Point]map[string]int{}, ends: map[string]int{}, runs: map[string]*total{}}
	for _, d := range declared {
		if strings.HasPrefix(string(d.Name), "redact.") || strings.HasPrefix(string(d.Name), "rebuild.") { // people do that; the store's own tests kill it
			continue
		}
		if strings.HasPrefix(d.At, "metering/jetstream/") || strings.HasPrefix(d.At, "metering/clickhouse/") {
			s.points = append(s.points, d)
			s.acts[d.Name] = map[string]int{}
		}
	}
	if len(s.points) == 0 {
		t.Fatal("no fail-point is declared")
	}
	return s
}

// isRouters reports whether a fail-point lies on a router's way.
func isRouters(p failpoint.Point) bool {
	return strings.HasPrefix(string(p), "router.") || strings.HasPrefix(string(p), "intake.")
}

// pointsOf are the fail-points that a run over the store passes.
func (s *summary) pointsOf(engine string) []failpoint.Point {
	var all []failpoint.Point
	for _, d := range s.points {
		shared := strings.HasPrefix(string(d.Name), "leases.") || strings.HasPrefix(d.At, "metering/clickhouse/")
		if engine == onClickHouse || !shared {
			all = append(all, d.Name)
		}
	}
	return all
}

func (s *summary) fault(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[name]++
}

func (s *summary) at(p failpoint.Point, action string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acts[p][action]++
}

func (s *summary) hitsOf(p *process) {
	counts, err := failpoint.Counts(p.hits)
	if err != nil {
		return // it came to none
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for point, n := range counts {
		s.hits[point] += n
	}
}

// gaveUp counts why a child ended by itself, by the last words of what it said.
func (s *summary) gaveUp(said string) {
	said = said[strings.LastIndexByte(said, '\n')+1:]
	if i := strings.LastIndex(said, ": "); i > 0 {
		said = said[i+2:]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ends[said]++
}

func (s *summary) ran(engine string, l *senderLog, f found, late int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.runs[engine]
	if n == nil {
		n = &total{}
		s.runs[engine] = n
	}
	n.runs++
	n.tried += l.tried
	n.acked += l.acked
	n.abandoned += l.abandoned
	n.late += late
	n.found.add(f)
}

func (f *found) add(o found) {
	f.Identities += o.Identities
	f.Acked += o.Acked
	f.AckedAgain += o.AckedAgain
	f.Unacked += o.Unacked
	f.UnackedStored += o.UnackedStored
	f.Decided += o.Decided
	f.Counts.Messages += o.Counts.Messages
	f.Counts.Announced += o.Counts.Announced
	f.Counts.Stored += o.Counts.Stored
	f.Counts.Keys += o.Counts.Keys
	f.Counts.Duplicate += o.Counts.Duplicate
	f.Counts.Conflict += o.Counts.Conflict
	f.Counts.Sandbox += o.Counts.Sandbox
	f.Counts.Voided += o.Counts.Voided
}

// report prints what happened, and fails where a place was never reached: then its
// crash is not tested.
func (s *summary) report(t *testing.T, size size) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, engine := range slices.Sorted(maps.Keys(s.runs)) {
		n := s.runs[engine]
		t.Logf("%-10s %3d runs: %d deliveries tried, %d acknowledged, %d given up; %+v; %d rows never count", engine, n.runs, n.tried, n.acked, n.abandoned, n.found, n.late)
		if n.found.Decided == 0 || n.found.AckedAgain == 0 || n.found.Counts.Conflict == 0 || n.found.Counts.Duplicate == 0 {
			t.Errorf("%s: the simulation lost its sense: %+v", engine, n.found)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.faults)) {
		t.Logf("%5d × %s", s.faults[name], name)
	}
	for _, said := range slices.Sorted(maps.Keys(s.ends)) {
		t.Logf("%5d × ended by itself and was started again: %s", s.ends[said], said)
	}
	for _, d := range s.points {
		did := s.acts[d.Name]
		t.Logf("%-24s hit %6d times; killed %d, paused %d, failed %d", d.Name, s.hits[d.Name], did["kill"], did["stop"], did["error"])
		if s.runs[onClickHouse] == nil && !slices.Contains(s.pointsOf(onSQLite), d.Name) {
			continue // the engine is missing, and that was said
		}
		if size.somePoints && s.hits[d.Name] == 0 {
			t.Errorf("%s, declared at %s, was never reached", d.Name, d.At)
		}
		if size.everyPoint && (did["kill"] == 0 || did["stop"] == 0) {
			t.Errorf("at %s, declared at %s, nothing was killed or paused", d.Name, d.At)
		}
	}
}
