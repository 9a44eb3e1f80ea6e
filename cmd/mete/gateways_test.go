package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mete/internal/testdata"
	"mete/metering"
)

// webProgram finds a program of a web server: in PATH, or where ./check has put it.
func webProgram(t *testing.T, name string) string {
	t.Helper()
	cache, _ := os.UserCacheDir()
	for _, path := range []string{name, "/usr/sbin/" + name, filepath.Join(cache, "mete", name, "usr", "sbin", name)} {
		if p, err := exec.LookPath(path); err == nil {
			return p
		}
	}
	testdata.Missing(t, name, "run ./check, which fetches it, or install it")
	return ""
}

// webServer runs a real web server until the test has its log.
type webServer struct {
	t       *testing.T
	dir     string
	address string
	cmd     *exec.Cmd
	output  bytes.Buffer
}

// startServer starts the program; config is called with its folder and address and
// yields its configuration, args its command line.
func startServer(t *testing.T, program string, config func(dir, address string) string, args func(dir, file string) []string) *webServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &webServer{t: t, dir: t.TempDir(), address: l.Addr().String()}
	l.Close()
	file := filepath.Join(w.dir, "server.conf")
	if err := os.WriteFile(file, []byte(config(w.dir, w.address)), 0o600); err != nil {
		t.Fatal(err)
	}
	w.cmd = exec.Command(program, args(w.dir, file)...)
	w.cmd.Stdout, w.cmd.Stderr = &w.output, &w.output
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop)
	for range 200 {
		if c, err := net.Dial("tcp", w.address); err == nil {
			c.Close()
			return w
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.stop()
	t.Fatalf("%s does not listen on %s: %s", program, w.address, w.output.String())
	return nil
}

func (w *webServer) stop() {
	if w.cmd.ProcessState == nil {
		_ = w.cmd.Process.Signal(syscall.SIGTERM)
		_ = w.cmd.Wait()
	}
}

// get sends a request as it stands, whatever its bytes, and waits for the answer.
func (w *webServer) get(target string, headers ...string) {
	w.t.Helper()
	c, err := net.Dial("tcp", w.address)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		w.t.Fatal(err)
	}
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\nUser-Agent: spy/1.0\r\nAuthorization: Bearer s3cret\r\n", target)
	for _, h := range headers {
		fmt.Fprintf(c, "%s\r\n", h)
	}
	fmt.Fprint(c, "\r\n")
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 ") {
		w.t.Fatalf("%s: %q, %v", target, line, err)
	}
}

// documentedConfig is the configuration that docs/gateways.md shows, with its folder of
// logs replaced.
func documentedConfig(t *testing.T, name, logs, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "examples", "gateways", name))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(logs)) {
		t.Fatalf("%s does not log into %s", name, logs)
	}
	return strings.ReplaceAll(string(b), logs, dir+"/")
}

