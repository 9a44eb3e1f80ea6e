package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"mete/metering"
)

// Every setting that would lose or miscount events is refused by name, with what was
// wanted and found.
func TestBrokenSettings(t *testing.T) {
	b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 1, Intake: true})
	ctx := within(t, 60*time.Second)
	api := b.streams.js
	for _, c := range []struct {
		setting string
		stream  string
		fresh   bool // cannot be changed: made anew
		spoil   func(*js.StreamConfig)
	}{
		{"partitions", "USAGE_0", false, func(c *js.StreamConfig) { delete(c.Metadata, metaPartitions) }},
		{"partitions", "USAGE_0", false, func(c *js.StreamConfig) { c.Metadata[metaPartitions] = "8" }},
		{"metadata mete-incarnation", "USAGE_0", false, func(c *js.StreamConfig) { delete(c.Metadata, metaIncarnation) }},
		{"subjects", "USAGE_0", false, func(c *js.StreamConfig) { c.Subjects = append(c.Subjects, "other") }},
		{"retention", "USAGE_0", true, func(c *js.StreamConfig) { c.Retention = js.WorkQueuePolicy }},
		{"retention", "USAGE_0", true, func(c *js.StreamConfig) { c.Retention = js.InterestPolicy }},
		{"storage", "USAGE_0", true, func(c *js.StreamConfig) { c.Storage = js.MemoryStorage }},
		{"discard", "USAGE_0", false, func(c *js.StreamConfig) { c.Discard = js.DiscardOld }},
		{"max_bytes", "USAGE_0", false, func(c *js.StreamConfig) { c.MaxBytes = -1 }},
		{"max_msgs", "USAGE_0", false, func(c *js.StreamConfig) { c.MaxMsgs = 1000 }},
		{"max_msgs_per_subject", "USAGE_0", false, func(c *js.StreamConfig) { c.MaxMsgsPerSubject = 1000 }},
		{"max_msg_size", "USAGE_0", false, func(c *js.StreamConfig) { c.MaxMsgSize = 1000 }},
		{"deny_delete", "USAGE_0", true, func(c *js.StreamConfig) { c.DenyDelete = false }},
		{"deny_purge", "USAGE_0", true, func(c *js.StreamConfig) { c.DenyPurge = false }},
		{"allow_rollup_hdrs", "USAGE_0", true, func(c *js.StreamConfig) { c.AllowRollup, c.DenyPurge = true, false }},
		{"allow_direct", "USAGE_0", false, func(c *js.StreamConfig) { c.AllowDirect = false }},
		{"no_ack", "USAGE_0", false, func(c *js.StreamConfig) { c.NoAck = true }},
		{"duplicate_window", "USAGE_0", false, func(c *js.StreamConfig) { c.Duplicates = time.Second }},
		{"persist_mode", "USAGE_0", true, func(c *js.StreamConfig) { c.PersistMode = js.AsyncPersistMode }},
		{"subject_transform", "USAGE_0", true, func(c *js.StreamConfig) {
			c.SubjectTransform = &js.SubjectTransformConfig{Source: "usage.0", Destination: "usage.9"}
		}},
		{"allow_msg_ttl", "USAGE_0", true, func(c *js.StreamConfig) { c.AllowMsgTTL = true }},
		{"allow_msg_counter", "USAGE_0", true, func(c *js.StreamConfig) { c.AllowMsgCounter, c.Discard = true, js.DiscardOld }},
		{"first_seq", "USAGE_0", true, func(c *js.StreamConfig) { c.FirstSeq = 100 }},
		{"mirror, sources", "USAGE_0", true, func(c *js.StreamConfig) { c.Sources = []*js.StreamSource{{Name: "INTAKE"}} }},
		{"max_age", "INTAKE", false, func(c *js.StreamConfig) { c.MaxAge = time.Hour }},
		{"deny_delete", "INTAKE", true, func(c *js.StreamConfig) { c.DenyDelete = true }},
		{"subjects", "INTAKE", false, func(c *js.StreamConfig) { c.Subjects = []string{"elsewhere"} }},
		{"retention", "INTAKE", true, func(c *js.StreamConfig) { c.Retention = js.WorkQueuePolicy }},
		{"storage", "INTAKE", true, func(c *js.StreamConfig) { c.Storage = js.MemoryStorage }},
		{"discard", "INTAKE", false, func(c *js.StreamConfig) { c.Discard = js.DiscardOld }},
		{"sealed", "INTAKE", false, func(c *js.StreamConfig) { c.Sealed = true }},
	} {
		t.Run(c.stream+" "+c.setting, func(t *testing.T) {
			for _, name := range []string{"USAGE_0", "INTAKE"} {
				if err := api.DeleteStream(ctx, name); err != nil && !errors.Is(err, js.ErrStreamNotFound) {
					t.Fatal(err)
				}
			}
			_, err := ensureAgain(ctx, b)
			if err != nil {
				t.Fatalf("sound settings: %v", err)
			}
			s, err := api.Stream(ctx, c.stream)
			if err != nil {
				t.Fatal(err)
			}
			config := s.CachedInfo().Config
			c.spoil(&config)
			if c.fresh {
				if err := api.DeleteStream(ctx, c.stream); err != nil {
					t.Fatal(err)
				}
				_, err = api.CreateStream(ctx, config)
				for try := 0; err != nil && try < 20; try++ {
					time.Sleep(50 * time.Millisecond)
					_, err = api.CreateStream(ctx, config)
				}
			} else {
				_, err = api.UpdateStream(ctx, config)
			}
			if err != nil {
				t.Fatalf("spoil: %v", err)
			}
			_, err = Ensure(ctx, b.conn, b.streams.settings)
			var broken *SettingError
			if !errors.As(err, &broken) || !strings.Contains(err.Error(), "stream "+c.stream+": "+c.setting+" is ") {
				t.Errorf("got %v, want a refusal of %s", err, c.setting)
			}
		})
	}
}

