package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"
	"github.com/spf13/cobra"

	"mete/metering"
	"mete/money"
	"mete/period"
)

// usageRow is one row of mete usage.
type usageRow struct {
	By       []string        `json:"by"`
	Events   int64           `json:"events"`
	Quantity decimal.Decimal `json:"quantity"`
	Bytes    int64           `json:"bytes"`
	Amount   decimal.Decimal `json:"amount"`
	Currency string          `json:"currency,omitempty"`
}

// usageColumns are what usage can be grouped by.
var usageColumns = map[string]func(metering.Usage) string{
	"app":         func(u metering.Usage) string { return string(u.App) },
	"customer":    func(u metering.Usage) string { return string(u.Customer) },
	"type":        func(u metering.Usage) string { return u.Type },
	"class":       func(u metering.Usage) string { return string(u.Class) },
	"operation":   func(u metering.Usage) string { return u.Operation },
	"status":      func(u metering.Usage) string { return strconv.Itoa(u.Status) },
	"unit":        func(u metering.Usage) string { return u.Unit },
	"currency":    func(u metering.Usage) string { return string(u.Currency) },
	"environment": func(u metering.Usage) string { return cmp.Or(string(u.Environment), string(metering.Production)) },
	"dimensions":  func(u metering.Usage) string { return u.Dimensions },
}

func usageCommand(e *env) *cobra.Command {
	var month, from, to, by, meter string
	c := command(e, "usage", "Sum up usage", "mete usage --period 2026-09 --by app,class\nmete usage --from 2026-09-01T00:00:00Z --to 2026-09-02T00:00:00Z --by customer\nmete usage --period 2026-09 --meter api_calls --by app",
		func(ctx context.Context, a *app, _ []string) error {
			snap, err := a.catalogue.Current(ctx)
			if err != nil {
				return err
			}
			span := metering.Span{}
			switch {
			case month != "":
				m, err := typed(period.ParseMonth, "--period", month)
				if err != nil {
					return err
				}
				p := m.In(snap.Marketplace.Zone)
				span.Start, span.End = p.Start, p.End
			case from != "" || to != "":
				if span.Start, err = optional(parseInstant, "--from", from); err != nil {
					return err
				}
				if span.End, err = optional(parseInstant, "--to", to); err != nil {
					return err
				}
			}
			var only *metering.Meter
			names := strings.Split(by, ",")
			if meter != "" {
				m, ok := snap.Meters[meter]
				if !ok {
					return usageError(fmt.Errorf("--meter %q is not in the catalogue", meter))
				}
				only = &m
			}
			rows, err := sumUsage(ctx, a.events, span, names, only, snap.Meters)
			if err != nil {
				return err
			}
			return e.print(rows, func(w io.Writer) error { return writeUsage(w, names, rows) })
		})
	f := c.Flags()
	f.StringVar(&month, "period", "", "month, in the marketplace's zone")
	f.StringVar(&from, "from", "", "first instant, RFC 3339")
	f.StringVar(&to, "to", "", "first instant after, RFC 3339")
	f.StringVar(&by, "by", "app", "columns: "+strings.Join(sortedKeys(usageColumns), ", ")+", meter, or a dimension as dim:NAME")
	f.StringVar(&meter, "meter", "", "only what this meter counts")
	return c
}

func sumUsage(ctx context.Context, store metering.Store, span metering.Span, by []string, only *metering.Meter, meters map[string]metering.Meter) ([]usageRow, error) {
	sums := map[string]*usageRow{}
	for u, err := range store.Usage(ctx, span) {
		if err != nil {
			return nil, err
		}
		if only != nil && !only.Matches(u) {
			continue
		}
		keys, err := usageKeys(u, by, meters)
		if err != nil {
			return nil, usageError(err)
		}
		for _, key := range keys {
			at := strings.Join(key, "\x00") + "\x00" + string(u.Currency)
			r := sums[at]
			if r == nil {
				r = &usageRow{By: key, Currency: string(u.Currency)}
				sums[at] = r
			}
			r.Events += u.Count
			r.Bytes += u.Bytes
			r.Amount = r.Amount.Add(u.Amount)
			if only != nil {
				r.Quantity = r.Quantity.Add(only.Read(u))
			} else {
				r.Quantity = r.Quantity.Add(u.Quantity)
			}
		}
	}
	var rows []usageRow
	for _, k := range sortedKeys(sums) {
		rows = append(rows, *sums[k])
	}
	return rows, nil
}

// usageKeys are the groups a cell belongs to: one, or with "meter" one for each meter
// that counts it.
func usageKeys(u metering.Usage, by []string, meters map[string]metering.Meter) ([][]string, error) {
	keys := [][]string{{}}
	for _, name := range by {
		var values []string
		switch column, ok := usageColumns[name]; {
		case ok:
			values = []string{column(u)}
		case name == "meter":
			for _, id := range sortedKeys(meters) {
				if meters[id].Matches(u) {
					values = append(values, id)
				}
			}
			if values == nil {
				values = []string{"(no meter)"}
			}
		case strings.HasPrefix(name, "dim:"):
			values = []string{dimension(u.Dimensions, name[len("dim:"):])}
		default:
			return nil, fmt.Errorf("--by %q: want %s, meter or dim:NAME", name, strings.Join(sortedKeys(usageColumns), ", "))
		}
		var next [][]string
		for _, k := range keys {
			for _, v := range values {
				next = append(next, append(slices.Clone(k), v))
			}
		}
		keys = next
	}
	return keys, nil
}

