package jetstream

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// cluster starts three brokers that replicate to each other.
func cluster(t *testing.T) []*server.Server {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED, a cluster takes a while")
	}
	var routes []*url.URL
	ports := make([]int, 3)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = l.Addr().(*net.TCPAddr).Port
		l.Close()
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", ports[i])})
	}
	servers := make([]*server.Server, 3)
	for i := range servers {
		servers[i] = rawServer(t, &server.Options{
			ServerName: fmt.Sprintf("n%d", i+1), SyncAlways: true, JetStreamMaxStore: 4 << 30,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[i]}, Routes: routes,
		})
	}
	deadline := time.Now().Add(60 * time.Second)
	for leader := false; !leader; time.Sleep(50 * time.Millisecond) {
		for _, s := range servers {
			leader = leader || s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == 3
		}
		if time.Now().After(deadline) {
			t.Fatal("the cluster has no leader")
		}
	}
	return servers
}

// On three brokers with three replicas each, one of which dies under load, nothing
// acknowledged is lost and nothing counts twice.
func TestClusterLosesABroker(t *testing.T) {
	servers := cluster(t)
	facts := func(context.Context) ([]ServerFacts, error) {
		var all []ServerFacts
		for _, s := range servers {
			all = append(all, factsOf(s)...)
		}
		return all, nil
	}
	var urls string
	for _, s := range servers {
		urls += s.ClientURL() + ","
	}
	conn, err := nats.Connect(urls[:len(urls)-1], nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s, err := Ensure(within(t, 60*time.Second), conn, Settings{Partitions: 2, Replicas: 3, MaxBytes: 64 << 20, Intake: true, Facts: facts})
	if err != nil {
		t.Fatal(err)
	}
	in := &Intake{Streams: s, Patience: time.Minute}
	m := newMemory()
	w := &Worker{Streams: s, Store: m}
	ctx, stop := context.WithCancel(within(t, 3*time.Minute))
	defer stop()
	ran := make(chan error, 1)
	go func() { ran <- w.Run(ctx) }()

	var senders sync.WaitGroup
	const n, batches, each = 4, 15, 50
	for sender := range n {
		senders.Go(func() {
			for i := range batches {
				if _, err := in.Accept(ctx, events(fmt.Sprintf("s%d-%d", sender, i), each)); err != nil {
					t.Error(err)
				}
				if sender == 0 && i == batches/3 {
					servers[0].Shutdown()
				}
			}
		})
	}
	senders.Wait()
	if err := w.WaitDrained(ctx, nil); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if m.announced != n*batches*each || len(m.keys) != n*batches*each {
		t.Errorf("%d announced, %d keys, want %d", m.announced, len(m.keys), n*batches*each)
	}
}
