package simulation

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"mete/internal/failpoint"
)

// fault is one incident. It returns when what it does has happened, and leaves
// everything running; what it has broken may still be on its way back.
type fault struct {
	name string
	do   func(r *run)
}

// draw takes a fault from the seed.
func (r *run) draw() fault {
	on := func(engine string, weight int) int {
		if r.engine != engine {
			return 0
		}
		return weight
	}
	all := []struct {
		weight int
		fault  func() fault
	}{
		{45, func() fault {
			points := r.sum.pointsOf(r.engine)
			return atPoint(points[r.rand.IntN(len(points))], actions[r.rand.IntN(len(actions))])
		}},
		{10, func() fault { return fault{"worker killed", (*run).killWorker} }},
		{8, func() fault { return fault{"worker paused", (*run).pauseWorker} }},
		{12, func() fault { return fault{"broker killed", (*run).killNode} }},
		{on(onClickHouse, 12), func() fault { return fault{"engine killed", (*run).killEngine} }},
		{10, func() fault {
			if r.engine == onClickHouse && r.rand.IntN(2) == 0 {
				return fault{"store restored under a paused worker", (*run).restoreUnderPaused}
			}
			return fault{"store restored from an older copy", (*run).restore}
		}},
		{on(onClickHouse, 4), func() fault { return fault{"leases forgotten", (*run).forgetLeases} }},
		{7, func() fault { return fault{"everything killed at once", (*run).killAll} }},
	}
	total := 0
	for _, f := range all {
		total += f.weight
	}
	n := r.rand.IntN(total)
	for _, f := range all {
		if n < f.weight {
			return f.fault()
		}
		n -= f.weight
	}
	panic("unreachable")
}

// What may happen at a fail-point.
var actions = []string{"kill", "stop", "error"}

// atPoint is a child that is killed, paused or fails at a named place.
func atPoint(p failpoint.Point, action string) fault {
	names := map[string]string{"kill": "killed", "stop": "paused", "error": "failed"}
	return fault{names[action] + " at a fail-point", func(r *run) { r.atPoint(p, action) }}
}

// hitsNeeded bounds the hit at which it happens by how often a place is passed.
func hitsNeeded(p failpoint.Point) int {
	switch {
	case p == "leases.before-release":
		return 1
	case strings.HasPrefix(string(p), "leases."), strings.HasSuffix(string(p), "-epoch"):
		return 2
	}
	return 6
}

func (r *run) atPoint(p failpoint.Point, action string) {
	s := r.workers[r.rand.IntN(len(r.workers))]
	switch {
	case isRouters(p):
		s = r.router
	case r.engine == onSQLite:
		s = r.workers[0]
	}
	n := 1 + r.rand.IntN(hitsNeeded(p))
	what := fmt.Sprintf("%s at hit %d of %s", action, n, p)
	child, err := s.replace(fmt.Sprintf("%s=%s@%d", p, action, n))
	r.must(err)
	if p == "leases.before-release" { // it is passed by whoever ends in good order
		r.until(what+": it has leases", func() bool { return !child.alive() || len(child.holding()) > 0 })
		child.signal(sigTerm)
	}
	switch action {
	case "kill":
		r.until(what, func() bool { return !child.alive() })
		if !child.killed() && p != "leases.before-release" {
			r.sum.fault("gave up before " + string(p))
			return
		}
	case "stop":
		r.until(what, func() bool { return !child.alive() || child.stopped() })
		if child.alive() {
			r.whilePaused(s, child)
		}
	case "error":
		r.until(what, func() bool { return !child.alive() || child.hit(p) >= n })
	}
	if child.hit(p) >= n {
		r.sum.at(p, action)
	} else {
		r.sum.fault("gave up before " + string(p))
	}
}

