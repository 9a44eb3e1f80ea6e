// Package httpin is the HTTP way in for events and access logs: it reads requests of
// senders, takes what they carry through the gate and tells what became of it.
//
// It decides nothing about events, that is [metering.Gate]'s, and refuses to know how
// the stream works and what events are worth. Read [Handler] first.
package httpin

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"mete/metering"
)

// Handler takes CloudEvents over HTTP: POST /v1/events, single events and batches,
// structured, binary and as lines; the same on the paths of OpenMeter's clients; and
// access logs, see [LogsPath].
//
//	202  all accepted
//	200  some accepted, some refused: see each answer
//	422  none accepted
//	400, 401, 403, 404, 405, 413, 415  nothing was read
//	429  too fast, 503 not possible now: try again after Retry-After
//
// The body of 200, 202 and 422 is a JSON array of [metering.Verdict] in the order of the
// events; of all other errors, problem+json (RFC 9457). A 2xx means that what is
// accepted is on the broker's disk.
//
// On the OpenMeter paths, all accepted is 204 (v3: 202) without a body, and a refusal
// is 422, problem+json with the verdicts in "events".
type Handler struct {
	Gate *metering.Gate

	// Mappings say by name how the logs of sources are read.
	Mappings map[string]*metering.Mapping

	// Owner finds the credential of a bearer token; see [Tokens] for one way.
	Owner func(ctx context.Context, token string) (owner string, ok bool)

	Timeout time.Duration // of one request; 0 = 30 s
	Log     *slog.Logger  // of failures that are not the sender's; nil: none
}

// The paths of a [Handler], beside [LogsPath].
const (
	Path            = "/v1/events"
	OpenMeterPath   = "/api/v1/events"
	OpenMeterV3Path = "/api/v3/openmeter/events"
)

// Paths are the patterns of a [Handler] for an [http.ServeMux].
var Paths = []string{Path, OpenMeterPath, OpenMeterV3Path, LogsPath}

const (
	defaultTimeout = 30 * time.Second
	jsonType       = "application/json"
	problemType    = "application/problem+json"
)

// Problem is an error answer as RFC 9457 has it.
type Problem struct {
	Type   string             `json:"type"`
	Title  string             `json:"title"`
	Status int                `json:"status"`
	Detail string             `json:"detail"`
	Events []metering.Verdict `json:"events,omitempty"`
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	source, log := strings.CutPrefix(r.URL.Path, LogsPath)
	if !log && r.URL.Path != Path && r.URL.Path != OpenMeterPath && r.URL.Path != OpenMeterV3Path {
		fail(w, http.StatusNotFound, "events are posted to "+Path+", logs to "+LogsPath+"SOURCE")
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		fail(w, http.StatusMethodNotAllowed, "events are posted; ask for usage where usage is told")
		return
	}
	if log {
		h.logs(w, r, source)
		return
	}
	ctx, cancel := h.within(r)
	defer cancel()
	owner, ok := h.owner(ctx, r)
	if !ok {
		unauthorized(w)
		return
	}
	body, err := h.body(w, r)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	events, err := h.Gate.Decode(r.Header, body)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	verdicts, err := h.Gate.Admit(ctx, metering.Sender{Owner: owner, Where: "http"}, events)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	answer(w, r.URL.Path, verdicts)
}

// within bounds the time of a request.
func (h *Handler) within(r *http.Request) (context.Context, context.CancelFunc) {
	timeout := h.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	return context.WithTimeout(r.Context(), timeout)
}

