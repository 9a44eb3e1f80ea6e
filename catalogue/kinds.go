package catalogue

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"mete/compliance"
	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
)

// Kind is what a document describes. The key of that name in the document holds the
// object's ID.
type Kind string

// The kinds of documents.
const (
	KindMarketplace  Kind = "marketplace"
	KindPartner      Kind = "partner"
	KindApp          Kind = "app"
	KindCustomer     Kind = "customer"
	KindMeter        Kind = "meter"
	KindSource       Kind = "source"
	KindReferralCode Kind = "referral_code"
	KindFX           Kind = "fx"
	KindHolidays     Kind = "holidays"
	KindContract     Kind = "contract"
)

// Marketplace is the entity that runs the marketplace and how it keeps its books.
type Marketplace struct {
	Entity     string         `json:"id"` // on every statement, such as meridian-us
	Name       string         `json:"name"`
	Address    string         `json:"address,omitempty"`
	Zone       *time.Location `json:"-"` // of months, unless a contract names another
	ZoneName   string         `json:"zone"`
	Currency   money.Currency `json:"currency"`
	Contact    string         `json:"contact"` // who answers questions about a statement
	Close      `json:"close"`
	Pay        Pay                  `json:"pay"`
	Processors map[string]Processor `json:"processors,omitempty"`
	Rails      map[string]Rail      `json:"rails,omitempty"`
	Placement  *Placement           `json:"placement,omitempty"`
	Tiers      *PartnerTiers        `json:"partner_tiers,omitempty"`

	compliance.Settings
}

// Close says when a month may be closed.
type Close struct {
	CloseLagDays    int `json:"lag"`                  // after the last zone's month end
	LateLimitMonths int `json:"late_limit,omitempty"` // 0: late events count however late
}

// Pay says when statements are issued and payouts are planned.
type Pay struct {
	Issue    int    `json:"issue,omitempty"` // day of the following month, or the next business day
	Day      int    `json:"day,omitempty"`
	Calendar string `json:"calendar,omitempty"` // of holidays

	Withholding *Withholding `json:"withholding,omitempty"`
}

// Withholding is the tax that is kept back from payees whose document says so.
type Withholding struct {
	Authority      string          `json:"authority"`
	Rate           decimal.Decimal `json:"rate"`            // 0.24
	ReportableFrom decimal.Decimal `json:"reportable_from"` // of a calendar year, in the marketplace's currency
}

// Processor takes customers' money for the marketplace.
type Processor struct {
	Name string `json:"name"`
}

// Rail is a way to pay partners, from one of the marketplace's own bank accounts.
type Rail struct {
	Account string `json:"account,omitempty"` // what the bank account is called
	Last4   string `json:"last4,omitempty"`
}

// Placement says which apps may be placed because of their month: those for which a
// condition over their scorecard holds. No payment and no use of the API is part of it.
type Placement struct {
	Requires       string          `json:"requires"`                   // a condition, as in quality rules
	NotScoredBelow int64           `json:"not_scored_below,omitempty"` // calls
	Slots          map[string]Slot `json:"slots,omitempty"`
}

// Slot is one of the places an app may have.
type Slot struct {
	Name     string `json:"name"`
	Requires string `json:"requires,omitempty"` // besides what every placement requires
}

// PartnerTiers are what the tiers of the partner programme ask for. A partner has the
// tier that its own document says; these tell people whether it should.
type PartnerTiers struct {
	Months    int           `json:"months"` // whole months before a day's own that are looked at
	Grow      *TierCriteria `json:"grow,omitempty"`
	Strategic *TierCriteria `json:"strategic,omitempty"`
}

// TierCriteria are the least that a tier asks for, all of them.
type TierCriteria struct {
	Sales           *decimal.Decimal `json:"sales,omitempty"`            // net, in the marketplace's currency, on statements of the months
	CertifiedApps   int              `json:"certified_apps,omitempty"`   // certified on the day: valid or due
	SupportAnswered int              `json:"support_answered,omitempty"` // questions, in the months
}

// Source is where events come from: what metering must know of it, and what people
// and the close must.
type Source struct {
	metering.Source
	Description     string `json:"description,omitempty"`
	Sort            string `json:"kind"`                   // gateway | billing | processor | marketplace | certification | support | other
	SilentAfterDays int    `json:"silent_after,omitempty"` // silent for longer before month end, it stops a close until accepted by name; 0: never
}

// FXTable is dated exchange rates from one publisher.
type FXTable struct {
	ID     string   `json:"id"`
	Source string   `json:"source"`
	Rates  []FXRate `json:"rates"`
}