func TestBrokenServer(t *testing.T) {
	for _, c := range []struct {
		setting string
		options server.Options
	}{
		{"jetstream.sync_interval is periodic, want always", server.Options{}},
		{"max_payload", server.Options{SyncAlways: true, MaxPayload: 32 << 10}},
	} {
		raw := rawServer(t, &c.options)
		conn, err := nats.Connect(raw.ClientURL())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, err = Ensure(within(t, 10*time.Second), conn, Settings{Facts: func(context.Context) ([]ServerFacts, error) { return factsOf(raw), nil }})
		if err == nil || !strings.Contains(err.Error(), c.setting) {
			t.Errorf("got %v, want a refusal of %s", err, c.setting)
		}
		if _, err = Ensure(within(t, 10*time.Second), conn, Settings{}); err == nil {
			t.Error("a server that does not tell how it runs was taken")
		}
	}
	sound := ServerFacts{Name: "n1", Version: "2.15.2", JetStream: true, SyncAlways: true, StoreDir: "/var/lib/nats"}
	if err := sound.check(); err != nil {
		t.Errorf("sound server: %v", err)
	}
	for setting, spoil := range map[string]func(*ServerFacts){
		"jetstream is disabled":   func(f *ServerFacts) { f.JetStream = false },
		"jetstream.sync_interval": func(f *ServerFacts) { f.SyncAlways = false },
		"jetstream.store_dir":     func(f *ServerFacts) { f.StoreDir = "/tmp/nats/jetstream" },
		"version":                 func(f *ServerFacts) { f.Version = "2.10.29" },
	} {
		f := sound
		spoil(&f)
		if broken := f.check(); len(broken) != 1 || !strings.Contains(broken[0].Error(), setting) {
			t.Errorf("%s: got %v", setting, broken)
		}
	}
}

