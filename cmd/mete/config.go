package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/nats-io/nats.go"
	"github.com/shopspring/decimal"

	"mete/metering/clickhouse"
	"mete/metering/jetstream"
	"mete/money"
)

// config says where the stages keep what they have. Everything is optional: without a
// file all of it is in the data folder. Paths in it are relative to the file. A value
// of the environment, named beside the field, wins over the file: secrets need not be
// in it.
type config struct {
	Stream    streamConfig    `yaml:"stream"`
	Metering  meteringConfig  `yaml:"metering"`
	Books     booksConfig     `yaml:"books"`
	Contracts contractsConfig `yaml:"contracts"`
}

// streamConfig is NATS JetStream elsewhere; without urls the broker is in the process.
type streamConfig struct {
	URLs        []string  `yaml:"urls"`        // METE_STREAM_URLS, separated by commas
	User        string    `yaml:"user"`        // METE_STREAM_USER
	Password    string    `yaml:"password"`    // METE_STREAM_PASSWORD
	Credentials string    `yaml:"credentials"` // file of a NATS user: JWT and seed
	NKey        string    `yaml:"nkey"`        // file of a seed
	TLS         tlsConfig `yaml:"tls"`

	// The system account's user, who sees how the brokers run. mete refuses brokers
	// whose settings it cannot see.
	System systemConfig `yaml:"system"`

	Brokers    int   `yaml:"brokers"`    // how many must say how they run; absent: replicas
	Replicas   int   `yaml:"replicas"`   // absent: 3 with urls, 1 without
	Partitions int   `yaml:"partitions"` // fixed for the stream's life; absent: 4
	KeepDays   int   `yaml:"keep_days"`  // absent: 400
	MaxGiB     int64 `yaml:"max_gib"`    // of each partition; absent: 8
}

type systemConfig struct {
	User        string `yaml:"user"`
	Password    string `yaml:"password"` // METE_STREAM_SYSTEM_PASSWORD
	Credentials string `yaml:"credentials"`
	NKey        string `yaml:"nkey"`
}

type tlsConfig struct {
	CA   string `yaml:"ca"`   // file; absent: the machine's
	Cert string `yaml:"cert"` // file, of this client
	Key  string `yaml:"key"`  // file
}

// meteringConfig is where events are stored.
type meteringConfig struct {
	ClickHouse string `yaml:"clickhouse"` // METE_CLICKHOUSE_DSN; absent: events.db in the data folder
	Cluster    string `yaml:"cluster"`    // of ClickHouse; absent: a single server
	FilterMiB  int64  `yaml:"filter_mib"` // memory of the key filter; absent: 1024

	// Messages may wait so long while nothing is stored before health is red; absent: 60.
	SilentSeconds int `yaml:"silent_seconds"`
}

// booksConfig is where ledger, statements, catalogue and payouts are.
type booksConfig struct {
	Postgres string `yaml:"postgres"` // METE_POSTGRES_DSN; absent: books.db in the data folder
}

// contractsConfig is what contract check holds contracts against.
type contractsConfig struct {
	TakeRate      string `yaml:"take_rate"`      // most that the platform takes of net sales; absent: 30%
	ReferenceSale string `yaml:"reference_sale"` // the sale it is computed for, in the contract's currency; absent: 100.00
}

// limits are the take rate and the sale that it is computed for.
func (c contractsConfig) limits() (ceiling, sale decimal.Decimal, err error) {
	text, percent := strings.CutSuffix(cmp.Or(c.TakeRate, "30%"), "%")
	ceiling, err = money.ParseDecimal(strings.TrimSpace(text))
	if err != nil || !percent || ceiling.IsNegative() || ceiling.GreaterThan(decimal.NewFromInt(100)) {
		return ceiling, sale, fmt.Errorf("contracts.take_rate: %q, want a percentage from 0%% to 100%%, such as 30%%", c.TakeRate)
	}
	sale, err = money.ParseDecimal(cmp.Or(c.ReferenceSale, "100"))
	if err != nil || !sale.IsPositive() {
		return ceiling, sale, fmt.Errorf("contracts.reference_sale: %q, want an amount above zero, such as 100.00", c.ReferenceSale)
	}
	return ceiling.Shift(-2), sale, nil
}