// whilePaused lets another worker take over what the paused one has, breaks something
// else now and then, and wakes the paused one, which goes on as if it still had it.
func (r *run) whilePaused(s *slot, paused *process) {
	defer paused.signal(sigCont)
	if s == r.router {
		time.Sleep(r.upTo(time.Second))
		return
	}
	other := r.workers[0]
	if s == other {
		other = r.workers[1]
	}
	was := r.positions()
	for was == nil {
		was = r.positions()
		time.Sleep(10 * time.Millisecond)
	}
	if r.engine == onSQLite {
		r.overtake(s, other, paused, was)
		return
	}
	had := paused.holding()
	r.until("another worker takes over", func() bool {
		p := other.now()
		if p == nil {
			return false
		}
		has := p.holding()
		for partition, epoch := range had {
			if has[partition] <= epoch {
				return false
			}
		}
		return true
	})
	switch r.rand.IntN(6) {
	case 0:
		r.killNode()
	case 1:
		if r.ch != nil {
			r.killEngine()
		}
	}
	if r.rand.IntN(3) > 0 { // else it wakes while the other begins
		r.until("another worker goes on", func() bool {
			now := r.positions()
			for p := range had {
				if now == nil || now[p] <= was[p] {
					return false
				}
			}
			return true
		})
	}
	paused.signal(sigCont)
	r.sum.fault("paused worker woke after another took over")
	time.Sleep(r.upTo(600 * time.Millisecond))
}

// overtake lets a second process fill the file of a paused one: mete keeps a data folder
// for one process, and the store must not rest on that. A process that is paused inside
// a transaction keeps others out until it wakes.
func (r *run) overtake(s, other *slot, paused *process, was []uint64) {
	r.must(other.up(""))
	moved := 0
	for until := time.Now().Add(2 * time.Second); moved < partitions && time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		moved = 0
		for p, at := range r.positions() {
			if at > was[p] {
				moved++
			}
		}
	}
	paused.signal(sigCont)
	if moved == partitions {
		r.sum.fault("paused worker woke after another took over")
	} else {
		r.sum.fault("paused worker kept others out until it woke")
	}
	time.Sleep(r.upTo(600 * time.Millisecond))
	if r.rand.IntN(2) == 0 {
		_, err := s.replace("")
		r.must(err)
	}
	other.down() // one at a time from here on
}

func (r *run) anyWorker() *slot {
	if r.engine == onSQLite {
		return r.workers[0]
	}
	return r.workers[r.rand.IntN(len(r.workers))]
}

// running waits until the slot's child has begun.
func (r *run) running(s *slot) (p *process) {
	r.until("a child begins", func() bool {
		if p = s.now(); p == nil {
			return false
		}
		select {
		case <-p.ready:
			return true
		default:
			return false
		}
	})
	return p
}

func (r *run) killWorker() {
	p := r.running(r.anyWorker())
	time.Sleep(r.upTo(500 * time.Millisecond))
	p.kill()
}

// pauseWorker pauses a worker at any moment. On SQLite it may be inside a transaction,
// which keeps others out until it is woken.
func (r *run) pauseWorker() {
	s := r.anyWorker()
	p := r.running(s)
	time.Sleep(r.upTo(500 * time.Millisecond))
	p.signal(sigStop)
	if r.engine == onSQLite {
		time.Sleep(r.upTo(time.Second))
		p.signal(sigCont)
		return
	}
	r.until("a worker is paused", func() bool { return !p.alive() || p.stopped() })
	r.whilePaused(s, p)
}

// keepOlder copies the files of the only broker, which is down, the first time: an
// older stream for the end.
func (r *run) keepOlder() {
	if r.older != "" || len(r.nodes) > 1 {
		return
	}
	older := filepath.Join(r.dir, "older-stream")
	r.must(os.CopyFS(older, os.DirFS(r.nodes[0].dir)))
	r.older = older
}

// killNode kills a broker and starts it again on what it had on disk.
func (r *run) killNode() {
	b := r.nodes[r.rand.IntN(len(r.nodes))]
	time.Sleep(r.upTo(300 * time.Millisecond))
	b.kill()
	r.keepOlder()
	time.Sleep(r.upTo(time.Second))
	r.must(errors.Join(b.start(), b.ready()))
}

func (r *run) killEngine() {
	time.Sleep(r.upTo(300 * time.Millisecond))
	r.must(r.ch.Kill())
	time.Sleep(r.upTo(700 * time.Millisecond))
	r.must(r.startEngine())
}

// startEngine starts the engine on what it had on disk. Now and then it does not open
// its folder so soon after a kill; a supervisor would try again, too.
func (r *run) startEngine() error {
	for try := 1; ; try++ {
		err := r.ch.Restart()
		if err == nil || try == 5 {
			return err
		}
		r.sum.fault("engine did not start at once")
		r.t.Logf("start of the engine, try %d: %v", try, err)
		time.Sleep(time.Second)
	}
}