func TestAskServers(t *testing.T) {
	system := server.NewAccount("SYS")
	raw := rawServer(t, &server.Options{
		ServerName: "n1", SyncAlways: true, SystemAccount: "SYS",
		Accounts: []*server.Account{system},
		Users:    []*server.User{{Username: "sys", Password: "s", Account: system}},
	})
	conn, err := nats.Connect(raw.ClientURL(), nats.UserInfo("sys", "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	facts, err := AskServers(within(t, 10*time.Second), conn, 1)
	if err != nil || len(facts) != 1 {
		t.Fatalf("got %v, %v", facts, err)
	}
	if f := facts[0]; f.Name != "n1" || !f.JetStream || !f.SyncAlways || f.StoreDir == "" || f.check() != nil {
		t.Errorf("got %+v", f)
	}
	if _, err := AskServers(within(t, 300*time.Millisecond), conn, 2); err == nil {
		t.Error("a silent server was not missed")
	}
}

func TestPartitionsAreFixed(t *testing.T) {
	dir := t.TempDir()
	b := start(t, dir, ServerOptions{}, Settings{Partitions: 4})
	for _, n := range []int{2, 8} {
		s := b.streams.settings
		s.Partitions = n
		_, err := Ensure(within(t, 10*time.Second), b.conn, s)
		if err == nil || !strings.Contains(err.Error(), "partitions") {
			t.Errorf("%d partitions where 4 are: %v", n, err)
		}
		if _, err := b.streams.js.Stream(context.Background(), "USAGE_4"); !errors.Is(err, js.ErrStreamNotFound) {
			t.Errorf("a partition was made all the same: %v", err)
		}
	}
	if _, err := Ensure(within(t, 10*time.Second), b.conn, b.streams.settings); err != nil {
		t.Error(err)
	}
}

// A stream made anew under the same name is another stream.
func TestIncarnation(t *testing.T) {
	b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 2})
	ctx := within(t, 20*time.Second)
	name := b.streams.Name()
	same, err := Ensure(ctx, b.conn, b.streams.settings)
	if err != nil || same.Name() != name {
		t.Fatalf("opened again: %v, %v; want %s", same, err, name)
	}
	if err := b.streams.js.DeleteStream(ctx, "USAGE_1"); err != nil {
		t.Fatal(err)
	}
	other, err := ensureAgain(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	if other.Name() == name {
		t.Error("a partition was made anew, the stream kept its name")
	}
	if _, err := b.streams.State(ctx, 1); !errors.Is(err, metering.ErrIncarnation) {
		t.Errorf("state through the old handle: %v", err)
	}
	if err := b.streams.Verify(ctx); !errors.Is(err, metering.ErrIncarnation) {
		t.Errorf("verify through the old handle: %v", err)
	}
}

func TestNothingIsDeleted(t *testing.T) {
	b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 1})
	ctx := within(t, 20*time.Second)
	in := &Intake{Streams: b.streams}
	if _, err := in.Accept(ctx, events("a", 3)); err != nil {
		t.Fatal(err)
	}
	s, err := b.streams.js.Stream(ctx, "USAGE_0")
	if err != nil {
		t.Fatal(err)
	}
	if s.DeleteMsg(ctx, 1) == nil || s.SecureDeleteMsg(ctx, 1) == nil || s.Purge(ctx) == nil {
		t.Error("a message of the permanent stream could be deleted")
	}
	c := s.CachedInfo().Config
	c.DenyDelete = false
	if _, err := b.streams.js.UpdateStream(ctx, c); err == nil {
		t.Error("deny_delete could be taken back")
	}
}

func TestLimitsAreRaised(t *testing.T) {
	b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 1, Keep: 24 * time.Hour, MaxBytes: 1 << 20})
	ctx := within(t, 10*time.Second)
	s := b.streams.settings
	s.Keep, s.MaxBytes = 48*time.Hour, 2<<20
	if _, err := Ensure(ctx, b.conn, s); err != nil {
		t.Fatal(err)
	}
	state, err := b.streams.State(ctx, 0)
	if err != nil || state.MaxAge != s.Keep || state.MaxBytes != s.MaxBytes {
		t.Errorf("got %+v, %v", state, err)
	}
	s.Keep, s.MaxBytes = time.Hour, 1<<20 // never lowered: that would delete
	if _, err := Ensure(ctx, b.conn, s); err != nil {
		t.Fatal(err)
	}
	if state, _ := b.streams.State(ctx, 0); state.MaxAge != 48*time.Hour || state.MaxBytes != 2<<20 {
		t.Errorf("lowered to %+v", state)
	}
}

