package httpin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"

	"mete/metering"
)

// LogsPath and the name of a source is where gateways and collectors post access logs
// as they write them: JSON objects, arrays of them or both, parted by line ends, or
// CSV. The source's mapping reads them as it would a file.
//
// Who ships logs reads no answers and repeats what was refused for ever, or drops it.
// So a record that is refused is in quarantine, as everywhere, and the request is
// answered 200: it need not be sent again.
const LogsPath = "/v1/logs/"

// MaxRecords bounds the records of one request to [LogsPath].
const MaxRecords = 10_000

// LogAnswer tells what became of a request's records; of those that were refused, the
// first maxTold.
type LogAnswer struct {
	Records  int                `json:"records"`
	Accepted int                `json:"accepted"`
	Refused  int                `json:"refused"`
	Reasons  map[string]int     `json:"reasons,omitempty"`
	First    []metering.Verdict `json:"first,omitempty"`
}

const maxTold = 10

// The reasons why the log of a source is not taken.
var (
	errNoLog    = errors.New("this log cannot be taken here")
	errNotYours = errors.New("the source belongs to another credential")
)

// logs takes the log of a source.
func (h *Handler) logs(w http.ResponseWriter, r *http.Request, source string) {
	ctx, cancel := h.within(r)
	defer cancel()
	owner, ok := h.owner(ctx, r)
	if !ok {
		unauthorized(w)
		return
	}
	dir, err := h.Gate.Directory(ctx)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	m, options, err := h.readerOf(dir, source, owner)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	body, err := h.body(w, r)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	records, err := readLog(m, options, body)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	verdicts, err := h.Gate.Admit(ctx, metering.Sender{Owner: owner, Where: "log"}, records)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	a := LogAnswer{Records: len(verdicts), Reasons: map[string]int{}}
	for _, v := range verdicts {
		if v.Status == metering.StatusAccepted {
			a.Accepted++
			continue
		}
		a.Refused++
		a.Reasons[v.Reason]++
		if len(a.First) < maxTold {
			a.First = append(a.First, v)
		}
	}
	status := http.StatusAccepted
	if a.Refused > 0 {
		status = http.StatusOK
	}
	write(w, status, jsonType, a)
}

// readerOf finds how the log of a source is read, if its owner sends it.
func (h *Handler) readerOf(dir *metering.Directory, source, owner string) (*metering.Mapping, metering.LogOptions, error) {
	var o metering.LogOptions
	if bad := dir.CheckSource(source, owner); bad != nil {
		if bad.Reason == metering.SourceNotYours {
			return nil, o, errNotYours
		}
		return nil, o, fmt.Errorf("the source is not registered: add it to the catalogue: %w", errNoLog)
	}
	s := dir.Sources[source]
	m := h.Mappings[s.Mapping]
	switch {
	case s.Mapping == "":
		return nil, o, fmt.Errorf("source %s has no mapping: give it one in the catalogue, or post CloudEvents to %s: %w", source, Path, errNoLog)
	case m == nil:
		return nil, o, fmt.Errorf("source %s has the mapping %s, which is neither built in nor given to the service: %w", source, s.Mapping, errNoLog)
	case m.Format == metering.FormatCloudEvents:
		return nil, o, fmt.Errorf("source %s sends CloudEvents: post them to %s: %w", source, Path, errNoLog)
	case m.Format == metering.FormatApache:
		return nil, o, fmt.Errorf("source %s: lines of this log have neither ids nor parts of a second, so equal lines of two requests are not told apart; take its files with mete ingest: %w", source, errNoLog)
	}
	limit := h.Gate.Limits.Body
	if limit <= 0 {
		limit = metering.MaxBody
	}
	o = metering.LogOptions{Name: "the body", Source: s.Name, App: s.App, Class: s.Class, Environment: s.Environment, MaxLine: limit}
	return m, o, nil
}

// readLog reads all records of a body. They are known by their number in it, since
// several may stand on one line.
func readLog(m *metering.Mapping, o metering.LogOptions, body []byte) ([]metering.Decoded, error) {
	log, err := m.Reader(bytes.NewReader(body), o)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errNoLog)
	}
	var all []metering.Decoded
	texts := make([]byte, 0, len(body)) // what refusals are digests of; a reader's own texts do not last
	for {
		d, err := log.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errBody, err)
		}
		if len(all) == MaxRecords {
			return nil, fmt.Errorf("log of more than %d records; send smaller batches: %w", MaxRecords, metering.ErrTooLarge)
		}
		from := len(texts)
		texts = append(texts, d.Raw...)
		d.Raw, d.Line = texts[from:len(texts):len(texts)], 0
		all = append(all, d)
	}
}
