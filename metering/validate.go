package metering

import (
	"fmt"
	"time"

	"github.com/shopspring/decimal"

	"mete/money"
	"mete/partner"
)

// Bounds of an event.
const (
	MaxID         = 256 // bytes of id
	MaxSource     = 256 // bytes of source
	MaxText       = 128 // bytes of any other text
	MaxDimensions = 16

	// MaxWholeDigits bounds amounts, quantities and latencies: less than 10^13, so
	// that any amount fits 64 bits in minor units.
	MaxWholeDigits = 13
	MaxBytes       = 1 << 50
	MaxPaidMonths  = 1200

	// MaxAhead is how far a sender's clock may be ahead.
	MaxAhead = 5 * time.Minute
)

var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// Epoch is the earliest time that an event may have.
func Epoch() time.Time { return epoch }

// needs is what a type of event must say beyond id, source and type.
type needs struct {
	name     string
	app      bool
	customer bool
	amount   bool // and its currency
	class    bool
	lead     bool
	refersTo bool
	amountOr bool // amount, or a reference to the rule that knows it
}

// typeRules are the built-in types of events.
var typeRules = map[string]needs{
	UsageAPI:           {name: UsageAPI, app: true},
	UsageVoided:        {name: UsageVoided, refersTo: true},
	SalePaid:           {name: SalePaid, app: true, customer: true, amount: true},
	SaleInvoiced:       {name: SaleInvoiced, app: true, customer: true, amount: true},
	SaleRefunded:       {name: SaleRefunded, app: true, customer: true, amount: true, refersTo: true},
	SaleChargedBack:    {name: SaleChargedBack, app: true, customer: true, amount: true, refersTo: true},
	SaleChargebackWon:  {name: SaleChargebackWon, app: true, customer: true, amount: true, refersTo: true},
	SaleChargebackLost: {name: SaleChargebackLost, app: true, customer: true, amount: true, refersTo: true},
	SaleWrittenOff:     {name: SaleWrittenOff, app: true, customer: true, amount: true, refersTo: true},
	LeadQualified:      {name: LeadQualified, lead: true},
	LeadConverted:      {name: LeadConverted, lead: true},
	LeadCancelled:      {name: LeadCancelled, lead: true},
	FeeDue:             {name: FeeDue, app: true, class: true, amountOr: true},
	AppRegistered:      {name: AppRegistered, app: true},
	AppInstalled:       {name: AppInstalled, app: true, customer: true},
	AppUninstalled:     {name: AppUninstalled, app: true, customer: true},
	ScopeChanged:       {name: ScopeChanged, app: true},
	ReviewSubmitted:    {name: ReviewSubmitted, app: true},
	ReviewDecided:      {name: ReviewDecided, app: true},
	ExceptionGranted:   {name: ExceptionGranted, app: true},
	ExceptionClosed:    {name: ExceptionClosed, app: true},
	IncidentOpened:     {name: IncidentOpened, app: true},
	IncidentClosed:     {name: IncidentClosed, app: true},
	SupportOpened:      {name: SupportOpened, app: true},
	SupportAnswered:    {name: SupportAnswered, app: true},
	SupportClosed:      {name: SupportClosed, app: true},
}

// ownUsage begins the types that meters add.
const ownUsage = "usage."

func (d *Directory) rule(t string) (needs, bool) {
	if n, ok := typeRules[t]; ok {
		return n, true
	}
	if len(t) > len(ownUsage) && t[:len(ownUsage)] == ownUsage && d.Types[t] {
		return needs{name: t, app: true}, true
	}
	return needs{}, false
}

// CheckClass reports whether c is one of the known classes.
func CheckClass(c Class) bool {
	switch c {
	case CertifiedAPI, API, ValueAdded, Listing, Marketplace, Placement, Referral, Certification, Support:
		return true
	}
	return false
}

// Accept gives an event that came without a time the time of its acceptance, unless it
// was refused before and has that of its first receipt. The event stays marked and its
// content hash the same.
func (e *Event) Accept(now time.Time) {
	if e.TimeAbsent && e.Time.IsZero() {
		e.Time = now.UTC().Truncate(time.Microsecond)
	}
}

// Validate reports why an event may not become money or quality, nil if it may.
// It first looks for what must not be kept (the unclean class: the refusal then holds
// no value), then for what cannot be used (the event is kept in the refusal and can be
// replayed once the cause is mended). The caller seals the refusal.
//
// It does not ask who sent the event; see [Directory.CheckSource].
func Validate(e Event, dir *Directory, now time.Time) *Refusal {
	if r := checkClean(&e); r != nil {
		if guardText(e.Source) == "" && len(e.Source) <= MaxSource {
			r.Source = e.Source
		}
		r.ReceivedAt = now
		return r
	}
	if r := checkUsable(&e, dir, now); r != nil {
		r.Source = e.Source
		r.ReceivedAt = now
		r.Event = AppendCanonical(nil, e)
		return r
	}
	return nil
}