func unauthorized(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="mete"`)
	fail(w, http.StatusUnauthorized, "send Authorization: Bearer and the key of a source's credential")
}

func (h *Handler) owner(ctx context.Context, r *http.Request) (string, bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return "", false
	}
	owner, ok := h.Owner(ctx, token)
	return owner, ok && owner != ""
}

// body reads the whole body within its bound, unpacking gzip.
func (h *Handler) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	limit := int64(h.Gate.Limits.Body)
	if limit <= 0 {
		limit = metering.MaxBody
	}
	var from io.Reader = http.MaxBytesReader(w, r.Body, limit)
	switch coding := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding"))); coding {
	case "", "identity":
	case "gzip":
		z, err := gzip.NewReader(from)
		if err != nil {
			return nil, bodyError(err)
		}
		from = z
	default:
		return nil, fmt.Errorf("content encoding of the request: send it plain or as gzip: %w", metering.ErrMediaType)
	}
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(from, limit+1))
	if err != nil {
		return nil, bodyError(err)
	}
	if n > limit {
		return nil, fmt.Errorf("the body unpacks to more than %d bytes; send smaller batches: %w", limit, metering.ErrTooLarge)
	}
	return b.Bytes(), nil
}

// errBody says that the body could not be read to its end.
var errBody = errors.New("the body cannot be read")

func bodyError(err error) error {
	if long := (*http.MaxBytesError)(nil); errors.As(err, &long) {
		return fmt.Errorf("body of more than %d bytes; send smaller batches: %w", long.Limit, metering.ErrTooLarge)
	}
	return fmt.Errorf("%w: %v", errBody, err)
}

// waits is an error that says when to try again.
type waits interface {
	RetryAfter() time.Duration
	Overloaded() bool
}

// refuse answers a request none of whose events can be answered alone.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var later waits
	switch {
	case errors.Is(err, metering.ErrTooLarge):
		fail(w, http.StatusRequestEntityTooLarge, err.Error())
	case errors.Is(err, metering.ErrMediaType):
		fail(w, http.StatusUnsupportedMediaType, err.Error())
	case errors.Is(err, errNotYours):
		fail(w, http.StatusForbidden, err.Error())
	case errors.Is(err, errNoLog):
		fail(w, http.StatusNotFound, err.Error())
	case errors.Is(err, metering.ErrNotJSON), errors.Is(err, errBody):
		fail(w, http.StatusBadRequest, err.Error())
	case errors.As(err, &later) && later.Overloaded():
		retryAfter(w, later.RetryAfter())
		fail(w, http.StatusTooManyRequests, "events come faster than they can be kept; send this request again after Retry-After")
	default:
		after := 5 * time.Second
		if errors.As(err, &later) {
			after = later.RetryAfter()
		}
		if h.Log != nil && r.Context().Err() == nil {
			h.Log.ErrorContext(r.Context(), "events not taken", "err", err)
		}
		retryAfter(w, after)
		fail(w, http.StatusServiceUnavailable, "events cannot be kept now; send this request again after Retry-After: what was kept already is counted once")
	}
}

func retryAfter(w http.ResponseWriter, d time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(d.Seconds())))))
}

// answer tells the sender about each event.
func answer(w http.ResponseWriter, path string, verdicts []metering.Verdict) {
	accepted := 0
	for _, v := range verdicts {
		if v.Status == metering.StatusAccepted {
			accepted++
		}
	}
	all := accepted == len(verdicts)
	switch {
	case path == OpenMeterPath && all:
		w.WriteHeader(http.StatusNoContent)
	case path == OpenMeterV3Path && all:
		w.WriteHeader(http.StatusAccepted)
	case path != Path:
		p := problem(http.StatusUnprocessableEntity, fmt.Sprintf("%d of %d events were refused, the others are accepted", len(verdicts)-accepted, len(verdicts)))
		p.Events = verdicts
		write(w, p.Status, problemType, p)
	case all:
		write(w, http.StatusAccepted, jsonType, verdicts)
	case accepted > 0:
		write(w, http.StatusOK, jsonType, verdicts)
	default:
		write(w, http.StatusUnprocessableEntity, jsonType, verdicts)
	}
}

func problem(status int, detail string) Problem {
	return Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail}
}

func fail(w http.ResponseWriter, status int, detail string) {
	write(w, status, problemType, problem(status, detail))
}

func write(w http.ResponseWriter, status int, mediaType string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic("httpin: internal error: " + err.Error())
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the sender is gone if this fails
}

// Tokens finds credentials by the SHA-256 of their token, so that no token is kept.
type Tokens map[string]metering.Hash // by owner

// HashToken is the hash that [Tokens] holds.
func HashToken(token string) metering.Hash { return sha256.Sum256([]byte(token)) }

// Owner finds the credential of a token. How long it takes does not depend on the
// token.
func (t Tokens) Owner(_ context.Context, token string) (owner string, ok bool) {
	sum := HashToken(token)
	for name, hash := range t {
		if subtle.ConstantTimeCompare(sum[:], hash[:]) == 1 {
			owner, ok = name, true
		}
	}
	return owner, ok
}