// FXRate says what one unit of From was worth in To on a day.
type FXRate struct {
	Date period.Date     `json:"date"`
	From money.Currency  `json:"from"`
	To   money.Currency  `json:"to"`
	Rate decimal.Decimal `json:"rate"`
}

// Holidays are the days on which banks do not work.
type Holidays struct {
	ID   string                 `json:"id"`
	Name string                 `json:"name,omitempty"`
	Days map[period.Date]string `json:"days"`
}

// kind is everything the package knows of one kind but its own ID field.
type kind struct {
	kind   Kind
	plural string // key of a list of them; empty: none
	about  string
	id     scalar
	idKey  string // of the ID in a list and in JSON; empty: id
	dated  bool   // its rows carry dates, so the object itself has no effective date
	fields object
	check  func(r *reader, o Object, content []byte) // what no shape can say
}

// kinds are in the order in which a document's top-level keys are looked at: an app
// names its partner, a contract its partner and apps.
var kinds = []kind{
	{kind: KindContract, id: anID, about: "One agreement with a partner"},
	{kind: KindMarketplace, id: aPartner, about: "The entity that runs the marketplace and how it keeps its books", fields: object{
		{"name", "Name on statements", true, words},
		{"address", "Postal address on statements, in one line", false, words},
		{"zone", "Time zone of months, unless a contract names another", true, aZone},
		{"currency", "Currency of the books", true, aCurrency},
		{"contact", "E-mail address for questions about a statement", true, aMail},
		{"close", "When a month may be closed", true, object{
			{"lag", "Time after the last zone's month end before a close may begin", true, someDays},
			{"late_limit", "Months after which late events no longer count, unless the partner is owed; absent: never", false, whole(1, 120)},
		}},
		{"pay", "When statements are issued and payouts are planned", false, object{
			{"issue", "Day of the following month on which statements are issued", false, whole(1, 28)},
			{"day", "Day of the following month on which payouts are planned", false, whole(1, 28)},
			{"calendar", "Holidays that move these days to the next business day", false, anID.refer(KindHolidays)},
			{"withholding", "Tax kept back from payees whose document says withhold_from", false, object{
				{"authority", "Tax authority, as its account is called", true, anID},
				{"rate", "Part of a payout that is kept back", true, aPercentage},
				{"reportable_from", "What payments to a payee come to in a calendar year before any is kept back, in the marketplace's currency", true, aDecimal},
			}},
		}},
		{"processors", "Who takes customers' money for the marketplace", false, table{anID, object{
			{"name", "Name of the processor", true, words},
		}, "One processor, under the ID that contracts name"}},
		{"rails", "Ways to pay partners: manual, stripe or ach", false, table{oneOf("manual", "stripe", "ach"), object{
			{"account", "What the marketplace's bank account is called", false, words},
			{"last4", "Last four digits of the account, in quotes", false, last4},
		}, "One way to pay, from one bank account of the marketplace"}},
		{"placement", "Which apps may be placed because of their month's scorecard", false, object{
			{"requires", "What a placement requires, a condition over the scorecard as in quality rules", true, aPlacement},
			{"not_scored_below", "Fewer calls are not scored, and an app that is not scored is not placed", false, someCalls},
			{"slots", "The places, each with what it requires besides", false, table{anID, object{
				{"name", "Name of the place", true, words},
				{"requires", "What it requires besides", false, aPlacement},
			}, "One place, under its ID"}},
		}},
		{"partner_tiers", "What the tiers of the partner programme ask for", false, object{
			{"months", "Whole months before a day's own that are looked at", true, whole(1, 36)},
			{"grow", "The least that tier grow asks for", false, tierCriteria},
			{"strategic", "The least that tier strategic asks for", false, tierCriteria},
		}},
		{"certified_developer", "Whether the entity develops certified API technology (45 CFR 170.404): more rules of the compliance screen apply", false, truth{}},
		{"actor", "What the entity is under the information blocking rules (45 CFR 171.102); absent: developer if certified_developer, else none", false,
			oneOf(compliance.ActorDeveloper, compliance.ActorNetwork, compliance.ActorProvider)},
		{"free_basic_listing", "Whether every app may be listed, in a basic form, without a fee", false, truth{}},
	}},
	{kind: KindFX, id: anID, about: "Dated exchange rates from one publisher", dated: true, check: checkFX, fields: object{
		{"source", "Who publishes the rates", true, words},
		{"rates", "One entry for each day and pair", true, list{object{
			{"date", "Day of the rate", true, aDate},
			{"from", "One unit of this currency", true, aCurrency},
			{"to", "Is worth so much in this currency", true, aCurrency},
			{"rate", "The rate as published", true, aDecimal},
		}, 1}},
	}},
	{kind: KindHolidays, id: anID, about: "Days on which banks do not work", dated: true, fields: object{
		{"name", "Name of the calendar", false, words},
		{"days", "Date and name of each holiday", true, table{aDate, words, "What the day is called"}},
	}},
	{kind: KindReferralCode, plural: "referral_codes", id: aCode, idKey: "code", about: "A code that a partner hands out", fields: object{
		{"partner", "The partner whose code it is; platform: ours", true, aReferrer.refer(KindPartner)},
	}},
	{kind: KindApp, plural: "apps", id: anID, about: "A product of one partner", fields: object{
		{"partner", "The partner whose app it is", true, aPartner.refer(KindPartner)},
		{"name", "Name on statements", true, words},
		{"certification_tier", "Certification tier, 1 (least risk) to 5; absent: not certified", false, whole(1, 5)},
		{"ehi_individual_access", "Whether it gives persons, or whom they name, electronic access to their own health information", false, truth{}},
		{"steers_orders", "Whether it proposes or ranks drugs, devices, tests, supplies or whom to refer to", false, truth{}},
	}},
	{kind: KindMeter, plural: "meters", id: anID, about: "Which events a price counts, and how", check: checkMeter, fields: object{
		{"description", "What is counted, for people", false, words},
		{"type", "Type of the events that are counted", true, anEventType},
		{"class", "Only events of this class", false, oneOf(classes...)},
		{"operations", "Only these operations", false, list{words, 1}},
		{"unit", "What one of them is called", false, words},
		{"aggregate", "How events add up: count them, or add their quantity or bytes", true, oneOf(metering.AggregateCount, metering.AggregateQuantity, metering.AggregateBytes)},
		{"status_below", "Only events with an HTTP status below this: 400 leaves failed calls out", false, whole(100, 600)},
		{"dimensions", "Names of further data that the events may carry", false, list{anID, 1}},
	}},
	{kind: KindSource, plural: "sources", id: anID, idKey: "name", about: "Where events come from", fields: object{
		{"description", "What it is, for people", false, words},
		{"kind", "What sort of system it is", true, oneOf("gateway", "billing", "processor", "marketplace", "certification", "support", "other")},
		{"owner", "Name of the credential that may send it", true, anID},
		{"mapping", "How a gateway's log lines become events: nginx, kong … or the name of a mapping of your own", false, words},
		{"apps", "The only apps it may report; absent: any", false, list{anID.refer(KindApp), 1}},
		{"app", "The app of log lines that name none", false, anID.refer(KindApp)},
		{"class", "The class of log lines that name none", false, oneOf(classes...)},
		{"environment", "The environment of log lines that name none", false, oneOf(string(metering.Production), string(metering.Sandbox))},
		{"silent_after", "Silence before month end that stops a close until accepted by name", false, someDays},
	}},
	{kind: KindCustomer, plural: "customers", id: anID, about: "A practice or other organisation that buys apps", fields: object{
		{"name", "Name of the organisation, never of a person", true, words},
		{"zone", "Its time zone", false, aZone},
		{"hosting", "Who runs its certified API: the platform, or the practice itself", false, oneOf(string(partner.HostedByPlatform), string(partner.HostedBySelf))},
		{"partner", "The partner that is this very organisation, if one is", false, aPartner.refer(KindPartner)},
	}},
	{kind: KindPartner, plural: "partners", id: aPartner, about: "A company that sells through, builds for or refers to the marketplace", fields: object{
		{"name", "Name on statements", true, words},
		{"tier", "Standing in the partner programme", false, oneOf(string(partner.Build), string(partner.Grow), string(partner.Strategic))},
		{"account_group", "Partners under common control; they share tiers", false, anID},
		{"type", "What sort of organisation it is: makes apps, treats patients, makes drugs or devices", false, oneOf(string(partner.Developer), string(partner.Provider), string(partner.Manufacturer), string(partner.OtherType))},
		{"payee", "Where and under which conditions the partner may be paid", false, object{
			{"rail", "Way of payment", false, oneOf("manual", "stripe", "ach")},
			{"account", "The rail's name of the account, never a bank account number", false, matching("the rail's name of the account, never a bank account number", "acct_1NorthwindOps", `^[A-Za-z][A-Za-z0-9_.-]{0,62}$`, checkPHI)},
			{"last4", "Last four digits of the account, in quotes", false, last4},
			{"confirmed_on", "Day on which the account was proven to be the partner's", false, aDate},
			{"changed_on", "Day of the last change of bank details", false, aDate},
			{"tax_form", "Tax form on file", false, oneOf("W-9", "W-8BEN", "W-8BEN-E", "W-8ECI", "W-8EXP", "W-8IMY")},
			{"tax_form_expires_on", "Day on which the tax form expires", false, aDate},
			{"screened_on", "Day of the last clean screening (OFAC, LEIE)", false, aDate},
			{"currency", "Currency of payouts", false, aCurrency},
			{"withhold_from", "Day from which tax is kept back from payouts, by pay.withholding of the marketplace: no certified taxpayer number was given, or the tax authority sent a notice", false, aDate},
		}},
	}},
}