func parseInstant(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, fmt.Errorf("%q is no time: want RFC 3339, such as 2026-09-01T00:00:00Z", s)
	}
	return t, nil
}

// dimension is the value of one dimension of a cell's canonical JSON object.
func dimension(canonical, name string) string {
	var all map[string]string
	if canonical == "" || json.Unmarshal([]byte(canonical), &all) != nil {
		return ""
	}
	return all[name]
}

func writeUsage(w io.Writer, by []string, rows []usageRow) error {
	head := append(slices.Clone(by), "events", "quantity", "bytes", "amount", "")
	var out [][]string
	var events, bytes int64
	for _, r := range rows {
		amount := ""
		if r.Currency != "" {
			amount = money.Group(r.Amount.StringFixed(money.Currency(r.Currency).Digits()))
		}
		out = append(out, append(slices.Clone(r.By), groupInt(r.Events), money.Group(r.Quantity.String()), groupInt(r.Bytes), amount, r.Currency))
		events += r.Events
		bytes += r.Bytes
	}
	sum := make([]string, len(head))
	sum[0] = "sum"
	sum[len(by)], sum[len(by)+2] = groupInt(events), groupInt(bytes)
	n := len(by)
	return table(w, head, append(out, sum), n, n+1, n+2, n+3)
}

// eventAnswer says where an event went.
type eventAnswer struct {
	Source     string               `json:"source"`
	ID         string               `json:"id"`
	Key        metering.Key         `json:"key"`
	State      string               `json:"state"`
	Event      *metering.Accepted   `json:"event,omitempty"`
	Voided     *metering.Position   `json:"voided_by,omitempty"`
	Duplicates []metering.Position  `json:"duplicates,omitempty"`
	Conflicts  []metering.Accepted  `json:"conflicts,omitempty"`
	Refusals   []metering.Refused   `json:"refusals,omitempty"`
	Redactions []metering.Redaction `json:"redactions,omitempty"`
	Billed     []string             `json:"billed,omitempty"`
}

func eventCommand(e *env) *cobra.Command {
	var key metering.Key
	c := command(e, "event KEY|SOURCE [ID]", "Where did my event go?", "mete event billing inv-202609-07-01\nmete event 8e6e93b96186a58e7d77bd16fac942d9",
		func(ctx context.Context, a *app, args []string) error {
			ans, err := a.findEvent(ctx, key)
			if err != nil {
				return err
			}
			if len(args) == 2 {
				ans.Source, ans.ID = args[0], args[1]
			}
			return e.print(ans, ans.writeText)
		})
	named(c, &key)
	return c
}

func (a *app) findEvent(ctx context.Context, key metering.Key) (eventAnswer, error) {
	ans := eventAnswer{Key: key}
	got, err := a.events.Find(ctx, key)
	if err != nil {
		return ans, err
	}
	if got.Event != nil {
		ans.Source, ans.ID = got.Event.Source, got.Event.ID
	}
	ans.Event, ans.Voided, ans.Duplicates, ans.Conflicts, ans.Redactions = got.Event, got.Voided, got.Duplicates, got.Conflicts, got.Redactions
	switch {
	case got.Event == nil:
		ans.State = "unknown here: not accepted, or refused under another id (mete quarantine list)"
	case got.Voided != nil:
		ans.State = "accepted, metered, then voided"
	default:
		ans.State = "accepted, metered"
		if ans.Billed, err = a.closer.TraceEvent(ctx, *got.Event); err != nil {
			return ans, err
		}
	}
	ans.Refusals, err = a.events.Refused(ctx, metering.RefusedQuery{Keys: []metering.Key{ans.Key}, Limit: metering.MaxFound})
	return ans, err
}

func (ans eventAnswer) writeText(w io.Writer) error {
	fmt.Fprintln(w, strings.TrimSpace(ans.Source+" "+ans.ID))
	fmt.Fprintf(w, "  key %s\n  %s\n", ans.Key, ans.State)
	if x := ans.Event; x != nil {
		fmt.Fprintf(w, "  %s of %s for app %s, practice %s\n", x.Type, x.Time.Format("2006-01-02 15:04:05.000 MST"), cmp.Or(string(x.Data.App), "–"), cmp.Or(string(x.Customer), "–"))
		if x.Data.Amount != nil {
			fmt.Fprintf(w, "  %s %s before tax\n", money.Group(x.Data.Amount.StringFixed(x.Data.Currency.Digits())), x.Data.Currency)
		}
		p := x.Position
		fmt.Fprintf(w, "  accepted %s at position %d/%d.%d\n", x.AcceptedAt.Format("2006-01-02 15:04:05 MST"), p.Partition, p.Sequence, p.Index)
	}
	for _, r := range ans.Redactions {
		fmt.Fprintf(w, "  %s\n", redactionText(r))
	}
	for _, b := range ans.Billed {
		fmt.Fprintf(w, "  %s\n", b)
	}
	if n := len(ans.Duplicates); n > 0 {
		fmt.Fprintf(w, "  sent again %d times with the same content: ignored\n", n)
	}
	for _, c := range ans.Conflicts {
		fmt.Fprintf(w, "  conflict: sent again with other content at %d/%d.%d; kept beside, the first counts\n", c.Position.Partition, c.Position.Sequence, c.Position.Index)
	}
	for _, r := range ans.Refusals {
		now := r.Newest()
		fmt.Fprintf(w, "  refused %s: %s: %s\n    receipt %s: %s\n", r.Where, now.Reason, now.Detail, r.ID, refusedState(&r))
	}
	return nil
}
