package httpin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
)

// SourcesPath begins the paths on which sources say more than events:
// SourcesPath + SOURCE + "/totals" and "/heartbeat".
const SourcesPath = "/v1/sources/"

// maxSourceBody bounds what a source says at a time.
const maxSourceBody = 1 << 20

// Sources takes what sources say of themselves: how much they sent of a day, and that
// they live. It is for the same credentials as events, each for its own sources.
//
//	201  totals: kept
//	200  totals: known; nothing changed
//	409  totals: others of this day were there first and count; these are kept beside them
//	204  heartbeat: kept, or its quarter of an hour has one
//	400  not JSON as it must be · 401 no credential · 403 not your source
//	404  no such source or path · 413 too large · 422 not taken as it is · 429 too many · 503
type Sources struct {
	Events *Handler // whose credentials, directory, clock and time limit hold
	Facts  metering.SourceFacts
}

func (h *Sources) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	source, what := "", ""
	if rest, ok := strings.CutPrefix(r.URL.Path, SourcesPath); ok {
		if i := strings.LastIndexByte(rest, '/'); i >= 0 {
			source, what = rest[:i], rest[i+1:]
		}
	}
	if source == "" || what != "totals" && what != "heartbeat" {
		fail(w, http.StatusNotFound, "sources post to "+SourcesPath+"SOURCE/totals and "+SourcesPath+"SOURCE/heartbeat")
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		fail(w, http.StatusMethodNotAllowed, "totals and heartbeats are posted")
		return
	}
	ctx, cancel := h.Events.within(r)
	defer cancel()
	r = r.WithContext(ctx)
	owner, ok := h.Events.owner(ctx, r)
	if !ok {
		unauthorized(w)
		return
	}
	dir, err := h.Events.Gate.Directory(ctx)
	if err != nil {
		h.Events.refuse(w, r, err)
		return
	}
	if bad := dir.CheckSource(source, owner); bad != nil {
		status := http.StatusForbidden
		if bad.Reason != metering.SourceNotYours {
			status = http.StatusNotFound
		}
		fail(w, status, bad.Detail)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxSourceBody))
	if err != nil {
		h.Events.refuse(w, r, bodyError(err))
		return
	}
	if what == "totals" {
		h.totals(w, r, source, owner, body)
	} else {
		h.heartbeat(w, r, source, owner, body)
	}
}

func (h *Sources) now() time.Time {
	now := time.Now
	if h.Events.Gate.Now != nil {
		now = h.Events.Gate.Now
	}
	return now().UTC().Truncate(time.Microsecond)
}

// sentTotals is the body of a day's totals. Numbers are read from their text.
type sentTotals struct {
	Day    string `json:"day"`
	Zone   string `json:"zone"`
	Totals []struct {
		App      partner.AppID  `json:"app"`
		Type     string         `json:"type"`
		Events   int64          `json:"events"`
		Amount   json.Number    `json:"amount"`
		Currency money.Currency `json:"currency"`
	} `json:"totals"`
}

// sentBack is the answer about totals.
type sentBack struct {
	Source string        `json:"source"`
	Day    period.Date   `json:"day"`
	Kept   metering.Kept `json:"kept"`
	Digest metering.Hash `json:"digest"`
}

func (h *Sources) totals(w http.ResponseWriter, r *http.Request, source, owner string, body []byte) {
	var sent sentTotals
	if err := strictly(body, &sent); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	day, err := period.ParseDate(sent.Day)
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, "day: want a day such as 2026-09-14")
		return
	}
	t := metering.DayTotals{Source: source, Day: day, Zone: sent.Zone, SentBy: owner}
	if t.Zone == "" {
		t.Zone = "UTC"
	}
	for i, x := range sent.Totals {
		total := metering.DayTotal{App: x.App, Type: x.Type, Events: x.Events, Currency: x.Currency}
		if x.Amount != "" {
			d, err := decimal.NewFromString(x.Amount.String())
			if err != nil || len(x.Amount) > maxAmount {
				fail(w, http.StatusUnprocessableEntity, fmt.Sprintf("totals[%d]: amount: want a plain decimal of at most %d characters", i, maxAmount))
				return
			}
			total.Amount = &d
		}
		t.Totals = append(t.Totals, total)
	}
	if err := t.Seal(h.now()); err != nil {
		fail(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	kept, err := h.Facts.KeepTotals(r.Context(), t)
	if errors.Is(err, metering.ErrTooManyTotals) {
		fail(w, http.StatusTooManyRequests, fmt.Sprintf("%d different totals of this day are kept already; no more are taken", metering.MaxTotalConflicts))
		return
	}
	if err != nil {
		h.Events.refuse(w, r, err)
		return
	}
	switch kept {
	case metering.KeptConflict:
		fail(w, http.StatusConflict, "other totals of this day were there first and count; these are kept beside them, and reconcile names both")
	case metering.KeptSame:
		write(w, http.StatusOK, jsonType, sentBack{source, t.Day, kept, t.Digest})
	default:
		write(w, http.StatusCreated, jsonType, sentBack{source, t.Day, kept, t.Digest})
	}
}

// maxAmount bounds the text of an amount.
const maxAmount = 32

func (h *Sources) heartbeat(w http.ResponseWriter, r *http.Request, source, owner string, body []byte) {
	var sent struct {
		At string `json:"at"`
	}
	if len(bytes.TrimSpace(body)) > 0 {
		if err := strictly(body, &sent); err != nil {
			fail(w, http.StatusBadRequest, err.Error())
			return
		}
	}
	now := h.now()
	beat := metering.Heartbeat{Source: source, At: now, SentBy: owner, ReceivedAt: now}
	if sent.At != "" {
		at, err := time.Parse(time.RFC3339Nano, sent.At)
		if err != nil {
			fail(w, http.StatusUnprocessableEntity, "at: want RFC 3339, such as 2026-09-30T23:55:00Z")
			return
		}
		beat.At = at.UTC().Truncate(time.Microsecond)
	}
	if err := beat.Check(now); err != nil {
		fail(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	if err := h.Facts.KeepHeartbeat(r.Context(), beat); err != nil {
		h.Events.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// strictly reads one JSON object without unknown fields. Its error repeats nothing of
// the body but names of fields and types that are ours.
func strictly(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil && !d.More():
		return nil
	case errors.As(err, &wrong):
		return fmt.Errorf("%s: want another type of JSON value", wrong.Field)
	case err != nil && strings.HasPrefix(err.Error(), "json: unknown field"):
		return errors.New("the body has a field that is not taken; docs/formats.md lists those that are")
	}
	return errors.New("the body is not one JSON object as it must be; docs/formats.md shows one")
}