var tierCriteria = object{
	{"sales", "Net sales on statements of these months, in the marketplace's currency", false, aDecimal},
	{"certified_apps", "Apps whose certification is valid or due on the day", false, whole(1, 1000)},
	{"support_answered", "Support questions answered in these months", false, whole(1, 1_000_000)},
}

var classes = []string{
	string(metering.CertifiedAPI), string(metering.API), string(metering.ValueAdded), string(metering.Listing), string(metering.Marketplace),
	string(metering.Placement), string(metering.Referral), string(metering.Certification), string(metering.Support),
}

var eventTypes = []string{
	metering.UsageAPI, metering.SalePaid, metering.SaleInvoiced, metering.SaleRefunded, metering.SaleChargedBack, metering.SaleWrittenOff,
	metering.LeadQualified, metering.LeadConverted, metering.FeeDue, metering.AppRegistered, metering.AppInstalled,
	metering.AppUninstalled, metering.ScopeChanged, metering.ReviewSubmitted, metering.ReviewDecided,
	metering.ExceptionGranted, metering.ExceptionClosed, metering.IncidentOpened, metering.IncidentClosed,
	metering.SupportOpened, metering.SupportAnswered, metering.SupportClosed,
}

// anEventType is a built-in type, or a further type of usage that a meter declares.
var anEventType = matching("an event type: usage.<name> or one of "+strings.Join(eventTypes, ", "), metering.UsageAPI,
	`^(usage\.[a-z][a-z0-9_]{0,40}|`+strings.ReplaceAll(strings.Join(eventTypes[1:], "|"), ".", `\.`)+`)$`, nil)

