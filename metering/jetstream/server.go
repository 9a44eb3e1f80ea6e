package jetstream

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	natsjwt "github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"
)

// ServerOptions says where the embedded broker keeps its files and who may publish.
type ServerOptions struct {
	Dir            string // its store; must be named
	ListenLoopback bool   // also take producers on 127.0.0.1; else in-process only
	Port           int    // of the loopback listener, 0 = a free one
	MaxStore       int64  // bytes of all streams, 0 = three quarters of the free disk
	Users          []SourceUser
}

// SourceUser is a credential of producers: a name with either a password or the
// public half of an nkey, and the sources that it may send. Its clients need the
// inbox prefix [InboxPrefix].
type SourceUser struct {
	Name     string
	Password string
	NKey     string
	Sources  []string
}

// Server is the embedded broker. It syncs every write to disk before it answers;
// there is no option to have it otherwise.
type Server struct {
	nats     *server.Server
	options  *server.Options
	password string
}

const (
	ownUser    = "mete"
	readyAfter = 20 * time.Second // bound of recovering the store at start
)

// StartServer starts the broker and returns when it takes connections.
func StartServer(o ServerOptions) (*Server, error) {
	if o.Dir == "" {
		return nil, errors.New("start broker: name a folder for its store; the default of NATS lies in the temporary folder and is lost at reboot")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("start broker in %s: %w", o.Dir, err)
	}
	s := &Server{password: rand.Text()}
	s.options = &server.Options{
		ServerName:        "mete",
		Host:              "127.0.0.1",
		Port:              o.Port,
		DontListen:        !o.ListenLoopback,
		JetStream:         true,
		StoreDir:          dir,
		JetStreamMaxStore: o.MaxStore,
		SyncAlways:        true,
		NoSigs:            true,
		NoLog:             true,
	}
	if o.Port == 0 {
		s.options.Port = server.RANDOM_PORT
	}
	if err := s.permit(s.options, o.Users); err != nil {
		return nil, fmt.Errorf("start broker in %s: %w", dir, err)
	}
	if s.nats, err = server.NewServer(s.options); err != nil {
		return nil, fmt.Errorf("start broker in %s: %w", dir, err)
	}
	s.nats.Start()
	if !s.nats.ReadyForConnections(readyAfter) {
		s.Shutdown()
		return nil, fmt.Errorf("start broker in %s: not ready after %s; is the folder writable, and is no other process using it?", dir, readyAfter)
	}
	return s, nil
}

// reloading keeps a broker in this process from answering a direct get while its options
// are replaced: it reads them without a lock of its own (nats-server 2.15,
// stream.getDirectRequest).
var reloading sync.RWMutex

// getMsg reads one message of a stream.
func getMsg(ctx context.Context, s js.Stream, sequence uint64) (*js.RawStreamMsg, error) {
	reloading.RLock()
	defer reloading.RUnlock()
	return s.GetMsg(ctx, sequence)
}

// SetUsers replaces the credentials of producers while the broker runs. Clients of
// a credential that is gone are disconnected.
func (s *Server) SetUsers(users []SourceUser) error {
	next := s.options.Clone()
	if err := s.permit(next, users); err != nil {
		return fmt.Errorf("set broker credentials: %w", err)
	}
	reloading.Lock()
	defer reloading.Unlock()
	if err := s.nats.ReloadOptions(next); err != nil {
		return fmt.Errorf("set broker credentials: %w", err)
	}
	s.options = next
	return nil
}

// permit writes the credentials into o: ours may do everything but only from inside
// the process; a producer's may publish its own sources and read its own answers.
func (s *Server) permit(o *server.Options, users []SourceUser) error {
	inProcess := map[string]struct{}{natsjwt.ConnectionTypeInProcess: {}}
	o.Users = []*server.User{{Username: ownUser, Password: s.password, AllowedConnectionTypes: inProcess}}
	o.Nkeys = nil
	seen := map[string]bool{ownUser: true}
	for _, u := range users {
		if u.Name == "" || seen[u.Name] {
			return fmt.Errorf("credential %q: names must be given, differ, and not be %q", u.Name, ownUser)
		}
		seen[u.Name] = true
		p := permissions(u)
		switch {
		case u.NKey != "" && u.Password == "":
			o.Nkeys = append(o.Nkeys, &server.NkeyUser{Nkey: u.NKey, Permissions: p})
		case u.Password != "" && u.NKey == "":
			o.Users = append(o.Users, &server.User{Username: u.Name, Password: u.Password, Permissions: p})
		default:
			return fmt.Errorf("credential %q: want either a password or an nkey", u.Name)
		}
	}
	return nil
}

func permissions(u SourceUser) *server.Permissions {
	var publish []string
	subscribe := []string{InboxPrefix(u.Name) + ".>"}
	for _, source := range u.Sources {
		publish = append(publish, IntakeSubject(source))
		subscribe = append(subscribe, AnswerSubject(source)+".>")
	}
	p := &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: publish},
		Subscribe: &server.SubjectPermission{Allow: subscribe},
	}
	if len(publish) == 0 {
		p.Publish.Deny = []string{">"} // an empty list would allow everything
	}
	return p
}

// InboxPrefix is the inbox prefix of a credential's clients, for
// nats.CustomInboxPrefix: no credential can read the inbox of another.
func InboxPrefix(user string) string { return "_INBOX." + token(user) }

