package demo

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"mete/period"
)

// event is a CloudEvent as a billing system or a registry would send it.
type event struct {
	SpecVersion string    `json:"specversion"`
	ID          string    `json:"id"`
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Subject     string    `json:"subject,omitempty"`
	Time        time.Time `json:"time"`
	Data        data      `json:"data"`
}

type data struct {
	App       string `json:"app,omitempty"`
	Class     string `json:"class,omitempty"`
	Amount    string `json:"amount,omitempty"`
	Tax       string `json:"tax_amount,omitempty"`
	Currency  string `json:"currency,omitempty"`
	Region    string `json:"region,omitempty"`
	Lead      string `json:"lead,omitempty"`
	RefersTo  string `json:"refers_to,omitempty"`
	Reference string `json:"reference,omitempty"`
}

func cents(n int64) string { return fmt.Sprintf("%d.%02d", n/100, n%100) }

var regions = []struct {
	name string
	rate int64 // tax in a thousand
}{{"us-il", 62}, {"us-tx", 82}, {"us-ca", 72}, {"us-ny", 0}}

// settled is what the processor collected and gave back, in cents with tax.
type settled struct{ collected, refunded int64 }

// saleEvents are the sales and refunds that are delivered with a month: each practice
// pays for its apps, some sales come late, some are sent twice, one with another
// amount.
func (g *generator) saleEvents(i int, sent *Sent) ([]event, settled) {
	m := Months[i]
	out := g.heldSales
	sent.Late += len(out)
	g.heldSales = nil
	var sum settled
	for _, e := range out {
		sum.collected += g.sales[e.ID]
	}
	for p, pr := range g.practices {
		region := regions[p%len(regions)]
		for _, a := range pr.apps {
			price := g.apps[a].base + int64(g.rand.IntN(40))*100 + int64(g.rand.IntN(100))
			tax := price * region.rate / 1000
			e := event{"1.0", fmt.Sprintf("inv-%s-%02d-%02d", compact(m), p+1, a+1), "billing", "sale.paid", pr.id,
				g.instant(i), data{App: g.apps[a].id, Class: "marketplace", Amount: cents(price), Tax: cents(tax), Currency: "USD", Region: region.name}}
			g.sales[e.ID] = price + tax
			if g.odds(25) && i+1 < len(Months) {
				g.heldSales = append(g.heldSales, e)
				continue
			}
			sum.collected += price + tax
			out = append(out, e)
			if g.odds(30) { // the sender did not see the answer and sends it again
				out = append(out, e)
				sent.Duplicates++
			}
			if g.odds(4) { // the same invoice with another amount
				other := e
				other.Data.Amount = cents(price + 1000)
				out = append(out, other)
				sent.Conflicts++
			}
			if g.odds(30) {
				refund := event{"1.0", "ref-" + e.ID, "billing", "sale.refunded", pr.id, e.Time.Add(36 * time.Hour),
					data{App: e.Data.App, Class: "marketplace", Amount: e.Data.Amount, Tax: e.Data.Tax, Currency: "USD", Region: region.name, RefersTo: e.ID}}
				if period.MonthOf(refund.Time, time.UTC) != m { // next month's refund of this month's sale
					if i+1 < len(Months) {
						g.heldRefunds = append(g.heldRefunds, refund)
					}
					continue
				}
				sum.refunded += price + tax
				out = append(out, refund)
			}
		}
	}
	for _, r := range g.takeRefunds() {
		sum.refunded += g.sales[r.Data.RefersTo]
		out = append(out, r)
	}
	out = append(out, g.unclean(i, sent)...)
	sent.Events += len(out)
	return out, sum
}

// takeRefunds are the refunds that an earlier month left for this one.
func (g *generator) takeRefunds() []event {
	due := g.dueRefunds
	g.dueRefunds, g.heldRefunds = g.heldRefunds, nil
	return due
}

// unclean are events that nobody should send: a field that looks like a patient, an
// app nobody knows, a field that is not allowed.
func (g *generator) unclean(i int, sent *Sent) []event {
	at := g.instant(i)
	base := data{App: g.apps[0].id, Class: "marketplace", Amount: "10.00", Currency: "USD", Region: "us-il"}
	phi, unknown := base, base
	phi.Reference = "MRN-00123456"
	unknown.App = "app-nobody-registered"
	sent.Unclean++
	sent.Unknown++
	return []event{
		{"1.0", "bad-phi-" + compact(Months[i]), "billing", "sale.paid", g.practices[0].id, at, phi},
		{"1.0", "bad-app-" + compact(Months[i]), "billing", "sale.paid", g.practices[0].id, at, unknown},
	}
}

