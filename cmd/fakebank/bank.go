package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// maxFile bounds a file it takes.
const maxFile = 64 << 20

// bank is what the bank knows. All of it follows from the log of what arrived.
type bank struct {
	mu  sync.Mutex
	log *os.File
	Report
	bodies map[string]string // file ID → SHA-256 of its content, the copy mark left out
}

// Report is the bank's side of the story.
type Report struct {
	Files     int                 `json:"files"`     // first arrivals
	Copies    int                 `json:"copies"`    // the same file again
	Conflicts []string            `json:"conflicts"` // a known file ID with other content
	Doubles   []string            `json:"doubles"`   // a payout ordered by two files or twice in one
	Refused   []string            `json:"refused"`   // unreadable
	Payments  map[string]*Payment `json:"payments"`  // by payout
}

// Payment is money that the bank moved.
type Payment struct {
	File    string `json:"file"`
	Account string `json:"account"`
	Amount  string `json:"amount"`
	Date    string `json:"date"`
	Times   int    `json:"times"` // how often it was moved; anything but 1 is a payout paid twice
}

type arrival struct {
	Name string `json:"name"`
	Body []byte `json:"body"`
}

// open reads the log and plays it through.
func open(path string) (*bank, error) {
	b := &bank{bodies: map[string]string{}, Report: Report{Payments: map[string]*Payment{}}}
	old, err := os.Open(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil {
		defer old.Close()
		lines := bufio.NewReader(old)
		whole := int64(0)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				break
			}
			whole += int64(len(line))
			var a arrival
			if err := json.Unmarshal(line, &a); err != nil {
				return nil, fmt.Errorf("log %s: %w", path, err)
			}
			b.take(a)
		}
		if err := os.Truncate(path, whole); err != nil { // an arrival cut off was never answered
			return nil, err
		}
	}
	b.log, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	return b, err
}

// receive keeps what arrived, then acts on it.
func (b *bank) receive(a arrival) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	line, err := json.Marshal(a)
	if err != nil {
		return "", err
	}
	if _, err := b.log.Write(append(line, '\n')); err != nil {
		return "", err
	}
	if err := b.log.Sync(); err != nil {
		return "", err
	}
	return b.take(a), nil
}

// take does what a careful bank does: a file it does not have is carried out, a copy
// of one it has is put aside, and everything else is reported.
func (b *bank) take(a arrival) string {
	body := a.Body
	if bytes.HasPrefix(body, []byte("COPY,")) {
		_, body, _ = bytes.Cut(body, []byte("\n"))
	}
	f, err := parse(body)
	if err != nil {
		b.Refused = append(b.Refused, a.Name+": "+err.Error())
		return "refused: " + err.Error()
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	switch known := b.bodies[f.id]; known {
	case "":
	case hash:
		b.Copies++
		return "copy: known"
	default:
		b.Conflicts = append(b.Conflicts, f.id+" came with other content as "+a.Name)
		return "conflict: file " + f.id + " has other content"
	}
	b.bodies[f.id] = hash
	b.Files++
	for _, p := range f.payments {
		if old := b.Payments[p.payout]; old != nil {
			old.Times++
			b.Doubles = append(b.Doubles, fmt.Sprintf("%s: %s by %s, again %s by %s", p.payout, old.Amount, old.File, p.amount, f.id))
			continue
		}
		b.Payments[p.payout] = &Payment{File: f.id, Account: p.account, Amount: p.amount, Date: f.date, Times: 1}
	}
	return "taken"
}

type file struct {
	id, date string
	payments []payment
}

type payment struct{ payout, account, amount string }

// parse reads a payment file by its published format alone.
func parse(body []byte) (file, error) {
	lines := csv.NewReader(bytes.NewReader(body))
	lines.FieldsPerRecord = -1
	rows, err := lines.ReadAll()
	if err != nil {
		return file{}, err
	}
	if len(rows) < 3 || len(rows[0]) != 10 || rows[0][0] != "H" || rows[0][1] != "mete-payments" || rows[0][2] != "1" {
		return file{}, errors.New("no header")
	}
	head, tail := rows[0], rows[len(rows)-1]
	if len(tail) != 5 || tail[0] != "T" {
		return file{}, errors.New("no trailer: the file is cut off")
	}
	f := file{id: head[3], date: head[5]}
	var total int64
	for _, r := range rows[1 : len(rows)-1] {
		if len(r) != 8 || r[0] != "P" {
			return f, fmt.Errorf("payment %v: want 8 fields", r)
		}
		minor, err := strconv.ParseInt(strings.Replace(r[6], ".", "", 1), 10, 64)
		if err != nil || minor <= 0 {
			return f, fmt.Errorf("payment %s: amount %q", r[1], r[6])
		}
		total += minor
		f.payments = append(f.payments, payment{r[1], r[4], r[6]})
	}
	control, err := strconv.ParseInt(strings.Replace(head[8], ".", "", 1), 10, 64)
	if err != nil || control != total || head[7] != strconv.Itoa(len(f.payments)) || tail[1] != f.id || tail[2] != head[7] || tail[3] != head[8] {
		return f, errors.New("count or control total is wrong")
	}
	start := bytes.LastIndex(bytes.TrimSuffix(body, []byte("\n")), []byte("\n")) + 1
	if sum := sha256.Sum256(body[:start]); hex.EncodeToString(sum[:]) != tail[4] {
		return f, errors.New("hash is wrong")
	}
	return f, nil
}

// confirmations is the file in which the bank says what it did.
func (b *bank) confirmations(state string) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out bytes.Buffer
	fmt.Fprintln(&out, "payout,amount,state,bank_date,bank_ref,reason")
	for _, id := range slices.Sorted(maps.Keys(b.Payments)) {
		p := b.Payments[id]
		fmt.Fprintf(&out, "%s,%s,%s,%s,bank-%s-%s,\n", id, p.Amount, state, p.Date, state, id)
	}
	return out.Bytes()
}

// ServeHTTP takes files by PUT /files/NAME and answers GET /report and
// GET /confirmations?state=paid.
func (b *bank) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, "/files/"):
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxFile))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer, err := b.receive(arrival{strings.TrimPrefix(r.URL.Path, "/files/"), body})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		if strings.HasPrefix(answer, "conflict") || strings.HasPrefix(answer, "refused") {
			w.WriteHeader(http.StatusConflict)
		}
		fmt.Fprintln(w, answer)
	case r.Method == http.MethodGet && r.URL.Path == "/report":
		b.mu.Lock()
		defer b.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(b.Report); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	case r.Method == http.MethodGet && r.URL.Path == "/confirmations":
		state := r.URL.Query().Get("state")
		if state != "paid" && state != "failed" && state != "returned" {
			http.Error(w, "state: paid, failed or returned", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/csv")
		w.Write(b.confirmations(state))
	default:
		http.NotFound(w, r)
	}
}