// IntakeSubject is where events of the source are published.
func IntakeSubject(source string) string { return intakePrefix + token(source) }

// AnswerSubject is the beginning of the subjects on which a producer of the source
// may ask for answers, see [Router].
func AnswerSubject(source string) string { return "answer." + token(source) }

const intakePrefix = "intake."

// token writes s as one token of a subject: what would end it or be a wildcard is
// escaped as %XX.
func token(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c <= ' ' || c >= 0x7f || c == '.' || c == '*' || c == '>' || c == '%' || c == '$' && i == 0:
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// untoken undoes token; ok is false for what token never writes.
func untoken(t string) (s string, ok bool) {
	var b []byte
	for i := 0; i < len(t); i++ {
		c := t[i]
		if c == '%' {
			if i+2 >= len(t) {
				return "", false
			}
			hi, lo := strings.IndexByte("0123456789ABCDEF", t[i+1]), strings.IndexByte("0123456789ABCDEF", t[i+2])
			if hi < 0 || lo < 0 {
				return "", false
			}
			c = byte(hi<<4 | lo)
			i += 2
		}
		b = append(b, c)
	}
	s = string(b)
	return s, token(s) == t
}

// Connect opens an in-process connection with all rights.
func (s *Server) Connect() (*nats.Conn, error) {
	conn, err := nats.Connect("", nats.InProcessServer(s.nats), nats.UserInfo(ownUser, s.password),
		nats.Name("mete"), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded broker: %w", err)
	}
	return conn, nil
}

// URL is where producers connect, empty without a loopback listener.
func (s *Server) URL() string {
	if s.options.DontListen {
		return ""
	}
	return s.nats.ClientURL()
}

// Shutdown stops the broker and waits until its files are closed.
func (s *Server) Shutdown() {
	s.nats.Shutdown()
	s.nats.WaitForShutdown()
}

// Facts is what the broker says about itself.
func (s *Server) Facts(context.Context) ([]ServerFacts, error) { return factsOf(s.nats), nil }

func factsOf(s *server.Server) []ServerFacts {
	f := ServerFacts{Name: s.Name(), Version: server.VERSION}
	if c := s.JetStreamConfig(); c != nil {
		f.JetStream, f.SyncAlways, f.StoreDir, f.MaxStore = true, c.SyncAlways, c.StoreDir, c.MaxStore
	}
	return []ServerFacts{f}
}

// ServerFacts is how a broker runs, as far as the design depends on it.
type ServerFacts struct {
	Name       string
	Version    string
	JetStream  bool
	SyncAlways bool
	StoreDir   string
	MaxStore   int64    // bytes it may keep
	Peers      []string // brokers that it replicates with, also those that are away
}

// straggle is how long brokers may be silent once a majority has told how they run.
const straggle = 2 * time.Second

// majority is how many of a number of brokers decide, whatever the others do.
func majority(servers int) int { return servers/2 + 1 }

// AskServers asks the brokers of a cluster how they run, over a connection of the
// system account. It returns when `servers` have answered, or a little after a majority
// of them has; fewer are an error. [Streams.Watch] asks the others when they are back.
func AskServers(ctx context.Context, system *nats.Conn, servers int) ([]ServerFacts, error) {
	inbox := system.NewRespInbox()
	sub, err := system.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("ask brokers how they run: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // the inbox is ours alone
	if err := system.PublishRequest("$SYS.REQ.SERVER.PING.VARZ", inbox, nil); err != nil {
		return nil, fmt.Errorf("ask brokers how they run: %w", err)
	}
	var all []ServerFacts
	for len(all) < servers {
		enough := len(all) >= majority(servers)
		m, err := nextAnswer(ctx, sub, enough)
		if err != nil && enough {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("ask brokers how they run: %d of %d answered, want %d; are they up, and is the user one of the system account? %w",
				len(all), servers, majority(servers), err)
		}
		f, err := factsIn(m.Data)
		if err != nil {
			return nil, fmt.Errorf("ask brokers how they run: %w", err)
		}
		if !slices.ContainsFunc(all, func(other ServerFacts) bool { return other.Name == f.Name }) {
			all = append(all, f)
		}
	}
	return all, nil
}

func nextAnswer(ctx context.Context, sub *nats.Subscription, enough bool) (*nats.Msg, error) {
	if enough {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, straggle)
		defer cancel()
	}
	return sub.NextMsgWithContext(ctx)
}

// factsIn reads what a broker says of itself.
func factsIn(b []byte) (ServerFacts, error) {
	var answer struct {
		Server struct {
			Name    string `json:"name"`
			Version string `json:"ver"`
		} `json:"server"`
		Data struct {
			JetStream struct {
				Config *server.JetStreamConfig `json:"config"`
				Meta   struct {
					Replicas []struct {
						Name string `json:"name"`
					} `json:"replicas"`
				} `json:"meta"`
			} `json:"jetstream"`
		} `json:"data"`
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		return ServerFacts{}, err
	}
	f := ServerFacts{Name: answer.Server.Name, Version: answer.Server.Version}
	if c := answer.Data.JetStream.Config; c != nil {
		f.JetStream, f.SyncAlways, f.StoreDir, f.MaxStore = true, c.SyncAlways, c.StoreDir, c.MaxStore
	}
	for _, p := range answer.Data.JetStream.Meta.Replicas {
		f.Peers = append(f.Peers, p.Name)
	}
	return f, nil
}
