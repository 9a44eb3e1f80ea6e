package scenario

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
	"mete/pricing"
)

// Source is the source of every event in a scenario.
const Source = "scenario"

// maxLines bounds the lines of one scenario.
const maxLines = 20000

// maxMonths bounds how far the months of one scenario reach.
const maxMonths = 240

// scenario is a file after reading.
type scenario struct {
	file          string
	terms         []*pricing.Terms
	files         []string // of the terms
	partners      map[partner.ID]partner.Partner
	apps          map[partner.AppID]partner.App
	meters        map[string]metering.Meter
	codes         []partner.ReferralCode
	rates         []pricing.ExchangeRate
	lateLimit     int // of the marketplace, in months; 0: none
	blocks        []*block
	line          int
	count         int // of events, for their default ids and times
	wantError     string
	wantErrorLine int
	wantsBooks    bool
}

// block is one month with what arrives in it and what is wanted of it.
type block struct {
	line   int
	month  period.Month
	events []event
	cards  []pricing.Scorecard
	wants  []want
}

// event is a transaction, or usage given as a cell.
type event struct {
	late bool
	at   time.Time
	tx   *metering.Transaction
	cell *metering.Usage
}

type want struct {
	line  int
	party partner.ID
	rows  []wantRow
}

type wantRow struct {
	name   string
	month  period.Month
	amount decimal.Decimal
	note   string
}

func (s *scenario) bad(problem, remedy string) error {
	msg := fmt.Sprintf("%s:%d: %s", s.file, s.line, problem)
	if remedy != "" {
		msg += "; " + remedy
	}
	return errors.New(msg)
}

// parse reads the text. On an error the scenario is returned too, with the error it
// wanted, if it says so.
func parse(file string, text []byte, load Loader) (*scenario, error) {
	s := &scenario{file: file, partners: map[partner.ID]partner.Partner{}, apps: map[partner.AppID]partner.App{}, meters: map[string]metering.Meter{}}
	lines := strings.Split(string(text), "\n")
	if len(lines) > maxLines {
		return s, fmt.Errorf("%s: %d lines, at most %d are read", file, len(lines), maxLines)
	}
	s.findWantedError(lines)
	inWant := false
	for i, line := range lines {
		s.line = i + 1
		words, err := s.words(line)
		if err != nil {
			return s, err
		}
		if len(words) == 0 {
			continue
		}
		indented := line[0] == ' ' || line[0] == '\t'
		switch {
		case words[0] == "want" && !indented:
			inWant = true
			err = s.want(words[1:])
		case !indented:
			inWant = false
			err = s.head(words, load)
		case inWant:
			err = s.wantRow(words)
		default:
			err = s.event(words)
		}
		if err != nil {
			return s, err
		}
	}
	s.line = len(lines)
	switch {
	case len(s.terms) == 0:
		return s, s.bad("no contract", "begin with `contract NAME`, for NAME.yaml beside the scenario")
	case len(s.blocks) == 0:
		return s, s.bad("no month", "add `month 2026-01` and what happens in it")
	}
	return s, nil
}

// findWantedError looks for `want error "…"` before anything can go wrong.
func (s *scenario) findWantedError(lines []string) {
	for i, line := range lines {
		s.line = i + 1
		if words, err := s.words(line); err == nil && len(words) == 3 && words[0] == "want" && words[1] == "error" {
			s.wantError, s.wantErrorLine = strings.Trim(words[2], `"`), s.line
		}
	}
}

// words cuts a line at blanks, keeps quoted text together and drops a comment.
func (s *scenario) words(line string) ([]string, error) {
	var words []string
	for rest := strings.TrimSpace(line); rest != "" && rest[0] != '#'; rest = strings.TrimSpace(rest) {
		end := strings.IndexAny(rest, " \t\r")
		if rest[0] == '"' {
			if end = strings.IndexByte(rest[1:], '"'); end < 0 {
				return nil, s.bad("a quoted text has no end", "close the quote")
			}
			end += 2
		}
		if end < 0 {
			end = len(rest)
		}
		words = append(words, rest[:end])
		rest = rest[end:]
	}
	return words, nil
}