func kindOf(k Kind) kind {
	i := slices.IndexFunc(kinds, func(e kind) bool { return e.kind == k })
	if i < 0 {
		return kind{}
	}
	return kinds[i]
}

// Kinds are the kinds of documents, in the order in which people meet them.
func Kinds() []Kind {
	return []Kind{KindMarketplace, KindPartner, KindApp, KindCustomer, KindSource, KindMeter,
		KindReferralCode, KindContract, KindFX, KindHolidays}
}

// rank orders kinds as [Kinds] does.
func rank(k Kind) int { return slices.Index(Kinds(), k) }

// key is the name of the ID in a list and in JSON.
func (k kind) key() string {
	if k.idKey != "" {
		return k.idKey
	}
	return "id"
}

// words is the kind for people: "referral code".
func (k Kind) words() string {
	switch k {
	case KindFX:
		return "FX table"
	case KindHolidays:
		return "holiday calendar"
	}
	return strings.ReplaceAll(string(k), "_", " ")
}

func checkFX(r *reader, o Object, content []byte) {
	var t FXTable
	if json.Unmarshal(content, &t) != nil {
		return
	}
	type pair struct {
		on       period.Date
		from, to money.Currency
	}
	seen := map[pair]bool{}
	for i, row := range t.Rates {
		at := fmt.Sprintf("rates[%d]", i)
		if row.From == row.To {
			line, column := o.Place(at)
			r.problems.add(Problem{o.File, line, column, at, fmt.Sprintf("a rate from %s to itself", row.From), "name two currencies"})
		}
		p := pair{row.Date, row.From, row.To}
		if seen[p] {
			line, column := o.Place(at)
			r.problems.add(Problem{o.File, line, column, at, fmt.Sprintf("a second rate from %s to %s on %s", row.From, row.To, row.Date), "keep one"})
		}
		seen[p] = true
	}
}

func checkMeter(r *reader, o Object, content []byte) {
	var m metering.Meter
	if json.Unmarshal(content, &m) != nil {
		return
	}
	if m.StatusBelow > 0 && m.Type != metering.UsageAPI {
		line, column := o.Place("status_below")
		r.problems.add(Problem{o.File, line, column, "status_below", "only usage.api events have an HTTP status", "leave it out or count usage.api"})
	}
}
