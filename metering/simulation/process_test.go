package simulation

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mete/internal/failpoint"
)

// process is one start of a child.
type process struct {
	name   string
	cmd    *exec.Cmd
	input  io.Closer
	hits   string        // file of the fail-points it came to
	ready  chan struct{} // closed when it says so
	ended  chan struct{} // closed when it is gone
	stderr bytes.Buffer  // read it when the process has ended

	mu   sync.Mutex
	held map[int]uint64 // epochs of the leases it has
}

var starts atomic.Int64

// launch starts a child whose fail-points are armed as said.
func launch(dir, kind string, o childOptions, arm string) (*process, error) {
	n := starts.Add(1)
	p := &process{name: fmt.Sprintf("%s %d", kind, n), ready: make(chan struct{}), ended: make(chan struct{}), held: map[int]uint64{}}
	p.hits = filepath.Join(dir, fmt.Sprintf("hits-%d", n))
	if o.Owner == "" {
		o.Owner = fmt.Sprintf("%s-%d", kind, n)
	}
	options, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childVar+"="+kind, childOptionsVar+"="+string(options), "GORACE=atexit_sleep_ms=0",
		"METE_FAILPOINT="+arm, "METE_FAILPOINT_LOG="+p.hits)
	c.Stderr = &p.stderr
	if p.input, err = c.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	p.cmd = c
	go func() {
		p.listen(out)
		_ = c.Wait() // how it ended is in its state
		close(p.ended)
	}()
	return p, nil
}

// listen keeps what the child says.
func (p *process) listen(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var t told
		if err := json.Unmarshal(lines.Bytes(), &t); err != nil {
			continue // cut off by a kill
		}
		if t.Ready {
			close(p.ready)
		}
		p.mu.Lock()
		switch {
		case t.Held:
			p.held[t.Partition] = t.Epoch
		case t.Epoch > 0:
			delete(p.held, t.Partition)
		}
		p.mu.Unlock()
	}
}

// holding are the partitions that the process has leases of, and their epochs.
func (p *process) holding() map[int]uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := map[int]uint64{}
	for n, e := range p.held {
		held[n] = e
	}
	return held
}

func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) } // it may have ended

// kill ends the process as a power cut would, wherever it stands.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// stopped reports whether the process was paused and is not woken yet.
func (p *process) stopped() bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	return err == nil && strings.Contains(string(b), ") T ")
}

// hit is how often the process came to a fail-point.
func (p *process) hit(at failpoint.Point) int {
	counts, err := failpoint.Counts(p.hits)
	if err != nil {
		return 0 // it came to none yet
	}
	return counts[at]
}

// killed reports whether an ended process was killed, rather than ended by itself.
func (p *process) killed() bool {
	ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled()
}

// freePort is a port outside the range from which connections are given theirs, so
// that a node that is down finds it free again.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 11_000 + rand.IntN(20_000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// node is one broker over its kills and restarts.
type node struct {
	dir, address, config string // of its files; where clients connect; its settings
	logs                 string // of its processes
	process              *process
}

const nodeConfig = `
server_name: %s
listen: %q
jetstream { store_dir: %q, sync_interval: always, max_file_store: %d }
accounts {
  SYS { users: [{user: sys, password: sys}] }
  METE { jetstream: enabled, users: [{user: mete, password: mete}] }
}
system_account: SYS
`

const nodeCluster = `
cluster { name: sim, listen: "127.0.0.1:%d", routes: [%s] }
`

// newNodes prepares so many nodes, a cluster if there are several, and starts them.
func newNodes(t *testing.T, n int) []*node {
	t.Helper()
	nodes, ports, routes := make([]*node, n), make([]int, n), make([]string, n)
	for i := range nodes {
		ports[i] = freePort(t)
		routes[i] = fmt.Sprintf("%q", fmt.Sprintf("nats://127.0.0.1:%d", ports[i]))
	}
	for i := range nodes {
		dir := t.TempDir()
		name := fmt.Sprintf("n%d", i+1)
		b := &node{dir: filepath.Join(dir, name), address: fmt.Sprintf("127.0.0.1:%d", freePort(t)), config: filepath.Join(dir, "nats.conf"), logs: dir}
		text := fmt.Sprintf(nodeConfig, name, b.address, b.dir, int64(maxStore))
		if n > 1 {
			text += fmt.Sprintf(nodeCluster, ports[i], strings.Join(routes, ", "))
		}
		if err := os.WriteFile(b.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		nodes[i] = b
		t.Cleanup(b.kill)
	}
	for _, b := range nodes {
		if err := b.start(); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range nodes {
		if err := b.ready(); err != nil {
			t.Fatal(err)
		}
	}
	return nodes
}

func (b *node) start() (err error) {
	b.process, err = launch(b.logs, "node", childOptions{Config: b.config}, "")
	return err
}

// ready waits until the node takes connections.
func (b *node) ready() error {
	select {
	case <-b.process.ready:
		return nil
	case <-b.process.ended:
		return fmt.Errorf("node %s ended: %s", b.address, b.process.stderr.String())
	case <-time.After(childPatience):
		return fmt.Errorf("node %s is not ready", b.address)
	}
}

func (b *node) kill() {
	if b.process != nil {
		b.process.kill()
	}
}

// addresses are where clients find the nodes.
func addresses(nodes []*node) []string {
	var all []string
	for _, b := range nodes {
		all = append(all, b.address)
	}
	return all
}

// slot is a place for one child that is started again whenever it ends, as a machine's
// supervisor would.
type slot struct {
	dir, kind string
	options   childOptions
	pause     func() time.Duration            // before it is started again
	gone      func(p *process, byItself bool) // told of every end

	mu      sync.Mutex
	wanted  bool
	arm     string // of the next start
	process *process
	failed  error
	ends    sync.WaitGroup
}

// up starts the child, armed as said, and keeps one running.
func (s *slot) up(arm string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted, s.arm = true, arm
	if s.process != nil {
		return nil
	}
	return s.start()
}

func (s *slot) start() error {
	p, err := launch(s.dir, s.kind, s.options, s.arm)
	if err != nil {
		return err
	}
	s.process, s.arm = p, ""
	s.ends.Go(func() { s.wait(p) })
	return nil
}

// wait sees to the next start.
func (s *slot) wait(p *process) {
	<-p.ended
	s.gone(p, !p.killed())
	time.Sleep(s.pause())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process = nil
	if s.wanted {
		s.failed = s.start()
	}
}

// down kills the child, if there is one, and starts none until it is wanted again.
func (s *slot) down() {
	s.mu.Lock()
	s.wanted = false
	p := s.process
	s.mu.Unlock()
	if p != nil {
		p.kill()
	}
	s.ends.Wait()
}

// replace kills the child and starts one that is armed as said.
func (s *slot) replace(arm string) (*process, error) {
	s.down()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted, s.arm = true, arm
	err := s.start()
	return s.process, err
}

// finish ends the child in good order.
func (s *slot) finish(within time.Duration) error {
	s.mu.Lock()
	s.wanted = false
	p := s.process
	s.mu.Unlock()
	if p == nil || !p.alive() {
		s.ends.Wait()
		return nil
	}
	p.signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(within):
		p.kill()
		return fmt.Errorf("%s did not end within %s", p.name, within)
	}
	s.ends.Wait()
	if !p.cmd.ProcessState.Success() {
		return fmt.Errorf("%s ended with %s: %s", p.name, p.cmd.ProcessState, p.stderr.String())
	}
	return nil
}

// now is the child as it is, nil between two.
func (s *slot) now() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil || !s.process.alive() {
		return nil
	}
	return s.process
}