// head reads a line at the margin.
func (s *scenario) head(words []string, load Loader) error {
	if len(words) < 2 {
		return s.bad(fmt.Sprintf("%q needs a name", words[0]), "")
	}
	name, opts := words[1], words[2:]
	switch words[0] {
	case "contract":
		if err := partner.CheckID(name); err != nil {
			return s.bad(err.Error(), "name the file without .yaml")
		}
		file, text, err := load(name)
		if err != nil {
			return s.bad(fmt.Sprintf("contract %s: %v", name, err), "put "+name+".yaml beside the scenario")
		}
		t, err := pricing.ParseTerms(file, text)
		if err != nil {
			return err
		}
		if idle := t.Idle(); len(idle) > 0 { // as the catalogue does with new terms
			return idle
		}
		s.files = append(s.files, name+contractExt)
		return s.addTerms(t, opts)
	case "partner":
		o, err := s.options(opts, "group", "tier")
		if err != nil {
			return err
		}
		tier := partner.Tier(o["tier"])
		if tier != "" && !slices.Contains(partner.Tiers, tier) {
			return s.bad(fmt.Sprintf("%q is no tier of a partner", tier), "build, grow or strategic")
		}
		s.partners[partner.ID(name)] = partner.Partner{ID: partner.ID(name), AccountGroup: o["group"], Tier: tier}
		return nil
	case "app":
		o, err := s.options(opts, "of")
		if err != nil {
			return err
		}
		if o["of"] == "" {
			return s.bad("an app belongs to a partner", "app "+name+" of PARTNER")
		}
		s.apps[partner.AppID(name)] = partner.App{ID: partner.AppID(name), Partner: partner.ID(o["of"])}
		return nil
	case "meter":
		return s.meter(name, opts)
	case "code":
		o, err := s.options(opts, "of")
		if err != nil {
			return err
		}
		s.codes = append(s.codes, partner.ReferralCode{Code: name, Partner: partner.ID(o["of"])})
		return nil
	case "rate":
		return s.rate(name, opts)
	case "marketplace":
		return s.marketplace(words[1:])
	case "month":
		return s.month(name)
	}
	return s.bad(fmt.Sprintf("%q is not known at the margin", words[0]), "known: contract, partner, app, meter, code, rate, marketplace, month, want; what happens is indented")
}

func (s *scenario) addTerms(t *pricing.Terms, opts []string) error {
	if len(opts) > 0 {
		return s.bad(fmt.Sprintf("%q is not expected", opts[0]), "")
	}
	t.Version = 1
	for _, o := range s.terms {
		if o.Contract == t.Contract {
			t.Version = o.Version + 1
			if !o.From.Before(t.From) {
				return s.bad(fmt.Sprintf("version %d of %s begins %s, not after the one before", t.Version, t.Contract, t.From), "name versions in the order of effective.from")
			}
		}
	}
	s.terms = append(s.terms, t)
	if _, ok := s.partners[t.Partner]; !ok {
		s.partners[t.Partner] = partner.Partner{ID: t.Partner}
	}
	for _, a := range t.Apps {
		if _, ok := s.apps[a]; !ok {
			s.apps[a] = partner.App{ID: a, Partner: t.Partner}
		}
	}
	alone := t.EachEvent()
	for _, id := range t.Meters() {
		if _, ok := s.meters[id]; ok {
			continue
		}
		if slices.Contains(alone, id) {
			s.meters[id] = metering.Meter{ID: id, Type: "usage." + id, Aggregate: metering.AggregateQuantity}
			continue
		}
		s.meters[id] = metering.Meter{ID: id, Type: metering.UsageAPI, Operations: []string{id}, Aggregate: metering.AggregateQuantity, StatusBelow: 400}
	}
	return nil
}

// alone reports whether a contract looks at events of the meter one by one.
func (s *scenario) alone(meter string) bool {
	return slices.ContainsFunc(s.terms, func(t *pricing.Terms) bool { return slices.Contains(t.EachEvent(), meter) })
}

