// Command engine is a ClickHouse engine as a process of its own: the library of the
// current engine behind as much of ClickHouse's HTTP protocol as its Go client needs.
//
//	engine LIBRARY DATA-FOLDER PORT [CONFIG.xml]
//
// It prints the address it listens on, a port of the loopback (0: a free one), and
// serves until it is killed or its standard input ends. Tests and benchmarks start it through
// package chtest; it is no server for anything else: whoever reaches the port may do
// everything.
//
// Settings that a client sends in the URL are forwarded: each request runs with its
// own and leaves none behind. One request runs at a time.
package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"
)

func main() {
	if len(os.Args) != 4 && len(os.Args) != 5 {
		log.Fatal("usage: engine LIBRARY DATA-FOLDER PORT [CONFIG.xml]")
	}
	args := []string{"--path=" + os.Args[2]}
	if len(os.Args) == 5 {
		args = append(args, "--config-file="+os.Args[4])
	}
	e, err := open(os.Args[1], args...)
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", os.Args[3]))
	if err != nil {
		log.Fatal(err)
	}
	go func() { // who started us is gone when our input ends
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println(l.Addr())
	srv := &http.Server{Handler: e, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(srv.Serve(l))
}

// engine is the loaded library with one connection.
type engine struct {
	mu   sync.Mutex
	conn unsafe.Pointer

	query        func(conn, q unsafe.Pointer, n uint64, format unsafe.Pointer, f uint64) unsafe.Pointer
	resultError  func(unsafe.Pointer) string
	resultBuffer func(unsafe.Pointer) unsafe.Pointer
	resultLength func(unsafe.Pointer) uint64
	rowsRead     func(unsafe.Pointer) uint64
	bytesRead    func(unsafe.Pointer) uint64
	destroy      func(unsafe.Pointer)

	insert        func(conn, q unsafe.Pointer, n uint64, format unsafe.Pointer, f uint64) unsafe.Pointer
	insertAppend  func(stream, data unsafe.Pointer, n uint64) int32
	insertDone    func(stream unsafe.Pointer) unsafe.Pointer
	insertError   func(stream unsafe.Pointer) string
	destroyInsert func(stream unsafe.Pointer)

	version  string
	database string            // in use now; empty: whichever
	settings map[string]string // as they are now; others have their defaults
}

func open(library string, args ...string) (*engine, error) {
	lib, err := purego.Dlopen(library, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return nil, err
	}
	e := &engine{}
	var connect func(argc int32, argv **byte) *unsafe.Pointer
	for name, fn := range map[string]any{
		"chdb_connect":                   &connect,
		"chdb_query_n":                   &e.query,
		"chdb_result_error":              &e.resultError,
		"chdb_result_buffer":             &e.resultBuffer,
		"chdb_result_length":             &e.resultLength,
		"chdb_result_storage_rows_read":  &e.rowsRead,
		"chdb_result_storage_bytes_read": &e.bytesRead,
		"chdb_destroy_query_result":      &e.destroy,
		"chdb_stream_insert_n":           &e.insert,
		"chdb_stream_append":             &e.insertAppend,
		"chdb_stream_done":               &e.insertDone,
		"chdb_stream_insert_error":       &e.insertError,
		"chdb_destroy_insert_stream":     &e.destroyInsert,
	} {
		purego.RegisterLibFunc(fn, lib, name)
	}
	argv := []*byte{&[]byte("clickhouse\x00")[0]}
	for _, a := range args {
		argv = append(argv, &[]byte(a + "\x00")[0])
	}
	conn := connect(int32(len(argv)), &argv[0])
	if conn == nil || *conn == nil {
		return nil, fmt.Errorf("the engine does not open with %s", strings.Join(args, " "))
	}
	e.conn = *conn
	v, _, err := e.run([]byte("SELECT version()"), "TabSeparated")
	if err != nil {
		return nil, err
	}
	e.version = strings.TrimSpace(string(v))
	return e, nil
}

// read is what a query read from storage.
type read struct{ rows, bytes uint64 }

func (e *engine) run(q []byte, format string) ([]byte, read, error) {
	f := []byte(format)
	return e.result(e.query(e.conn, unsafe.Pointer(&q[0]), uint64(len(q)), unsafe.Pointer(&f[0]), uint64(len(f))))
}

func (e *engine) result(r unsafe.Pointer) ([]byte, read, error) {
	if r == nil {
		return nil, read{}, fmt.Errorf("the engine gave no result")
	}
	defer e.destroy(r)
	if text := e.resultError(r); text != "" {
		return nil, read{}, exception(text)
	}
	n := e.resultLength(r)
	if n == 0 {
		return nil, read{e.rowsRead(r), e.bytesRead(r)}, nil
	}
	return bytes.Clone(unsafe.Slice((*byte)(e.resultBuffer(r)), n)), read{e.rowsRead(r), e.bytesRead(r)}, nil
}

// stream inserts a body that is in the Native format.
func (e *engine) stream(q, body []byte) error {
	f := []byte("Native")
	s := e.insert(e.conn, unsafe.Pointer(&q[0]), uint64(len(q)), unsafe.Pointer(&f[0]), uint64(len(f)))
	if s == nil {
		return fmt.Errorf("the engine opened no insert")
	}
	defer e.destroyInsert(s)
	if text := e.insertError(s); text != "" {
		return fmt.Errorf("%s", text)
	}
	if code := e.insertAppend(s, unsafe.Pointer(&body[0]), uint64(len(body))); code != 0 {
		return fmt.Errorf("the engine took no data (%d): %s", code, e.insertError(s))
	}
	_, _, err := e.result(e.insertDone(s))
	return err
}

// notSettings are the URL parameters that are no settings of the engine.
var notSettings = map[string]bool{
	"query": true, "query_id": true, "quota_key": true, "database": true, "default_format": true, "client_protocol_version": true,
	"compress": true, "decompress": true, "network_compression_method": true, "user": true, "password": true,
	"session_id": true, "session_timeout": true, "wait_end_of_query": true, "buffer_size": true,
	"send_progress_in_http_headers": true, "http_headers_progress_interval_ms": true,
}

// settingName is what may stand in a SET.
var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// exception is an error in the engine's words.
type exception string

func (e exception) Error() string { return string(e) }

func quoted(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// with runs fn with the request's settings and database, and with no others. What the
// request before had too is not said again: each statement costs as much as a small query.
func (e *engine) with(v url.Values, fn func() error) error {
	want := map[string]string{}
	var set []string
	for _, name := range slices.Sorted(maps.Keys(v)) {
		if notSettings[name] {
			continue
		}
		if !settingName.MatchString(name) {
			return exception(fmt.Sprintf("Code: 115. DB::Exception: %q is no name of a setting. (UNKNOWN_SETTING)", name))
		}
		want[name] = v.Get(name)
		if was, is := e.settings[name]; !is || was != want[name] {
			set = append(set, name+" = "+quoted(want[name]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.settings)) {
		if _, is := want[name]; !is && !strings.HasPrefix(name, "param_") {
			set = append(set, name+" = DEFAULT")
		}
	}
	do := func(q string) error {
		_, _, err := e.run([]byte(q), "Null")
		return err
	}
	if db := v.Get("database"); db != "" && db != e.database {
		e.database = ""
		if err := do("USE `" + strings.ReplaceAll(db, "`", "``") + "`"); err != nil {
			return err
		}
		e.database = db
	}
	if len(set) > 0 {
		if err := do("SET " + strings.Join(set, ", ")); err != nil {
			return err // all of it, or nothing: what was set still is
		}
		e.settings = want
	}
	return fn()
}

// maxBody bounds what one request may carry.
const maxBody = 1 << 30

func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	v := r.URL.Query()
	if bytes.Contains(body, []byte("displayName(), version(), revision()")) && v.Get("client_protocol_version") != "" {
		_, _ = w.Write(e.hello())
		return
	}
	format := v.Get("default_format")
	if format == "" {
		format = "TabSeparated"
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if r.Context().Err() != nil {
		return // the client is gone: what it did not get an answer to was not run
	}
	var out []byte
	var did read
	err = e.with(v, func() error {
		q := v.Get("query")
		if q != "" && len(body) > 0 {
			return e.stream(trimFormat(q), body)
		}
		var err error
		out, did, err = e.run(append([]byte(q), body...), format)
		return err
	})
	if err != nil {
		w.Header().Set("X-ClickHouse-Exception-Code", exceptionCode(err.Error()))
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("X-ClickHouse-Summary", fmt.Sprintf(`{"read_rows":"%d","read_bytes":"%d"}`, did.rows, did.bytes))
	_, _ = w.Write(out)
}

var formatNative = regexp.MustCompile(`(?i)\s+FORMAT\s+Native\s*$`)

func trimFormat(q string) []byte { return formatNative.ReplaceAll([]byte(q), nil) }

var codeOf = regexp.MustCompile(`Code: ([0-9]+)`)

func exceptionCode(text string) string {
	if m := codeOf.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return "1001"
}

// hello answers the client's first question, encoded as its revision wants it; it says
// revision 0, so that later blocks are plain.
func (e *engine) hello() []byte {
	b := []byte{1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0} // block info
	str := func(s string) { b = append(append(b, byte(len(s))), s...) }
	b = append(b, 4, 1) // columns, rows
	for _, c := range [][2]string{{"displayName()", "engine"}, {"version()", e.version}} {
		str(c[0])
		str("String")
		b = append(b, 0)
		str(c[1])
	}
	str("revision()")
	str("UInt32")
	b = append(b, 0, 0, 0, 0, 0)
	str("timezone()")
	str("String")
	b = append(b, 0)
	str("UTC")
	return b
}