func compact(m period.Month) string { return fmt.Sprintf("%04d%02d", m.Year, m.Month) }

// factOwners are the sources of facts, each with the credential that may send it.
var factOwners = map[string]string{"registry": "registry", "servicedesk": "registry", "crm": "crm"}

// facts are the events of the registry, the service desk and the lead programme.
func (g *generator) facts(i int) []event {
	m := Months[i]
	var out []event
	day := func(n, hour int) time.Time { return time.Date(m.Year, m.Month, n, hour, 0, 0, 0, time.UTC) }
	if i == 0 {
		for n, a := range g.apps {
			if a.tier == 0 {
				continue
			}
			reviewed := time.Date(2026, time.Month(1+n%6), 10, 9, 0, 0, 0, time.UTC)
			if a.partner == "helio" {
				reviewed = time.Date(2025, 5, 10, 9, 0, 0, 0, time.UTC) // long overdue
			}
			out = append(out,
				event{"1.0", "reg-" + a.id, "registry", "app.registered", "", reviewed.Add(-30 * 24 * time.Hour), data{App: a.id}},
				event{"1.0", "rev-" + a.id, "registry", "review.decided", "", reviewed, data{App: a.id, Reference: "approved"}})
		}
	}
	if i == 1 {
		out = append(out, event{"1.0", "scope-medscribe-notes", "registry", "scope.changed", "", day(12, 10), data{App: "medscribe-notes"}})
	}
	for n := range 3 {
		a := g.apps[g.rand.IntN(len(g.apps))]
		id := fmt.Sprintf("inc-%s-%d", compact(m), n+1)
		opened := g.instant(i)
		out = append(out, event{"1.0", id, "servicedesk", "incident.opened", "", opened, data{App: a.id}})
		if n != 0 {
			out = append(out, event{"1.0", id + "-closed", "servicedesk", "incident.closed", "", opened.Add(6 * time.Hour), data{App: a.id, RefersTo: id}})
		}
	}
	for _, a := range g.apps {
		if certificationDue[a.id] == m.Month {
			out = append(out, event{"1.0", "cert-" + compact(m) + "-" + a.id, "registry", "fee.due", "", day(15, 12),
				data{App: a.id, Class: "certification", Amount: "250.00", Currency: "USD", Reference: "renewal"}})
		}
	}
	out = append(out, g.leads(i)...)
	slices.SortStableFunc(out, func(a, b event) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.ID, b.ID)) })
	return out
}

// certificationDue are the renewals that fall into the three months.
var certificationDue = map[string]time.Month{
	"northwind-scheduler": time.September, "carebridge-portal": time.August, "medscribe-notes": time.July, "tidepool-refill": time.September,
}

// leads are practices that refera sends: qualified, and most of them converted.
func (g *generator) leads(i int) []event {
	var out []event
	for n := range 3 {
		p := g.practices[(i*3+n)*5%len(g.practices)]
		lead := fmt.Sprintf("lead-%d", i*3+n+1)
		at := g.instant(i)
		if at.Day() > 20 {
			at = at.AddDate(0, 0, -12)
		}
		d := data{App: "refera-match", Lead: lead, Reference: "REFERA10"}
		out = append(out, event{"1.0", lead + "-qualified", "crm", "lead.qualified", p.id, at, d})
		if n != 2 {
			out = append(out, event{"1.0", lead + "-converted", "crm", "lead.converted", p.id, at.Add(72 * time.Hour), d})
		}
	}
	return out
}

func writeEvents(file string, events []event) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, e := range events {
		if err := enc.Encode(e); err != nil {
			return err
		}
	}
	return cmp.Or(w.Flush(), f.Close())
}

// writeReceipts writes the processor's settlement of a month: one on the 16th, one
// after its end, 2.9% kept.
func writeReceipts(file string, m period.Month, s settled) error {
	gross := s.collected - s.refunded
	first := gross * 45 / 100
	out := "processor,settlement,settled_on,currency,gross,fee,net\n"
	for n, part := range []int64{first, gross - first} {
		fee := part * 29 / 1000
		on := m.First().AddDays(17)
		if n == 1 {
			on = m.Add(1).First().AddDays(2)
		}
		out += fmt.Sprintf("stripe,po-%s-%d,%s,USD,%s,%s,%s\n", compact(m), n+1, on, cents(part), cents(fee), cents(part-fee))
	}
	return os.WriteFile(file, []byte(out), 0o644)
}