// meter reads `meter ID type T class C aggregate A operation O below N`.
func (s *scenario) meter(id string, opts []string) error {
	o, err := s.options(opts, "type", "class", "aggregate", "operation", "below", "text")
	if err != nil {
		return err
	}
	m := metering.Meter{ID: id, Type: metering.UsageAPI, Class: metering.Class(o["class"]), Aggregate: metering.AggregateQuantity, Description: o["text"]}
	if o["type"] != "" {
		m.Type = o["type"]
	}
	if o["aggregate"] != "" {
		m.Aggregate = o["aggregate"]
	}
	if o["operation"] != "" {
		m.Operations = strings.Split(o["operation"], ",")
	}
	if o["below"] != "" {
		if m.StatusBelow, err = strconv.Atoi(o["below"]); err != nil {
			return s.bad(fmt.Sprintf("%q is no status", o["below"]), "")
		}
	}
	s.meters[id] = m
	return nil
}

// rate reads `rate TABLE DATE FROM TO RATE`, a row of a table of exchange rates.
func (s *scenario) rate(table string, words []string) error {
	if len(words) != 4 || !isCurrency.MatchString(words[1]) || !isCurrency.MatchString(words[2]) {
		return s.bad("a rate is a table, a day, two currencies and what one of the first is worth in the second", "rate ecb 2026-01-02 EUR USD 1.0832")
	}
	on, err := period.ParseDate(words[0])
	if err != nil {
		return s.bad(err.Error(), "")
	}
	r, err := s.number(words[3])
	if err != nil {
		return err
	}
	if !r.IsPositive() {
		return s.bad(fmt.Sprintf("a rate of %s", r), "want more than zero")
	}
	s.rates = append(s.rates, pricing.ExchangeRate{Table: table, Source: table, Date: on, From: money.Currency(words[1]), To: money.Currency(words[2]), Rate: r})
	return nil
}

// maxLateLimit bounds late limits, in months, as catalogue documents do.
const maxLateLimit = 120

// marketplace reads `marketplace late_limit MONTHS`.
func (s *scenario) marketplace(opts []string) error {
	o, err := s.options(opts, "late_limit")
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(o["late_limit"])
	if err != nil || n < 1 || n > maxLateLimit {
		return s.bad(fmt.Sprintf("%q is no late limit", o["late_limit"]), fmt.Sprintf("want a number of months from 1 to %d", maxLateLimit))
	}
	s.lateLimit = n
	return nil
}

func (s *scenario) month(name string) error {
	m, err := period.ParseMonth(name)
	if err != nil {
		return s.bad(err.Error(), "")
	}
	if len(s.terms) == 0 {
		return s.bad("a month before any contract", "begin with `contract NAME`")
	}
	if n := len(s.blocks); n > 0 && !s.blocks[n-1].month.Before(m) {
		return s.bad(fmt.Sprintf("month %s does not follow %s", m, s.blocks[n-1].month), "months rise; usage of a closed month is `late … on DATE` in a later one")
	}
	if len(s.blocks) > 0 && s.blocks[0].month.Add(maxMonths).Before(m) {
		return s.bad(fmt.Sprintf("more than %d months", maxMonths), "")
	}
	s.blocks = append(s.blocks, &block{line: s.line, month: m})
	return nil
}

// options reads `name value` pairs.
func (s *scenario) options(words []string, known ...string) (map[string]string, error) {
	o := map[string]string{}
	for i := 0; i < len(words); i += 2 {
		if !slices.Contains(known, words[i]) {
			return nil, s.bad(fmt.Sprintf("%q is not expected here", words[i]), "known: "+strings.Join(known, ", "))
		}
		if i+1 == len(words) {
			return nil, s.bad(fmt.Sprintf("%q has no value", words[i]), "")
		}
		if _, twice := o[words[i]]; twice {
			return nil, s.bad(fmt.Sprintf("%q is given twice", words[i]), "")
		}
		o[words[i]] = strings.Trim(words[i+1], `"`)
	}
	return o, nil
}

var (
	isNumber   = regexp.MustCompile(`^[+-]?[0-9][0-9_]*(\.[0-9]+)?$`)
	isCurrency = regexp.MustCompile(`^[A-Z]{3}$`)
	isAccount  = regexp.MustCompile(`^(assets|liabilities|income|expenses|equity)(:[a-z0-9-]+)*$`)
)

