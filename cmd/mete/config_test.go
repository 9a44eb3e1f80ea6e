package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestConfig: what mete.yaml says, what the environment overrides, and what is refused
// with a line or a field and a remedy.
func TestConfig(t *testing.T) {
	dir := t.TempDir()
	vars := map[string]string{}
	e := &env{cwd: dir, dir: ".", getenv: func(name string) string { return vars[name] }}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, configName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := e.readConfig(); err != nil || c.Stream.external() || c.Metering.ClickHouse != "" || c.Stream.settings().Replicas != 1 {
		t.Errorf("without a file: %+v, %v; want everything in the data folder", c, err)
	}
	write(`stream:
  urls: [nats://n1:4222, "tls://n2:4222"]
  user: mete
  password: in-the-file
  tls: {ca: tls/ca.pem}
  system: {user: sys, password: secret}
  keep_days: 30
  max_gib: 2
metering: {clickhouse: "clickhouse://ch1:9000,ch2:9000/mete", cluster: main, silent_seconds: 20}
books: {postgres: postgres://mete@db/mete}
`)
	vars["METE_STREAM_PASSWORD"] = "from-the-environment"
	c, err := e.readConfig()
	if err != nil {
		t.Fatal(err)
	}
	s := c.Stream.settings()
	if !c.Stream.external() || c.Stream.Password != "from-the-environment" || c.Stream.TLS.CA != filepath.Join(dir, "tls/ca.pem") ||
		s.Replicas != 3 || s.Keep.Hours() != 30*24 || s.MaxBytes != 2<<30 || c.Metering.Cluster != "main" || c.Metering.SilentSeconds != 20 || c.Books.Postgres == "" {
		t.Errorf("read %+v", c)
	}
	delete(vars, "METE_STREAM_PASSWORD")
	for _, bad := range []struct{ text, want string }{
		{"stream: {url: [x]}", `unknown field "url"`},
		{`stream: {urls: ["n1:4222"], system: {user: x}}`, "nats://n1.example:4222"},
		{`stream: {urls: ["nats://n1:4222"]}`, "stream.system"},
		{"stream: {replicas: 3}", "no urls"},
		{`stream: {urls: ["nats://n1:4222"], system: {user: x}, replicas: 9}`, "stream.replicas: 9"},
		{`stream: {urls: ["nats://n1:4222"], system: {user: x}, tls: {cert: a}}`, "belong together"},
		{"metering: {silent_seconds: -1}", "metering.silent_seconds: -1"},
		{"metering: {cluster: main}", "metering.clickhouse is not set"},
		{"books: {postgres: mysql://x}", "postgres://"},
		{"contracts: {take_rate: 0.3}", "contracts.take_rate: \"0.3\", want a percentage"},
		{"contracts: {take_rate: 130%}", "0% to 100%"},
		{"contracts: {reference_sale: 0}", "contracts.reference_sale"},
	} {
		write(bad.text)
		_, err := e.readConfig()
		if err == nil || !strings.Contains(err.Error(), bad.want) || !strings.Contains(err.Error(), configName) {
			t.Errorf("%s: %v; want an error with %q and the file's name", bad.text, err, bad.want)
		}
	}
	e.config = "elsewhere.yaml"
	if _, err := e.readConfig(); err == nil || !strings.Contains(err.Error(), "elsewhere.yaml") {
		t.Errorf("a named file that is not there: %v", err)
	}
}