// restore puts an older copy of the store under today's stream. Whoever restores a
// store stops its workers first.
func (r *run) restore() {
	copied := filepath.Join(r.dir, fmt.Sprintf("copy-%d", r.rand.Uint32()))
	for _, s := range r.workers {
		s.down()
	}
	if r.engine == onSQLite {
		r.closeStore()
		r.must(os.Mkdir(copied, 0o700))
		r.must(moveFiles(r.where, filepath.Join(copied, "events.db"), false))
	} else {
		r.must(errors.Join(r.ch.Kill(), r.ch.Copy(copied), r.startEngine()))
	}
	r.must(r.workers[0].up(""))
	was := r.positions()
	r.until("the store goes on", func() bool {
		now := r.positions()
		for p := range now {
			if was == nil || now[p] <= was[p] {
				return false
			}
		}
		return now != nil
	})
	for _, s := range r.workers {
		s.down()
	}
	if r.engine == onSQLite {
		r.closeStore()
		r.must(moveFiles(filepath.Join(copied, "events.db"), r.where, true))
		r.positions() // opened while nobody fills it
	} else {
		r.must(errors.Join(r.ch.Kill(), r.ch.PutBack(copied), r.startEngine()))
		r.must(r.workers[1].up(""))
	}
	r.must(r.workers[0].up(""))
}

// restoreUnderPaused puts an older copy of the store under today's stream while a worker
// is paused, whom nobody knew of: he goes on as if the store were where it was. Nothing
// of it counts; but rows may be there whose epoch the copy does not know, and the
// store's check says so.
func (r *run) restoreUnderPaused() {
	r.left = "belong to no epoch"
	copied := filepath.Join(r.dir, fmt.Sprintf("copy-%d", r.rand.Uint32()))
	r.must(errors.Join(r.ch.Kill(), r.ch.Copy(copied), r.startEngine()))
	was := r.positions()
	r.until("the store goes on", func() bool {
		now := r.positions()
		for p := range now {
			if was == nil || now[p] <= was[p] {
				return false
			}
		}
		return now != nil
	})
	n := r.rand.IntN(len(r.workers))
	p, other := r.running(r.workers[n]), r.workers[1-n]
	p.signal(sigStop)
	r.until("a worker is paused", func() bool { return !p.alive() || p.stopped() })
	other.down()
	r.must(errors.Join(r.ch.Kill(), r.ch.PutBack(copied), r.startEngine()))
	if r.rand.IntN(2) == 0 { // else the paused one wakes first
		r.must(other.up(""))
		time.Sleep(r.upTo(2 * leaseTTL))
	}
	p.signal(sigCont)
	time.Sleep(r.upTo(leaseTTL))
	r.must(other.up(""))
}

// moveFiles copies a database's file and those beside it, in place of what is there.
func moveFiles(from, to string, replace bool) error {
	for _, end := range []string{"", "-wal", "-shm"} {
		if replace {
			if err := os.Remove(to + end); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		b, err := os.ReadFile(from + end)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(to+end, b, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// forgetLeases loses the record of who has what; the store's epochs go on.
func (r *run) forgetLeases() {
	for _, s := range r.workers {
		s.down()
	}
	api, err := natsjs.New(r.j.conn)
	r.must(err)
	r.until("the leases are deleted", func() bool {
		err := api.DeleteKeyValue(r.ctx, "METE_LEASES")
		return err == nil || errors.Is(err, natsjs.ErrBucketNotFound)
	})
	for _, s := range r.workers {
		r.must(s.up(""))
	}
}

// killAll kills brokers, store, workers and router at once and starts them in any order.
func (r *run) killAll() {
	time.Sleep(r.upTo(500 * time.Millisecond))
	kills := []func(){r.router.down, r.workers[0].down, r.workers[1].down}
	for _, b := range r.nodes {
		kills = append(kills, b.kill)
	}
	if r.ch != nil {
		kills = append(kills, func() { r.must(r.ch.Kill()) })
	}
	var dead sync.WaitGroup
	for _, kill := range kills {
		dead.Go(kill)
	}
	dead.Wait()
	r.keepOlder()
	back := []func() error{func() error { return r.router.up("") }, func() error { return r.workers[0].up("") }}
	for _, b := range r.nodes {
		back = append(back, b.start)
	}
	if r.ch != nil {
		back = append(back, r.startEngine, func() error { return r.workers[1].up("") })
	}
	r.rand.Shuffle(len(back), func(i, j int) { back[i], back[j] = back[j], back[i] })
	for _, up := range back {
		time.Sleep(r.upTo(200 * time.Millisecond))
		r.must(up())
	}
	for _, b := range r.nodes {
		r.must(b.ready())
	}
}