// A disk that is smaller than the default size of the stream still takes one.
func TestSmallDisk(t *testing.T) {
	srv, err := StartServer(ServerOptions{Dir: t.TempDir(), MaxStore: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Shutdown()
	conn, err := srv.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s, err := Ensure(within(t, 10*time.Second), conn, Settings{Intake: true, Facts: srv.Facts})
	if err != nil {
		t.Fatal(err)
	}
	for p := range 4 {
		if state, err := s.State(context.Background(), p); err != nil || state.MaxBytes < 1<<20 {
			t.Errorf("partition %d: %+v, %v", p, state, err)
		}
	}
}

func TestHoldBehindCheckpoint(t *testing.T) {
	const day = 24 * time.Hour
	b := start(t, t.TempDir(), ServerOptions{}, Settings{Partitions: 1, Keep: 100 * day})
	ctx := within(t, 10*time.Second)
	in := &Intake{Streams: b.streams}
	if _, err := in.Accept(ctx, events("a", 3)); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, c := range []struct {
		after      time.Duration
		reconciled uint64
		want       time.Duration
	}{
		{10 * day, 0, 100 * day},
		{90 * day, 0, 120 * day},
		{300 * day, 0, 330 * day},
		{300 * day, 1, 100 * day}, // reconciled: may expire
	} {
		if err := b.streams.Hold(ctx, metering.Cutoff{{Incarnation: 1, Partition: 0, Sequence: c.reconciled}}, now.Add(c.after)); err != nil {
			t.Fatal(err)
		}
		s, err := b.streams.State(ctx, 0)
		if err != nil || s.MaxAge.Round(time.Hour) != c.want {
			t.Errorf("after %s, reconciled up to %d: kept %s, %v; want %s", c.after, c.reconciled, s.MaxAge, err, c.want)
		}
		if err := b.streams.Verify(ctx); err != nil {
			t.Error(err)
		}
	}
}

// A producer may publish its own sources and read its own answers, nothing else.
func TestPermissions(t *testing.T) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	b := start(t, t.TempDir(), ServerOptions{ListenLoopback: true, Users: []SourceUser{
		{Name: "eu", Password: "pw-eu", Sources: []string{"gw-eu-1", "https://gw.example/a b"}},
		{Name: "us", NKey: public, Sources: []string{"gw-us-1"}},
		{Name: "none", Password: "pw-none"},
	}}, Settings{Partitions: 1, Intake: true})
	connect := func(user string, o ...nats.Option) (*nats.Conn, chan error) {
		errs := make(chan error, 100)
		o = append(o, nats.CustomInboxPrefix(InboxPrefix(user)), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { errs <- err }))
		c, err := nats.Connect(b.URL(), o...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c, errs
	}
	eu, euErrs := connect("eu", nats.UserInfo("eu", "pw-eu"))
	us, usErrs := connect("us", nats.Nkey(public, pair.Sign))
	none, noneErrs := connect("none", nats.UserInfo("none", "pw-none"))

	publish := func(c *nats.Conn, subject string) error {
		api, err := js.New(c)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 400*time.Millisecond)
		defer cancel()
		_, err = api.Publish(ctx, subject, []byte("{}"), js.WithRetryAttempts(0))
		return err
	}
	for _, subject := range []string{IntakeSubject("gw-eu-1"), IntakeSubject("https://gw.example/a b")} {
		if err := publish(eu, subject); err != nil {
			t.Errorf("eu to %s: %v", subject, err)
		}
	}
	if err := publish(us, IntakeSubject("gw-us-1")); err != nil {
		t.Errorf("us: %v", err)
	}
	denied := func(what string, errs chan error, try func()) {
		t.Helper()
		for len(errs) > 0 {
			<-errs
		}
		try()
		select {
		case err := <-errs:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(2 * time.Second):
			t.Errorf("%s: not denied", what)
		}
	}
	for _, subject := range []string{
		IntakeSubject("gw-us-1"), "intake.gw-eu-1.x", "intake", "usage.0", "usage.1", "answer.gw-eu-1.x",
		"$JS.API.STREAM.DELETE.USAGE_0", "$JS.API.INFO", "$JS.API.STREAM.MSG.DELETE.INTAKE", "$JS.API.DIRECT.GET.USAGE_0", "$SYS.REQ.SERVER.PING",
	} {
		denied("eu publishes "+subject, euErrs, func() { eu.Publish(subject, nil); eu.Flush() })
	}
	denied("us publishes for eu", usErrs, func() { us.Publish(IntakeSubject("gw-eu-1"), nil); us.Flush() })
	denied("none publishes", noneErrs, func() { none.Publish(IntakeSubject("gw-eu-1"), nil); none.Flush() })
	for _, subject := range []string{">", "intake.>", "usage.*", "_INBOX.>", InboxPrefix("us") + ".>", AnswerSubject("gw-us-1") + ".>", "$JS.ACK.>"} {
		denied("eu reads "+subject, euErrs, func() { eu.SubscribeSync(subject); eu.Flush() })
	}
	if _, err := nats.Connect(b.URL(), nats.UserInfo("eu", "wrong"), nats.MaxReconnects(0)); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("wrong password: %v", err)
	}
	if _, err := nats.Connect(b.URL(), nats.MaxReconnects(0)); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("no credential: %v", err)
	}
	if _, err := nats.Connect(b.URL(), nats.UserInfo(ownUser, b.password), nats.MaxReconnects(0)); err == nil {
		t.Error("our own credential works from outside the process")
	}

	// A source that moves to another credential moves while the broker runs.
	if err := b.SetUsers([]SourceUser{{Name: "eu", Password: "pw-eu", Sources: []string{"gw-us-1"}}}); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for publish(eu, IntakeSubject("gw-us-1")) != nil {
		if time.Now().After(deadline) {
			t.Fatal("the new permission does not work")
		}
	}
	denied("eu publishes what it lost", euErrs, func() { eu.Publish(IntakeSubject("gw-eu-1"), nil); eu.Flush() })
	if _, err := nats.Connect(b.URL(), nats.UserInfo("none", "pw-none"), nats.MaxReconnects(0)); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("a credential that is gone: %v", err)
	}
	if _, err := (&Intake{Streams: b.streams}).Accept(within(t, 5*time.Second), events("after", 3)); err != nil {
		t.Errorf("our own connection after new credentials: %v", err)
	}
}