// configName is the file in the data folder that is read when no other is named.
const configName = "mete.yaml"

// options are those of the ClickHouse store.
func (m meteringConfig) options() clickhouse.Options {
	return clickhouse.Options{DSN: m.ClickHouse, Cluster: m.Cluster, Owner: ownerName()}
}

// readConfig reads the file that was named, else mete.yaml of the data folder if there
// is one.
func (e *env) readConfig() (config, error) {
	name, named := e.config, true
	if name == "" {
		name, named = filepath.Join(e.dir, configName), false
	}
	file := e.path(name)
	c, err := decodeConfig(name, file, named)
	if err != nil {
		return c, err
	}
	for _, v := range []struct {
		env  string
		into *string
	}{
		{"METE_STREAM_USER", &c.Stream.User}, {"METE_STREAM_PASSWORD", &c.Stream.Password},
		{"METE_STREAM_SYSTEM_PASSWORD", &c.Stream.System.Password},
		{"METE_CLICKHOUSE_DSN", &c.Metering.ClickHouse}, {"METE_POSTGRES_DSN", &c.Books.Postgres},
	} {
		*v.into = cmp.Or(e.getenv(v.env), *v.into)
	}
	if urls := e.getenv("METE_STREAM_URLS"); urls != "" {
		c.Stream.URLs = strings.Split(urls, ",")
	}
	for _, f := range []*string{
		&c.Stream.Credentials, &c.Stream.NKey, &c.Stream.TLS.CA, &c.Stream.TLS.Cert, &c.Stream.TLS.Key,
		&c.Stream.System.Credentials, &c.Stream.System.NKey,
	} {
		if *f != "" && !filepath.IsAbs(*f) {
			*f = filepath.Join(filepath.Dir(file), *f)
		}
	}
	if err := c.check(); err != nil {
		return c, usageError(fmt.Errorf("%s: %w", name, err))
	}
	return c, nil
}

// decodeConfig reads a file as it stands; one that need not be there may be missing.
func decodeConfig(name, file string, needed bool) (c config, err error) {
	b, err := os.ReadFile(file)
	switch {
	case err == nil:
		err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(&c)
		if err != nil && !errors.Is(err, io.EOF) {
			return c, usageError(fmt.Errorf("%s: %w", name, err))
		}
	case needed || !errors.Is(err, os.ErrNotExist):
		return c, usageError(fmt.Errorf("configuration: %w", err))
	}
	return c, nil
}

// check refuses what cannot be meant.
func (c config) check() error {
	s := c.Stream
	for _, u := range s.URLs {
		p, err := url.Parse(strings.TrimSpace(u))
		if err != nil || p.Host == "" || p.Scheme != "nats" && p.Scheme != "tls" {
			return fmt.Errorf("stream.urls: %q is no address of a broker; want one such as nats://n1.example:4222, or tls:// for TLS alone", u)
		}
	}
	if len(s.URLs) == 0 && (s.User != "" || s.Credentials != "" || s.NKey != "" || s.TLS != tlsConfig{} || s.System != systemConfig{} || s.Brokers > 0 || s.Replicas > 1) {
		return errors.New("stream: settings of brokers elsewhere, and no urls of them: name the brokers, or take the settings out for the one in this process")
	}
	if len(s.URLs) > 0 && s.System == (systemConfig{}) {
		return errors.New("stream.system: a user of the brokers' system account is needed, so that mete can see whether they sync every write; see docs/operations.md")
	}
	if (s.TLS.Cert == "") != (s.TLS.Key == "") {
		return errors.New("stream.tls: cert and key belong together")
	}
	for _, n := range []struct {
		field string
		value int64
		most  int64
	}{
		{"stream.replicas", int64(s.Replicas), 5}, {"stream.brokers", int64(s.Brokers), 1000}, {"stream.partitions", int64(s.Partitions), jetstream.MaxPartitions},
		{"stream.keep_days", int64(s.KeepDays), 36_500}, {"stream.max_gib", s.MaxGiB, 1 << 20}, {"metering.filter_mib", c.Metering.FilterMiB, 1 << 20},
		{"metering.silent_seconds", int64(c.Metering.SilentSeconds), 24 * 3600},
	} {
		if n.value < 0 || n.value > n.most {
			return fmt.Errorf("%s: %d, want 1 to %d, or nothing", n.field, n.value, n.most)
		}
	}
	if _, _, err := c.Contracts.limits(); err != nil {
		return err
	}
	if c.Metering.Cluster != "" && c.Metering.ClickHouse == "" {
		return errors.New("metering.cluster: names a cluster of ClickHouse, and metering.clickhouse is not set")
	}
	if p := c.Books.Postgres; p != "" && !strings.HasPrefix(p, "postgres://") && !strings.HasPrefix(p, "postgresql://") {
		return errors.New("books.postgres: want a URL such as postgres://mete@db.example/mete")
	}
	return nil
}