// texts are all texts of an event but its dimensions.
func texts(e *Event) [15]struct {
	field, value string
	max          int
} {
	d := &e.Data
	return [15]struct {
		field, value string
		max          int
	}{
		{"id", e.ID, MaxID},
		{"source", e.Source, MaxSource},
		{"type", e.Type, MaxText},
		{"subject", string(e.Customer), MaxText},
		{"data.app", string(d.App), MaxText},
		{"data.operation", d.Operation, MaxText},
		{"data.class", string(d.Class), MaxText},
		{"data.unit", d.Unit, MaxText},
		{"data.currency", string(d.Currency), MaxText},
		{"data.environment", string(d.Environment), MaxText},
		{"data.deal", d.Deal, MaxText},
		{"data.lead", d.Lead, MaxText},
		{"data.refers_to", d.RefersTo, MaxID},
		{"data.reference", d.Reference, MaxText},
		{"data.region", d.Region, MaxText},
	}
}

// numbers are all decimals of an event.
func numbers(d *Data) [5]struct {
	field string
	value *decimal.Decimal
} {
	return [5]struct {
		field string
		value *decimal.Decimal
	}{
		{"data.amount", d.Amount}, {"data.tax_amount", d.TaxAmount}, {"data.fee", d.Fee},
		{"data.quantity", d.Quantity}, {"data.latency_ms", d.LatencyMS},
	}
}

// checkClean looks at everything that could carry a value that must not be kept.
func checkClean(e *Event) *Refusal {
	for _, t := range texts(e) {
		if t.value == "" {
			continue
		}
		if len(t.value) > t.max {
			return refuse(TooLong, t.field, fmt.Sprintf("%d bytes, at most %d are taken", len(t.value), t.max))
		}
		if word := guardText(t.value); word != "" {
			return refuse(word, t.field, "")
		}
	}
	if e.Customer != "" && partner.CheckID(string(e.Customer)) != nil {
		return refuse(BadIdentifier, "subject", "")
	}
	if y := e.Time.UTC().Year(); y < 1 || y > 9999 { // RFC 3339 has four digits
		return refuse(BadTime, "time", "")
	}
	for _, n := range numbers(&e.Data) {
		if v := n.value; v != nil && (v.Exponent() > maxExponent || v.Exponent() < -maxExponent || v.NumDigits()+int(max(0, v.Exponent())) > maxDigits) {
			return refuse(BadNumber, n.field, "")
		}
	}
	if len(e.Data.Dimensions) == 0 {
		return nil
	}
	for _, name := range sortedNames(e.Data.Dimensions) {
		value := e.Data.Dimensions[name]
		if partner.CheckID(name) != nil {
			return refuse(BadIdentifier, "data.dimensions", "")
		}
		if word := guardText(name); word != "" {
			return refuse(word, "data.dimensions", "")
		}
		if len(value) > MaxText {
			return refuse(TooLong, dimensionField(name), fmt.Sprintf("%d bytes, at most %d are taken", len(value), MaxText))
		}
		if word := guardText(value); word != "" {
			return refuse(word, dimensionField(name), "")
		}
	}
	return nil
}

func dimensionField(name string) string {
	if shown := sayable(name); shown != "" {
		return "data.dimensions." + shown
	}
	return "data.dimensions"
}

// sayable is a field name if it may be told in a refusal: letters and underscores
// only, so that no number of a person hides in it; else "".
func sayable(name string) string {
	if name == "" || len(name) > 32 {
		return ""
	}
	for i := range len(name) {
		if c := name[i]; c != '_' && (c < 'a' || c > 'z') {
			return ""
		}
	}
	return name
}

// checkUsable looks at a clean event.
func checkUsable(e *Event, dir *Directory, now time.Time) *Refusal {
	d := &e.Data
	for _, f := range [...]struct{ field, value string }{{"id", e.ID}, {"source", e.Source}, {"type", e.Type}} {
		if f.value == "" {
			return refuse(MissingField, f.field, "every event needs "+f.field)
		}
	}
	n, known := dir.rule(e.Type)
	if !known {
		return refuse(UnknownType, "type", fmt.Sprintf("type %q is not known", e.Type))
	}
	if r := checkNeeds(e, n); r != nil {
		return r
	}
	if d.App != "" {
		if _, ok := dir.Partner(d.App); !ok {
			return refuse(UnknownApp, "data.app", fmt.Sprintf("app %q is not in the catalogue", d.App))
		}
		if s, ok := dir.Sources[e.Source]; ok && !s.allows(d.App) {
			return refuse(AppNotOfSource, "data.app", fmt.Sprintf("source %q may not report app %q", e.Source, d.App))
		}
	}
	if d.Class != "" && !CheckClass(d.Class) {
		return refuse(UnknownClass, "data.class", fmt.Sprintf("class %q is not known", d.Class))
	}
	if d.Environment != "" && d.Environment != Production && d.Environment != Sandbox {
		return refuse(UnknownEnvironment, "data.environment", fmt.Sprintf("environment %q is not known", d.Environment))
	}
	if d.RefersTo != "" && d.RefersTo == e.ID {
		return refuse(RefersToItself, "data.refers_to", "")
	}
	if r := checkTime(e, now); r != nil {
		return r
	}
	if r := checkMoney(d); r != nil {
		return r
	}
	if r := checkCounts(d); r != nil {
		return r
	}
	return checkDimensions(e, dir)
}