// gatewayDesk is a data folder with the documented sources.
func gatewayDesk(t *testing.T) *desk {
	t.Helper()
	world, err := os.ReadFile(filepath.Join("testdata", "world", "market.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	sources, err := os.ReadFile(filepath.Join("..", "..", "examples", "gateways", "catalogue", "sources.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, dir: filepath.Join(t.TempDir(), "data"), now: time.Now().UTC().Add(time.Minute).Format(time.RFC3339)}
	d.want(exitOK, "apply", "-f", folder(t, map[string]string{"market.yaml": string(world), "sources.yaml": string(sources)}), "--as", "k.lee")
	return d
}

// ingested reads a log and compares counts; again it adds nothing.
func (d *desk) ingested(log string, accepted int64, reasons map[string]int64, args ...string) {
	d.t.Helper()
	for again := range 2 {
		a := d.run(append([]string{"ingest", log, "--json"}, args...)...)
		var r ingestReport
		if err := json.Unmarshal([]byte(a.out), &r); err != nil {
			d.t.Fatalf("%v: %s %s", err, a.out, a.errs)
		}
		stored, duplicate := accepted, int64(0)
		if again == 1 {
			stored, duplicate = 0, accepted
		}
		if r.Accepted != accepted || r.Stored != stored || r.Duplicate != duplicate || r.Conflict != 0 || fmt.Sprint(r.Reasons) != fmt.Sprint(reasons) {
			d.t.Errorf("%+v, want %d accepted, %v refused", r, accepted, reasons)
		}
	}
}

// holdsNothingOf asserts that no file of the data folder has any of the texts.
func (d *desk) holdsNothingOf(texts ...string) {
	d.t.Helper()
	files := 0
	err := filepath.WalkDir(d.dir, func(path string, f fs.DirEntry, err error) error {
		if err != nil || !f.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for _, text := range texts {
			if bytes.Contains(b, []byte(text)) {
				d.t.Errorf("%s holds %q", path, text)
			}
		}
		return nil
	})
	if err != nil || files < 5 {
		d.t.Errorf("%d files looked at, %v", files, err)
	}
}

// TestRealNginx lets the real nginx log with the documented configuration what callers
// send, well-meaning and other ones, and takes its log in.
func TestRealNginx(t *testing.T) {
	w := startServer(t, webProgram(t, "nginx"), func(dir, address string) string {
		user := ""
		if os.Geteuid() == 0 {
			user = "user root;\n"
		}
		return user + "daemon off; worker_processes 2; pid " + dir + "/pid; error_log " + dir + "/error.log;\nevents {}\nhttp {\n" +
			documentedConfig(t, "nginx.conf", "/var/log/nginx/", dir) +
			"client_body_temp_path " + dir + "/t1; proxy_temp_path " + dir + "/t2; fastcgi_temp_path " + dir + "/t3; uwsgi_temp_path " + dir + "/t4; scgi_temp_path " + dir + "/t5;\n" +
			"server { listen " + address + "; location / { return 200 \"ok\\n\"; } location /missing { return 404; } }\n}\n"
	}, func(dir, file string) []string { return []string{"-p", dir, "-e", dir + "/error.log", "-c", file} })
	const key, customer = "X-Api-Key: key-of-northwind", "X-Customer-Id: lakeside"
	for range 3 { // one id of the caller's is three calls
		w.get("/fhir/r4/Patient/0012345?name=smith&birthdate=1961-04-12", key, customer, "X-Request-Id: mine")
	}
	w.get("/missing", key, customer)
	w.get("/a\xfe%22\\b%ff%0a", key, customer) // no UTF-8 in the path
	w.get("/x", key, "X-Note: \xff\xfe")       // nor in a header that nobody takes
	w.get("/x", key, "X-Customer-Id: a\xff")   // nor in the customer
	w.get("/x", key, "X-Customer-Id: jane@example.org")
	w.get("/x", customer)
	w.get("/x", customer, "X-Api-Key: of-nobody", "X-App-Id: northwind-scheduler")
	w.stop()

	d := gatewayDesk(t)
	d.ingested(filepath.Join(w.dir, "usage.json"), 6, map[string]int64{
		metering.Unclean + "/bad_identifier": 1, metering.Unclean + "/phi_email": 1, metering.Unusable + "/missing_field": 2,
	}, "--gateway", "nginx", "--source", "gateway-us-1")
	usage := d.want(exitOK, "usage", "--by", "app,customer,operation").out
	if !strings.Contains(usage, "lakeside") || strings.Contains(usage, "Patient") {
		t.Error(usage)
	}
	d.holdsNothingOf("0012345", "smith", "1961-04-12", "s3cret", "spy/1.0", "jane@", "of-nobody", "key-of-northwind", `"mine"`, "/missing")
}

// TestRealApache does the same with Apache, whose lines have neither ids nor an app.
func TestRealApache(t *testing.T) {
	const modules = "/usr/lib/apache2/modules"
	program := webProgram(t, "apache2")
	if _, err := os.Stat(modules); errors.Is(err, fs.ErrNotExist) {
		testdata.Missing(t, "modules of apache2", "run ./check, or install apache2-bin")
	}
	w := startServer(t, program, func(dir, address string) string {
		return "ServerRoot " + dir + "\nServerName localhost\nPidFile " + dir + "/pid\nErrorLog " + dir + "/error.log\nListen " + address + "\nDocumentRoot " + dir + "\n" +
			"LoadModule mpm_event_module " + modules + "/mod_mpm_event.so\nLoadModule authz_core_module " + modules + "/mod_authz_core.so\n" +
			"DefaultRuntimeDir " + dir + "\n<Directory " + dir + ">\nRequire all granted\n</Directory>\n" + documentedConfig(t, "apache.conf", "/var/log/apache2/", dir)
	}, func(_, file string) []string { return []string{"-f", file, "-DFOREGROUND"} })
	for range 5 { // most of them are equal lines
		w.get("/fhir/r4/Patient/0012345?name=smith", "Referer: https://ehr.example.com/?t=s3cret")
	}
	w.get("/a\"b\\c", `Referer: "quoted" \`, "User-Agent: x\ty")
	w.get("/\xff\xfe", "Referer: \xff")
	w.get("/%0a", "User-Agent: \x01")
	w.stop()

	log := filepath.Join(w.dir, "northwind-scheduler.log")
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	lines := int64(bytes.Count(text, []byte("\n")))
	if lines < 8 {
		t.Fatalf("%d lines in the log, want 8:\n%s", lines, text)
	}
	d := gatewayDesk(t)
	d.ingested(log, lines, map[string]int64{}, "--gateway", "apache", "--source", "apache-1")
	d.holdsNothingOf("0012345", "smith", "s3cret", "spy/1.0", "ehr.example.com")
}