func TestServerOptions(t *testing.T) {
	for _, users := range [][]SourceUser{
		{{Name: "mete", Password: "x"}}, {{Name: "", Password: "x"}}, {{Name: "a", Password: "x"}, {Name: "a", Password: "y"}},
		{{Name: "a"}}, {{Name: "a", Password: "x", NKey: "y"}},
	} {
		if s, err := StartServer(ServerOptions{Dir: t.TempDir(), Users: users}); err == nil {
			s.Shutdown()
			t.Errorf("users %+v were taken", users)
		}
	}
	if _, err := StartServer(ServerOptions{}); err == nil {
		t.Error("a server without a folder was started")
	}
	s, err := StartServer(ServerOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	if s.URL() != "" {
		t.Errorf("listens at %s unasked", s.URL())
	}
	if f, _ := s.Facts(context.Background()); len(f) != 1 || !f[0].SyncAlways {
		t.Errorf("facts %+v", f)
	}
}

func TestTokens(t *testing.T) {
	for _, s := range []string{"gw-eu-1", "a.b", "https://gw.example/x?y=*&z>1", "ü ber", "", "$SYS", "100%", "a\tb", "_INBOX.>"} {
		tok := token(s)
		if strings.ContainsAny(tok, ".*> \t") || s != "" && tok == "" {
			t.Errorf("token of %q is %q", s, tok)
		}
		if back, ok := untoken(tok); !ok || back != s {
			t.Errorf("%q → %q → %q, %v", s, tok, back, ok)
		}
	}
	for _, bad := range []string{"%", "%4", "%41", "%2e", "a%zz", "%ff%", "a b"} {
		if s, ok := untoken(bad); ok {
			t.Errorf("%q was read as %q", bad, s)
		}
	}
	if n := fmt.Sprint(metering.Key{7: 6}.Partition(4)); n != "2" {
		t.Errorf("partition of key 6 of 4 is %s", n)
	}
}

// A disk with less room than the streams may fill still opens them.
func TestRestartOnFullerDisk(t *testing.T) {
	dir := t.TempDir()
	b, err := open(dir, ServerOptions{MaxStore: 1 << 30}, Settings{Partitions: 2, Intake: true, MaxBytes: 300 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&Intake{Streams: b.streams}).Accept(within(t, 10*time.Second), events("a", 500)); err != nil {
		t.Fatal(err)
	}
	name := b.streams.Name()
	b.close()
	b = start(t, dir, ServerOptions{MaxStore: 10 << 20}, Settings{Partitions: 2, Intake: true, MaxBytes: 300 << 20})
	if b.streams.Name() != name {
		t.Error("the streams were made anew")
	}
	m := newMemory()
	drain(t, &Worker{Streams: b.streams, Store: m})
	if len(m.keys) != 500 {
		t.Errorf("%d events, want 500", len(m.keys))
	}
	if _, err := (&Intake{Streams: b.streams}).Accept(within(t, 30*time.Second), events("b", 500)); err != nil {
		t.Errorf("accept: %v", err)
	}
}