func checkNeeds(e *Event, n needs) *Refusal {
	d := &e.Data
	for _, f := range [...]struct {
		needed, there bool
		field         string
	}{
		{n.app, d.App != "", "data.app"},
		{n.customer, e.Customer != "", "subject"},
		{n.amount, d.Amount != nil, "data.amount"},
		{n.class, d.Class != "", "data.class"},
		{n.lead, d.Lead != "", "data.lead"},
		{n.refersTo, d.RefersTo != "", "data.refers_to"},
	} {
		if f.needed && !f.there {
			return refuse(MissingField, f.field, e.Type+" needs it")
		}
	}
	if e.Type == ExceptionGranted {
		if _, _, err := ExtensionOf(d.Reference); err != nil {
			return refuse(BadExtension, "data.reference", err.Error())
		}
	}
	if n.amountOr && d.Amount == nil && d.Reference == "" {
		return refuse(MissingField, "data.amount", e.Type+" needs an amount, or in data.reference the rule that knows it")
	}
	return nil
}

func checkTime(e *Event, now time.Time) *Refusal {
	if e.TimeAbsent && e.Time.IsZero() {
		return nil
	}
	if e.Time.Before(epoch) {
		return refuse(TimeTooOld, "time", e.Time.UTC().Format(time.RFC3339)+" lies before "+epoch.Format(time.DateOnly))
	}
	if e.Time.After(now.Add(MaxAhead)) {
		return refuse(TimeInFuture, "time", fmt.Sprintf("%s is %s ahead of %s", e.Time.UTC().Format(time.RFC3339),
			e.Time.Sub(now).Round(time.Second), now.UTC().Format(time.RFC3339)))
	}
	return nil
}

func checkMoney(d *Data) *Refusal {
	all := numbers(d)
	for _, m := range all[:3] { // the amounts
		if m.value == nil {
			continue
		}
		if d.Currency == "" {
			return refuse(MissingField, "data.currency", "an amount needs its currency")
		}
		if _, err := money.ParseCurrency(string(d.Currency)); err != nil {
			break // told below
		}
		if r := checkNumber(m.field, *m.value, d.Currency.Digits(), "decimals of "+string(d.Currency)); r != nil {
			return r
		}
	}
	if d.Currency != "" {
		if _, err := money.ParseCurrency(string(d.Currency)); err != nil {
			return refuse(UnknownCurrency, "data.currency", fmt.Sprintf("%q is no ISO 4217 code", d.Currency))
		}
	}
	return nil
}

func checkNumber(field string, v decimal.Decimal, decimals int32, what string) *Refusal {
	if v.NumDigits()+int(v.Exponent()) > MaxWholeDigits {
		return refuse(OutOfRange, field, fmt.Sprintf("the number has more than %d digits before the point", MaxWholeDigits))
	}
	if v.Sign() < 0 {
		return refuse(OutOfRange, field, "the number is negative")
	}
	if v.Exponent() < -decimals {
		if n := places(v); n > decimals {
			return refuse(TooFine, field, fmt.Sprintf("%d decimals, at most %d (%s) can be counted", n, decimals, what))
		}
	}
	return nil
}

func checkCounts(d *Data) *Refusal {
	if d.Quantity != nil {
		if r := checkNumber("data.quantity", *d.Quantity, MaxQuantityPlaces, "decimals of a quantity"); r != nil {
			return r
		}
	}
	if d.LatencyMS != nil {
		if r := checkNumber("data.latency_ms", *d.LatencyMS, MaxQuantityPlaces, "decimals of a latency"); r != nil {
			return r
		}
	}
	if d.Status != 0 && (d.Status < 100 || d.Status > 599) {
		return refuse(OutOfRange, "data.status", fmt.Sprintf("status %d is none of HTTP, 100 to 599", d.Status))
	}
	if d.Bytes < 0 || d.Bytes > MaxBytes {
		return refuse(OutOfRange, "data.bytes", fmt.Sprintf("%d bytes, from 0 to %d are counted", d.Bytes, int64(MaxBytes)))
	}
	if d.PaidMonths < 0 || d.PaidMonths > MaxPaidMonths {
		return refuse(OutOfRange, "data.paid_months", fmt.Sprintf("%d months, from 0 to %d are counted", d.PaidMonths, MaxPaidMonths))
	}
	return nil
}

func checkDimensions(e *Event, dir *Directory) *Refusal {
	if len(e.Data.Dimensions) > MaxDimensions {
		return refuse(TooManyDimensions, "data.dimensions", fmt.Sprintf("%d dimensions, at most %d are taken", len(e.Data.Dimensions), MaxDimensions))
	}
	for _, name := range sortedNames(e.Data.Dimensions) {
		if !dir.Declares(e.Type, name) {
			return refuse(UnknownDimension, "data.dimensions."+name, fmt.Sprintf("no meter of %s declares dimension %q", e.Type, name))
		}
	}
	return nil
}
