package pricing

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // contracts name zones; the machine may have none

	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
)

// DefaultProcessor takes the customers' money where a contract names none.
const DefaultProcessor = "processor"

// Who takes the customers' money, and whose sale it is, where it is not as usual.
const (
	PartnerCollects = "partner"
	Principal       = "principal"
)

// contract is the document while it is read: the terms so far and where each rule
// stands.
type contract struct {
	*decoder
	terms *Terms
	rules []*object // beside terms.Rules
}

// ParseTerms reads a contract document. It is strict: an unknown field, a number
// that is not written out, a gap in a ladder or two rules for one sale are refused,
// all at once, as [Problems]. The file name only appears in them. Version is left 0.
func ParseTerms(file string, text []byte) (*Terms, error) {
	c := &contract{decoder: &decoder{file: file}, terms: &Terms{Document: string(text)}}
	if o := c.root(text); o != nil {
		c.read(o)
	}
	if err := c.err(); err != nil {
		return nil, err
	}
	return c.terms, nil
}

func (c *contract) read(o *object) {
	t := c.terms
	if f, ok := o.need("contract", "name the agreement: contract: NAME"); ok {
		t.Contract, _ = f.id()
	}
	if f, ok := o.need("partner", "name who the contract is with"); ok {
		id, _ := f.id()
		t.Partner = partner.ID(id)
		if t.Partner == partner.Platform {
			f.bad("the platform has no contract with itself", "name a partner")
		}
	}
	if f, ok := o.get("apps"); ok {
		t.Apps = readApps(f)
	}
	c.readReach(o)
	if f, ok := o.need("currency", "such as USD"); ok {
		s, _ := f.text()
		cur, err := money.ParseCurrency(s)
		if err != nil {
			f.bad(err.Error(), "three capital letters, such as USD")
		}
		t.Currency = cur
	}
	t.Zone, t.ZoneName = time.UTC, "UTC"
	if f, ok := o.need("zone", "the zone in which months begin, such as America/Chicago"); ok {
		s, _ := f.text()
		zone, err := time.LoadLocation(s)
		if err != nil || s == "" || s == "Local" {
			f.bad(fmt.Sprintf("%q is no time zone", clip(s)), "an IANA name, such as America/Chicago or UTC")
		} else {
			t.Zone, t.ZoneName = zone, s
		}
	}
	if f, ok := o.need("effective", "effective: {from: YYYY-MM-DD}"); ok {
		c.readEffective(f)
	}
	t.Collects, t.Presentation, t.Processor = "platform", "agent", DefaultProcessor
	if f, ok := o.get("collects"); ok {
		t.Collects, _ = f.oneOf("platform", PartnerCollects)
	}
	if f, ok := o.get("presentation"); ok {
		if t.Presentation, _ = f.oneOf("agent", Principal); t.Presentation == Principal && t.Collects == PartnerCollects {
			f.bad("who sells in their own name takes the customers' money", "presentation: agent, or collects: platform")
		}
	}
	if f, ok := o.get("processor"); ok {
		t.Processor, _ = f.id()
	}
	if f, ok := o.get("fx"); ok {
		c.readFX(f)
	}
	t.Round = Rounding{Per: "line", Mode: money.HalfUp}
	if f, ok := o.get("rounding"); ok {
		c.readRounding(f)
	}
	if f, ok := o.get("late_limit_months"); ok {
		t.LateLimit, t.NamesLimit = f.whole(0, 120)
	}
	if f, ok := o.get("notice"); ok {
		t.Notice = readNotice(f)
	}
	if f, ok := o.get("payout"); ok {
		c.readPayout(f)
	}
	if f, ok := o.get("tiers"); ok {
		f.oneOf("restart")
		t.Restart = true
	}
	if f, ok := o.need("rules", "what the contract charges and pays"); ok {
		c.readRules(f)
		c.checkReach()
	}
	c.checkFX(o)
	o.done()
}

// maxNotice bounds the notice of other terms, in days.
const maxNotice = 366

func readNotice(f value) int {
	d, ok := f.duration()
	if ok && (d.Days == 0 || d.Days > maxNotice) {
		f.bad(fmt.Sprintf("%s is no length of notice", d), fmt.Sprintf("count days, from 1 to %d, such as 30 days", maxNotice))
	}
	return d.Days
}

func readApps(f value) []partner.AppID {
	var apps []partner.AppID
	seen := map[string]bool{}
	for _, e := range f.list() {
		id, ok := e.id()
		if ok && seen[id] {
			e.bad(fmt.Sprintf("%s is named twice", id), "keep one")
		}
		seen[id] = true
		apps = append(apps, partner.AppID(id))
	}
	if apps == nil {
		f.bad("no app is named", "leave the field out for all apps of the partner")
	}
	return apps
}

func (c *contract) readEffective(f value) {
	o := c.object(f)
	if o == nil {
		return
	}
	if g, ok := o.need("from", "the first day of these terms"); ok {
		c.terms.From, _ = g.date()
	}
	if g, ok := o.get("until"); ok {
		u, ok := g.date()
		if ok && !c.terms.From.Before(u) {
			g.bad(fmt.Sprintf("%s does not lie after %s", u, c.terms.From), "until is the first day after these terms")
		}
		c.terms.Until = u
	}
	o.done()
}