func (s *scenario) number(word string) (decimal.Decimal, error) {
	if !isNumber.MatchString(word) {
		return decimal.Zero, s.bad(fmt.Sprintf("%q is no number", word), "write it like 1_200_000.00")
	}
	d, err := money.ParseDecimal(word)
	if err != nil {
		return d, s.bad(err.Error(), "")
	}
	return d, nil
}

// event reads one indented line of a month: an event with an amount of money, a
// fact, a meter with a quantity, or a scorecard.
func (s *scenario) event(words []string) error {
	if len(s.blocks) == 0 {
		return s.bad("something happens before any month", "begin with `month 2026-01`")
	}
	b := s.blocks[len(s.blocks)-1]
	e := event{}
	if words[0] == "late" {
		e.late, words = true, words[1:]
	}
	if len(words) == 0 {
		return s.bad("late what?", "such as late api_calls 100 on 2026-01-20")
	}
	if words[0] == "scorecard" {
		return s.scorecard(b, words[1:])
	}
	if words[0] == "standing" {
		return s.standing(b, words[1:])
	}
	what, rest := words[0], words[1:]
	m, metered := s.meters[what]
	if !metered && !strings.Contains(what, ".") {
		return s.bad(fmt.Sprintf("%q is neither an event type nor a meter of the contracts", what), "such as sale.paid 100.00 USD, or a meter with a quantity")
	}
	var amount *decimal.Decimal
	if len(rest) > 0 && isNumber.MatchString(rest[0]) {
		d, err := s.number(rest[0])
		if err != nil {
			return err
		}
		amount, rest = &d, rest[1:]
	}
	currency := ""
	if len(rest) > 0 && isCurrency.MatchString(rest[0]) {
		currency, rest = rest[0], rest[1:]
	}
	var err error
	if metered {
		err = s.usage(b, &e, m, amount, rest)
	} else {
		err = s.transaction(b, &e, what, amount, currency, rest)
	}
	if err != nil {
		return err
	}
	occurred := period.MonthOf(e.at, s.zone())
	switch {
	case e.late && !occurred.Before(b.month):
		return s.bad(fmt.Sprintf("late usage of %s in %s", occurred, b.month), "late is about an earlier month: on YYYY-MM-DD")
	case e.late && occurred.Before(s.blocks[0].month):
		return s.bad(fmt.Sprintf("%s comes before the first month here", occurred), "")
	case !e.late && occurred != b.month:
		return s.bad(fmt.Sprintf("%s lies outside %s", period.DateOf(e.at, s.zone()), b.month), "write `late` before it if it arrives after its month was closed")
	}
	b.events = append(b.events, e)
	return nil
}

// zone is the zone of the first contract, in which scenarios name days.
func (s *scenario) zone() *time.Location { return s.terms[0].Zone }

// when is the instant of an event: on DATE or DAY at noon, by default the first day;
// each one second after the one before.
func (s *scenario) when(b *block, on string) (time.Time, error) {
	day := b.month.First()
	if on != "" {
		if n, err := strconv.Atoi(on); err == nil && n >= 1 && n <= b.month.Last().Day {
			day.Day = n
		} else if day, err = period.ParseDate(on); err != nil {
			return time.Time{}, s.bad(fmt.Sprintf("%q is no day of %s", on, b.month), "on 20, or on 2026-01-20")
		}
	}
	s.count++
	return time.Date(day.Year, day.Month, day.Day, 12, 0, s.count, 0, s.zone()).UTC(), nil
}

// app is the named app, or the only one there is.
func (s *scenario) app(name string) (partner.AppID, error) {
	if name != "" {
		if _, ok := s.apps[partner.AppID(name)]; !ok {
			return "", s.bad(fmt.Sprintf("no contract names app %s", name), "add `app "+name+" of PARTNER`")
		}
		return partner.AppID(name), nil
	}
	if len(s.apps) == 1 {
		for a := range s.apps {
			return a, nil
		}
	}
	return "", s.bad("which app?", "there are several: app NAME")
}