// external reports whether the brokers are elsewhere.
func (s streamConfig) external() bool { return len(s.URLs) > 0 }

// settings are those of the stream.
func (s streamConfig) settings() jetstream.Settings {
	replicas := cmp.Or(s.Replicas, map[bool]int{true: 3, false: 1}[s.external()])
	return jetstream.Settings{
		Partitions: s.Partitions, Replicas: replicas, Brokers: cmp.Or(s.Brokers, replicas),
		Keep: time.Duration(s.KeepDays) * 24 * time.Hour, MaxBytes: s.MaxGiB << 30, Intake: true,
	}
}

// Bounds of connections to brokers elsewhere.
const (
	brokerTimeout = 5 * time.Second
	reconnectWait = 250 * time.Millisecond
)

// connect opens a connection that is opened again whenever it is lost, for as long as
// the process lives: the stages say what cannot be reached meanwhile.
func (s streamConfig) connect(name, user, password, credentials, nkey string) (*nats.Conn, error) {
	o := []nats.Option{nats.Name(name), nats.Timeout(brokerTimeout), nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait)}
	switch {
	case credentials != "":
		o = append(o, nats.UserCredentials(credentials))
	case nkey != "":
		k, err := nats.NkeyOptionFromSeed(nkey)
		if err != nil {
			return nil, usageError(fmt.Errorf("stream: nkey %s: %w", nkey, err))
		}
		o = append(o, k)
	case user != "":
		o = append(o, nats.UserInfo(user, password))
	}
	t, err := s.TLS.load()
	if err != nil {
		return nil, usageError(fmt.Errorf("stream.tls: %w", err))
	}
	if t != nil {
		o = append(o, nats.Secure(t))
	}
	conn, err := nats.Connect(strings.Join(s.URLs, ","), o...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", strings.Join(s.URLs, ", "), err)
	}
	return conn, nil
}

// dial opens our connection and the one of the system account.
func (s streamConfig) dial(name string) (own, system *nats.Conn, err error) {
	if own, err = s.connect(name, s.User, s.Password, s.Credentials, s.NKey); err != nil {
		return nil, nil, err
	}
	if system, err = s.connect(name+" (settings)", s.System.User, s.System.Password, s.System.Credentials, s.System.NKey); err != nil {
		own.Close()
		return nil, nil, fmt.Errorf("system account: %w", err)
	}
	return own, system, nil
}

// load reads the files; nil when nothing is set: the scheme of the URL decides.
func (t tlsConfig) load() (*tls.Config, error) {
	if t == (tlsConfig{}) {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		b, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("ca %s: no certificate in it", t.CA)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// facts asks the brokers how they run, over the system account.
func (s streamConfig) facts(system *nats.Conn) func(context.Context) ([]jetstream.ServerFacts, error) {
	n := s.settings().Brokers
	return func(ctx context.Context) ([]jetstream.ServerFacts, error) {
		ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
		defer cancel()
		return jetstream.AskServers(ctx, system, n)
	}
}