func (c *contract) readRounding(f value) {
	o := c.object(f)
	if o == nil {
		return
	}
	r := &c.terms.Round
	if g, ok := o.get("per"); ok {
		r.Per, _ = g.oneOf("line", "transaction")
	}
	if g, ok := o.get("mode"); ok {
		s, _ := g.oneOf(string(money.HalfUp), string(money.HalfEven), string(money.Up), string(money.Down))
		r.Mode = money.Mode(s)
	}
	if g, ok := o.get("places"); ok {
		n, ok := g.whole(0, 4)
		if digits := c.terms.Currency.Digits(); ok && c.terms.Currency != "" && int32(n) > digits {
			g.bad(fmt.Sprintf("%s has %d decimals", c.terms.Currency, digits), fmt.Sprintf("want 0 to %d", digits))
		}
		places := int32(n)
		r.Places = &places
	}
	o.done()
}

func (c *contract) readPayout(f value) {
	o := c.object(f)
	if o == nil {
		return
	}
	p := &c.terms.Payout
	if g, ok := o.get("minimum"); ok {
		if a, ok := g.amount(c.terms.Currency); ok {
			p.Minimum = &a
		}
	}
	if g, ok := o.get("keep"); ok {
		if a, ok := g.amount(c.terms.Currency); ok {
			p.Keep = &a
		}
	}
	if g, ok := o.get("due"); ok {
		p.Due = c.readDue(g)
	}
	if g, ok := o.get("reserve"); ok {
		if r := c.object(g); r != nil {
			res := &Reserve{Of: "proceeds"}
			if h, ok := r.need("rate", "such as 5%"); ok {
				res.Rate, _ = h.percent()
			}
			if h, ok := r.get("of"); ok {
				res.Of, _ = h.oneOf("proceeds", "net_sales", "earned")
			}
			if h, ok := r.need("release_after", "such as 90 days"); ok {
				d, ok := h.duration()
				if ok && d.Days == 0 {
					h.bad("months are uneven", "count days from the month's end, such as 90 days")
				}
				res.ReleaseAfter = d.Days
			}
			r.done()
			if c.terms.Collects == PartnerCollects {
				g.bad("there is nothing to keep back: the partner has the customers' money", "leave it out")
			}
			p.Reserve = res
		}
	}
	if g, ok := o.get("setoff"); ok {
		if p.SetOff = g.flag(); p.SetOff && c.terms.Collects != PartnerCollects {
			line, col := position(g.node)
			c.terms.idle = append(c.terms.idle, Problem{c.file, line, col, g.path,
				"nothing is set off: we collect all that customers pay under this contract, and what the partner owes meets its next sales on the same account",
				"leave it out or write false; what is owed on that account is carried forward in any case"})
		}
	}
	o.done()
}

func (c *contract) readRules(f value) {
	list := f.list()
	if list != nil && len(list) == 0 {
		f.bad("no rule", "a contract prices something")
	}
	seen := map[string]bool{}
	for _, e := range list {
		o := c.object(e)
		if o == nil {
			continue
		}
		r := Rule{}
		if g, ok := o.need("id", "a short name that lines and scenarios use"); ok {
			r.ID, ok = g.id()
			if ok && seen[r.ID] {
				g.bad(fmt.Sprintf("two rules are called %s", r.ID), "give each its own id")
			}
			seen[r.ID] = true
		}
		if g, ok := o.need("kind", "one of: "+strings.Join(kindNames(), ", ")); ok {
			r.Kind, _ = g.oneOf(kindNames()...)
		}
		if g, ok := o.get("class"); ok {
			s, _ := g.oneOf(classNames()...)
			r.Class = metering.Class(s)
		}
		if g, ok := o.get("apps"); ok {
			r.Apps = readApps(g)
			c.checkRuleApps(g, r)
		}
		if g, ok := o.get("text"); ok {
			r.Text, _ = g.text()
			if len(r.Text) > maxText {
				g.bad(fmt.Sprintf("%d characters", len(r.Text)), fmt.Sprintf("a line's text has at most %d", maxText))
			}
		}
		r.Declared = readDeclared(c, o)
		r.Line, _ = position(o.node)
		for _, k := range kinds() {
			if k.name == r.Kind {
				r.Body = k.decode(c, o)
				o.done()
			}
		}
		c.terms.Rules, c.rules = append(c.terms.Rules, r), append(c.rules, o)
	}
	for i := range c.terms.Rules {
		for _, k := range kinds() {
			if k.name == c.terms.Rules[i].Kind {
				k.check(c, &c.terms.Rules[i], c.rules[i])
			}
		}
	}
}

// maxText bounds a rule's text on a statement.
const maxText = 80

func (c *contract) checkRuleApps(f value, r Rule) {
	if len(c.terms.Apps) == 0 {
		return
	}
	for _, a := range r.Apps {
		if !c.terms.covers(a) {
			f.bad(fmt.Sprintf("%s is no app of this contract", a), "add it to the contract's apps")
		}
	}
}

// at is the problem position of a field of an object, or of the object itself.
func (o *object) at(field string) value {
	if v, ok := o.fields[field]; ok {
		return v
	}
	return o.value
}

func classNames() []string {
	classes := []metering.Class{metering.CertifiedAPI, metering.API, metering.ValueAdded, metering.Listing,
		metering.Marketplace, metering.Placement, metering.Referral, metering.Certification, metering.Support}
	names := make([]string, len(classes))
	for i, k := range classes {
		names[i] = string(k)
	}
	return names
}

// covers reports whether the contract names the app; one without apps names all of
// its partner's, which only the Input knows.
func (t *Terms) covers(a partner.AppID) bool {
	for _, b := range t.Apps {
		if a == b {
			return true
		}
	}
	return false
}

// InForce is the part of the month in which these terms apply, by their own dates.
func (t *Terms) InForce(m period.Month) period.Period {
	p := m.In(t.Zone)
	if from := t.From.In(t.Zone); from.After(p.Start) {
		p.Start = from
	}
	if !t.Until.IsZero() {
		if until := t.Until.In(t.Zone); until.Before(p.End) {
			p.End = until
		}
	}
	return p
}