// class is the named class, or that of the first rule it can be for.
func (s *scenario) class(name string, fits func(pricing.Rule) bool) metering.Class {
	if name != "" {
		return metering.Class(name)
	}
	for _, t := range s.terms {
		for _, r := range t.Rules {
			if fits(r) {
				return r.Class
			}
		}
	}
	return ""
}

func (s *scenario) usage(b *block, e *event, m metering.Meter, quantity *decimal.Decimal, words []string) error {
	o, err := s.options(words, "app", "customer", "on", "status", "class", "environment", "amount")
	if err != nil {
		return err
	}
	if quantity == nil || quantity.IsNegative() {
		return s.bad(fmt.Sprintf("%s needs a quantity", m.ID), "such as "+m.ID+" 150_000")
	}
	app, err := s.app(o["app"])
	if err != nil {
		return err
	}
	if e.at, err = s.when(b, o["on"]); err != nil {
		return err
	}
	u := &metering.Usage{App: app, Customer: customer(o), Type: m.Type, Environment: metering.Environment(o["environment"]), Quantity: *quantity, Count: 1}
	if m.Class != "" {
		u.Class = m.Class
	} else {
		u.Class = s.class(o["class"], func(r pricing.Rule) bool {
			f, ok := r.Body.(*pricing.UsageFee)
			return ok && slices.Contains(f.Meters(), m.ID)
		})
	}
	if len(m.Operations) > 0 {
		u.Operation = m.Operations[0]
	}
	if quantity.IsInteger() {
		u.Count = quantity.IntPart()
	}
	if m.Aggregate == metering.AggregateBytes {
		u.Bytes, u.Count = quantity.IntPart(), 1
	}
	if o["status"] != "" {
		if u.Status, err = strconv.Atoi(o["status"]); err != nil {
			return s.bad(fmt.Sprintf("%q is no status", o["status"]), "")
		}
	}
	if o["amount"] != "" {
		if u.Amount, err = s.number(o["amount"]); err != nil {
			return err
		}
		u.Currency = s.terms[0].Currency
	}
	if s.alone(m.ID) {
		e.tx = s.usageEvent(e.at, u)
		return nil
	}
	e.cell = u
	return nil
}

// usageEvent is usage as the one event that it is where a rule looks at it alone.
func (s *scenario) usageEvent(at time.Time, u *metering.Usage) *metering.Transaction {
	id := fmt.Sprintf("line-%d", s.line)
	t := &metering.Transaction{Key: key(Source, id), Event: metering.Event{ID: id, Source: Source, Type: u.Type, Time: at, Customer: u.Customer}}
	t.Data = metering.Data{App: u.App, Operation: u.Operation, Class: u.Class, Quantity: &u.Quantity, Status: u.Status, Bytes: u.Bytes, Environment: u.Environment}
	if u.Currency != "" {
		t.Data.Amount, t.Data.Currency = &u.Amount, u.Currency
	}
	return t
}

func customer(o map[string]string) partner.CustomerID {
	if o["customer"] != "" {
		return partner.CustomerID(o["customer"])
	}
	return "practice"
}

