package main

import (
	"bufio"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// A command that finds its data folder owned by a server does not open it: it sends
// its words to the server over loopback, with the token of the lock file, and the
// server runs the same command on the open folder. Standard input streams there,
// output and exit code stream back.

// localPath is where a server takes commands from the same machine.
const localPath = "/local/run"

const (
	localProtocol = "mete-local"
	dialTimeout   = 5 * time.Second
	maxLocalArgs  = 64 << 10 // bytes of the request line
	maxFrame      = 64 << 10
)

// localCall is one command line with what it needs of its surroundings.
type localCall struct {
	Args     []string `json:"args"`
	Cwd      string   `json:"cwd"`
	Terminal bool     `json:"terminal"`
	As       string   `json:"as,omitempty"`  // who acts, unless the command line says
	Now      string   `json:"now,omitempty"` // a fixed clock
}

// The kinds of frames; a frame is kind, length (big endian, 4 bytes), bytes.
const (
	frameIn     = 'i'
	frameInEnd  = 'e'
	frameStop   = 'x' // the caller was told to stop: the command ends and says so
	frameOut    = 'o'
	frameErr    = 'r'
	frameStatus = 's'
)

func writeFrame(w io.Writer, kind byte, b []byte) error {
	head := make([]byte, 5, 5+len(b))
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(b)))
	_, err := w.Write(append(head, b...))
	return err
}

func readFrame(r io.Reader) (byte, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("local call: frame of %d bytes, at most %d", n, maxFrame)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return head[0], b, err
}

// frameWriter sends what is written as frames of one kind.
type frameWriter struct {
	mu   *sync.Mutex
	w    io.Writer
	kind byte
}

func (f frameWriter) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n := 0; n < len(b); n += maxFrame {
		if err := writeFrame(f.w, f.kind, b[n:min(n+maxFrame, len(b))]); err != nil {
			return n, err
		}
	}
	return len(b), nil
}

// stopPatience is how long a caller that was told to stop waits for the command's last
// words and exit code.
const stopPatience = 10 * time.Second

// callServer runs a command line on the server that owns the folder.
func callServer(ctx context.Context, e *env, o owner, args []string) (int, error) {
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", o.Address)
	if err != nil {
		return 0, fmt.Errorf("process %d owns the data folder but does not answer at %s: %w", o.PID, o.Address, err)
	}
	defer conn.Close()
	early := context.AfterFunc(ctx, func() { conn.Close() })
	defer early()
	call, err := json.Marshal(localCall{Args: args, Cwd: e.cwd, Terminal: e.terminal, As: e.getenv("METE_AS"), Now: e.getenv("METE_NOW")})
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\nContent-Length: 0\r\nMete-Call: %s\r\n\r\n",
		localPath, o.Address, o.Token, localProtocol, base64.StdEncoding.EncodeToString(call))
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0, fmt.Errorf("local call to %s: %w", o.Address, err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
		return 0, fmt.Errorf("local call to %s: %s: %s", o.Address, res.Status, body)
	}
	var sending sync.Mutex
	if early() {
		defer context.AfterFunc(ctx, func() {
			time.AfterFunc(stopPatience, func() { conn.Close() })
			sending.Lock()
			defer sending.Unlock()
			writeFrame(conn, frameStop, nil)
		})()
	}
	go sendInput(conn, &sending, e.in)
	for {
		kind, b, err := readFrame(r)
		if err != nil {
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
			return 0, fmt.Errorf("local call: the server stopped before the command ended: %w", err)
		}
		switch kind {
		case frameOut:
			e.out.Write(b)
		case frameErr:
			e.err.Write(b)
		case frameStatus:
			if len(b) != 1 {
				return 0, fmt.Errorf("local call: status of %d bytes", len(b))
			}
			return int(b[0]), nil
		}
	}
}

func sendInput(conn net.Conn, sending *sync.Mutex, in io.Reader) {
	buf := make([]byte, maxFrame)
	send := func(kind byte, b []byte) error {
		sending.Lock()
		defer sending.Unlock()
		return writeFrame(conn, kind, b)
	}
	for {
		n, err := in.Read(buf)
		if n > 0 && send(frameIn, buf[:n]) != nil {
			return
		}
		if err != nil {
			send(frameInEnd, nil)
			return
		}
	}
}

// localHandler runs commands for callers that hold the token.
type localHandler struct {
	app   *app
	token string
}

func (h localHandler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	want := "Bearer " + h.token
	if subtle.ConstantTimeCompare([]byte(req.Header.Get("Authorization")), []byte(want)) != 1 {
		http.Error(w, "the token is in the data folder's lock file", http.StatusUnauthorized)
		return
	}
	var call localCall
	raw, err := base64.StdEncoding.DecodeString(req.Header.Get("Mete-Call"))
	if err != nil || len(raw) > maxLocalArgs || json.Unmarshal(raw, &call) != nil {
		http.Error(w, "Mete-Call does not hold a command line", http.StatusBadRequest)
		return
	}
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Time{})
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", localProtocol)
	ctx, cancel := context.WithCancel(h.app.ctx)
	defer cancel()
	in, feed := io.Pipe()
	go func() {
		defer cancel() // the caller went away: Ctrl-C there stops the command here
		for {
			kind, b, err := readFrame(buf)
			switch {
			case err != nil:
				feed.CloseWithError(err)
				return
			case kind == frameIn:
				feed.Write(b)
			case kind == frameInEnd:
				feed.Close()
			case kind == frameStop:
				cancel()
			}
		}
	}()
	var mu sync.Mutex
	e := &env{
		in: in, out: frameWriter{&mu, conn, frameOut}, err: frameWriter{&mu, conn, frameErr},
		cwd: call.Cwd, now: h.app.now, terminal: call.Terminal, app: h.app,
		getenv: func(name string) string { return map[string]string{"METE_AS": call.As}[name] },
	}
	if t, err := time.Parse(time.RFC3339, call.Now); err == nil {
		e.now = func() time.Time { return t }
	}
	code := run(ctx, e, call.Args)
	mu.Lock()
	defer mu.Unlock()
	writeFrame(conn, frameStatus, []byte{byte(code)})
}