func (s *scenario) transaction(b *block, e *event, typ string, amount *decimal.Decimal, currency string, words []string) error {
	dimensions, words := dimensionsOf(words)
	o, err := s.options(words, "app", "customer", "on", "class", "id", "tax", "in", "fee", "lead", "refers", "code", "reference", "environment",
		"deal", "region", "paid_months", "operation", "unit", "dimensions.NAME")
	if err != nil {
		return err
	}
	t := &metering.Transaction{Event: metering.Event{Source: Source, Type: typ, ID: o["id"], Customer: customer(o)}}
	t.Data.Amount, t.Data.Currency = amount, money.Currency(currency)
	if amount != nil && currency == "" {
		t.Data.Currency = s.terms[0].Currency
	}
	if t.Data.App, err = s.app(o["app"]); err != nil {
		return err
	}
	if e.at, err = s.when(b, o["on"]); err != nil {
		return err
	}
	t.Time = e.at
	if t.ID == "" {
		t.ID = fmt.Sprintf("line-%d", s.line)
	}
	t.Data.Class = s.class(o["class"], func(r pricing.Rule) bool {
		switch r.Body.(type) {
		case *pricing.Share:
			return strings.HasPrefix(typ, "sale.")
		case *pricing.FixedFee:
			return typ == metering.FeeDue
		}
		return false
	})
	if o["tax"] != "" {
		tax, err := s.number(o["tax"])
		if err != nil {
			return err
		}
		t.Data.TaxAmount, t.Data.Region = &tax, o["in"]
	}
	t.Data.Lead, t.Data.RefersTo, t.Data.Reference = o["lead"], o["refers"], o["reference"]
	if o["code"] != "" {
		t.Data.Reference = o["code"]
	}
	t.Data.Environment = metering.Environment(o["environment"])
	t.Data.Deal, t.Data.Operation, t.Data.Unit, t.Data.Dimensions = o["deal"], o["operation"], o["unit"], dimensions
	if o["region"] != "" {
		t.Data.Region = o["region"]
	}
	if o["fee"] != "" {
		fee, err := s.number(o["fee"])
		if err != nil {
			return err
		}
		t.Data.Fee = &fee
	}
	if o["paid_months"] != "" {
		if t.Data.PaidMonths, err = strconv.Atoi(o["paid_months"]); err != nil || t.Data.PaidMonths < 1 {
			return s.bad(fmt.Sprintf("%q is no number of months", o["paid_months"]), "such as paid_months 12")
		}
	}
	t.Key = key(t.Source, t.ID)
	e.tx = t
	return nil
}

// dimensionsOf takes `dimensions.NAME VALUE` out of the options.
func dimensionsOf(words []string) (dimensions map[string]string, rest []string) {
	for i := 0; i < len(words); i++ {
		if name, ok := strings.CutPrefix(words[i], "dimensions."); ok && name != "" && i+1 < len(words) {
			if dimensions == nil {
				dimensions = map[string]string{}
			}
			dimensions[name] = strings.Trim(words[i+1], `"`)
			i++
			continue
		}
		rest = append(rest, words[i])
	}
	return dimensions, rest
}

// key is an identity of its own for each event of a scenario.
func key(source, id string) metering.Key {
	sum := sha256.Sum256([]byte(source + "\x00" + id))
	return metering.Key(sum[:16])
}

// scorecard reads `scorecard APP measure value …`.
func (s *scenario) scorecard(b *block, words []string) error {
	if len(words) == 0 {
		return s.bad("whose scorecard?", "scorecard APP availability 0.999 calls 20_000")
	}
	app, err := s.app(words[0])
	if err != nil {
		return err
	}
	c := pricing.Scorecard{App: app, Month: b.month}
	for i := 1; i < len(words); i += 2 {
		if i+1 == len(words) {
			return s.bad(fmt.Sprintf("%q has no value", words[i]), "")
		}
		if words[i] == "certification.state" {
			c.Certification.State = words[i+1]
			continue
		}
		d, err := s.number(words[i+1])
		if err != nil {
			return err
		}
		if c.Certification.State == "" && strings.HasPrefix(words[i], "certification.") {
			c.Certification.State = "valid"
		}
		counts := map[string]*int64{
			"calls": &c.Calls, "failed": &c.Failed, "slow": &c.Slow, "active_customers": &c.ActiveCustomers,
			"exceptions.open": &c.ExceptionsOpen, "incidents.opened": &c.IncidentsOpened, "incidents.open": &c.IncidentsOpen,
			"support.answered": &c.SupportAnswered, "support.open": &c.SupportOpen,
		}
		switch n := counts[words[i]]; {
		case n != nil:
			*n = d.IntPart()
		case words[i] == "availability":
			c.Availability = &d
		case words[i] == "within":
			c.Within = &d
		case words[i] == "certification.tier":
			c.Certification.Tier = int(d.IntPart())
		case words[i] == "certification.overdue_days":
			c.Certification.OverdueDays = int(d.IntPart())
		default:
			var names []string
			for _, m := range pricing.Measures() {
				names = append(names, m[0])
			}
			return s.bad(fmt.Sprintf("no measure is called %s", words[i]), "measures: "+strings.Join(names, ", "))
		}
	}
	b.cards = append(b.cards, c)
	return nil
}

// standing reads `standing APP STATE on DAY [due DATE]`: how the certification of the
// app's scorecard stands from a day of the month on.
func (s *scenario) standing(b *block, words []string) error {
	if len(words) < 2 {
		return s.bad("whose standing?", "standing APP re-review on 15")
	}
	i := slices.IndexFunc(b.cards, func(c pricing.Scorecard) bool { return string(c.App) == words[0] })
	if i < 0 {
		return s.bad("no scorecard of "+words[0]+" stands above", "scorecard "+words[0]+" certification.state valid, then its changes")
	}
	c := &b.cards[i]
	o, err := s.options(words[2:], "on", "due")
	if err != nil {
		return err
	}
	at, err := s.when(b, o["on"])
	if err != nil {
		return err
	}
	st := pricing.Standing{From: period.DateOf(at, s.zone()), Tier: c.Certification.Tier, State: words[1]}
	if o["due"] != "" {
		if st.DueOn, err = period.ParseDate(o["due"]); err != nil {
			return s.bad(err.Error(), "due 2026-01-31")
		}
	}
	if len(c.Standings) == 0 {
		c.Standings = []pricing.Standing{{From: b.month.First(), Tier: st.Tier, State: c.Certification.State}}
	}
	last := &c.Standings[len(c.Standings)-1]
	switch {
	case st.From.MonthOf() != b.month || st.From.Before(last.From):
		return s.bad(fmt.Sprintf("%s does not come after %s in %s", st.From, last.From, b.month), "write standings in order of their days")
	case st.From == last.From:
		*last = st
	default:
		c.Standings = append(c.Standings, st)
	}
	c.Certification = st.On(b.month.Last())
	return nil
}

// want reads `want`, `want PARTY` or `want error "…"`.
func (s *scenario) want(words []string) error {
	if len(words) == 2 && words[0] == "error" {
		return nil // found before
	}
	if len(s.blocks) == 0 {
		return s.bad("nothing to want before a month", "")
	}
	w := want{line: s.line, party: s.terms[0].Partner}
	switch len(words) {
	case 0:
		for _, t := range s.terms {
			if t.Partner != w.party {
				return s.bad("whose lines?", "there are several partners: want PARTNER")
			}
		}
	case 1:
		w.party = partner.ID(words[0])
	default:
		return s.bad("want takes a partner, or error and a quoted text", "")
	}
	b := s.blocks[len(s.blocks)-1]
	b.wants = append(b.wants, w)
	return nil
}

// wantRow reads `NAME [MONTH] AMOUNT [note "…"]`.
func (s *scenario) wantRow(words []string) error {
	if len(s.blocks) == 0 || len(s.blocks[len(s.blocks)-1].wants) == 0 {
		return s.bad("nothing may stand under want error", "")
	}
	b := s.blocks[len(s.blocks)-1]
	w := &b.wants[len(b.wants)-1]
	r := wantRow{name: words[0]}
	words = words[1:]
	if (r.name == entryRow || r.name == balanceRow) && len(words) > 0 {
		if !isAccount.MatchString(words[0]) {
			return s.bad(fmt.Sprintf("%q is no account", words[0]), "it begins with assets, liabilities, income, expenses or equity, and has parts divided by colons; the chart is in docs/formats.md")
		}
		r.name += " " + words[0]
		words, s.wantsBooks = words[1:], true
	}
	if len(words) > 0 && !isNumber.MatchString(words[0]) {
		m, err := period.ParseMonth(words[0])
		if err != nil {
			return s.bad(err.Error(), "a row is NAME AMOUNT, or NAME MONTH AMOUNT for a difference of a closed month")
		}
		r.month, words = m, words[1:]
	}
	if len(words) == 0 {
		return s.bad(fmt.Sprintf("%s of how much?", r.name), "a row is NAME AMOUNT")
	}
	var err error
	if r.amount, err = s.number(words[0]); err != nil {
		return err
	}
	o, err := s.options(words[1:], "note")
	if err != nil {
		return err
	}
	r.note = o["note"]
	w.rows = append(w.rows, r)
	return nil
}
