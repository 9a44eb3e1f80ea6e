// Package pricing turns usage and sales into lines under the terms of contracts.
//
// It is pure: no clock, no store, no network, no goroutine. Everything a price
// depends on is in [Input], which can be written down and digested; the same Input
// gives the same [Result] for ever. It refuses to know ledgers, statements and who
// approved what. Read [Price] first, then one rule_<kind>.go.
package pricing

import (
	"time"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
)

// Input is all that one month of one scope group is priced from. Contracts that are
// connected by an account group, a split or a referral are one scope group.
type Input struct {
	Group      string            `json:"group"`
	Month      period.Month      `json:"month"`
	Segments   []Segment         `json:"segments"`   // in order of contract and start
	Before     []Total           `json:"before"`     // After of the month before
	Originals  []Attribution     `json:"originals"`  // what was attributed to earlier sales that this month's refunds name
	Leads      []partner.Lead    `json:"leads"`      // as known at the cutoff
	Scorecards []Scorecard       `json:"scorecards"` // of the group's apps, frozen; none: not scored
	Meters     []metering.Meter  `json:"meters"`
	Apps       []partner.App     `json:"apps"`                     // apps the group's events may name
	Partners   []partner.Partner `json:"partners"`                 // parties of the group's contracts
	Rates      []ExchangeRate    `json:"exchange_rates,omitempty"` // those that amounts in other currencies are converted at, see GatherRates
}

// Segment is the part of the month in which one version of a contract is in force,
// with what happened in it. Usage and Transactions are those of the contract's apps,
// and for referral rules those of the customers' other apps too.
type Segment struct {
	Terms        *Terms                 `json:"terms"`
	Period       period.Period          `json:"period"`
	Usage        []metering.Usage       `json:"usage"`        // any order
	Transactions []metering.Transaction `json:"transactions"` // in (time, key) order
}

// Result is what Price says: lines, next month's Before, and what became of every
// event that was put in.
type Result struct {
	Lines        []Line        `json:"lines"`
	After        []Total       `json:"after"`
	Attributions []Attribution `json:"attributions"` // one per sale and share rule
	Counted      []Counted     `json:"counted"`
	NoRates      []MissingRate `json:"no_rates,omitempty"` // amounts in other currencies that no rate was there for
	Taken        []Branch      `json:"-"`                  // the ways that rules went, sorted: what a test of terms has seen, no part of a price
}

// Total is a running figure that outlives a month: how far a tier scope has come,
// whether a one-time fee was charged.
type Total struct {
	Contract string          `json:"contract"`
	Rule     string          `json:"rule"`
	What     string          `json:"what"`            // quantity | gross | net | charged | …
	Scope    string          `json:"scope"`           // partner:P | group:G | app:A | customer:C | deal:D
	Since    period.Date     `json:"since,omitempty"` // first day of its window
	Value    decimal.Decimal `json:"value"`
}

// Attribution is the platform's exact, unrounded part of one sale under one rule.
// A refund at the original rate gives back its proportion.
type Attribution struct {
	Sale     metering.Key       `json:"sale"`
	Source   string             `json:"source"`
	ID       string             `json:"id"`
	Contract string             `json:"contract"`
	Rule     string             `json:"rule"`
	App      partner.AppID      `json:"app"`
	Customer partner.CustomerID `json:"customer,omitempty"`
	Month    period.Month       `json:"month"`
	Amount   decimal.Decimal    `json:"amount"`   // of the sale, before tax
	Fee      decimal.Decimal    `json:"fee"`      // the platform's part, quality not included
	Adjusted decimal.Decimal    `json:"adjusted"` // with the quality adjustment

	PaidMonths int    `json:"paid_months,omitempty"` // where paid months decide the rate
	Deal       string `json:"deal,omitempty"`        // where tiers run per deal

	Exchange *Exchange `json:"exchange,omitempty"` // at which the sale was converted
}

// Counted says what became of events of one app and type: the counts of a contract's
// Counted add up to the counts of its segments' Usage cells. Events of apps that a
// contract does not cover, given to it for a referral, are elsewhere: they count
// where their own contract is priced. So are sales of its apps that another contract
// of its partner has.
type Counted struct {
	Contract string         `json:"contract"` // of the segment whose Usage held the cell
	App      partner.AppID  `json:"app"`
	Type     string         `json:"type"`
	Class    metering.Class `json:"class,omitempty"`
	Events   int64          `json:"events"`
	State    string         `json:"state"` // priced | fact | sandbox | unpriced | elsewhere
	Why      string         `json:"why,omitempty"`
	Rules    []string       `json:"rules,omitempty"` // contract/rule that priced them
}

// LineKey is a rounding key: amounts under one key are summed exactly and rounded
// once. Differences of a closed month are computed per key.
type LineKey struct {
	Contract string         `json:"contract"`
	Rule     string         `json:"rule"`
	Part     string         `json:"part"`  // see Parts
	Scope    string         `json:"scope"` // scope instance, "" when the rule has only one
	Month    period.Month   `json:"month"`
	Currency money.Currency `json:"currency"`
	Party    partner.ID     `json:"party"`
}

// Line is one amount on a party's account and how it came about. The amount is seen
// from the party: positive = you get, negative = you are charged.
type Line struct {
	LineKey
	Kind        string          `json:"kind"`         // of the rule
	Of          string          `json:"of,omitempty"` // of a rule that follows others: the part of what it changes
	Version     int             `json:"version"`
	Payer       partner.ID      `json:"payer"` // the other side: partner.Platform or a partner
	Class       metering.Class  `json:"class,omitempty"`
	Text        string          `json:"text"`
	Count       int64           `json:"count"`               // events behind it
	Quantity    decimal.Decimal `json:"quantity,omitzero"`   // metered quantity, usage lines
	Base        *money.Amount   `json:"base,omitempty"`      // money a rate was applied to
	Rate        string          `json:"rate,omitempty"`      // as a person writes it: 15%, -2 pts, 0.0004
	Exact       decimal.Decimal `json:"exact"`               // before rounding, same sign as Amount
	Amount      money.Amount    `json:"amount"`              // rounded once
	Taxes       []Tax           `json:"taxes,omitempty"`     // collected with the sales or given back, same sign as Amount
	Exchanged   []Exchanged     `json:"exchanged,omitempty"` // the amounts behind it that came in other currencies
	Allocations []Allocation    `json:"allocations,omitempty"`
	Derivation  []Step          `json:"derivation,omitempty"`
	Notes       []string        `json:"notes,omitempty"`     // not scored: no scorecard …
	Unpaid      *money.Amount   `json:"unpaid,omitempty"`    // accrued: the change of what customers have not paid, tax included
	Contested   *Contested      `json:"contested,omitempty"` // of chargebacks
	Deferral    *Deferral       `json:"deferral,omitempty"`  // of a fee that is earned over months
	Events      Selection       `json:"events"`
}

// Tax is tax that belongs to a jurisdiction, never to a party. It is in the currency in
// which it was collected, and never converted: it is owed in that one.
type Tax struct {
	Jurisdiction string       `json:"jurisdiction"`
	Amount       money.Amount `json:"amount"`
}

// Allocation is the part of a line that falls to one app and customer, by largest
// remainder; allocations add up to the line.
type Allocation struct {
	App      partner.AppID      `json:"app,omitempty"`
	Customer partner.CustomerID `json:"customer,omitempty"`
	Events   int64              `json:"events"`
	Amount   money.Amount       `json:"amount"`
}

// Step is one multiplication of a derivation: Of × Times = Is, all exact. The sum of
// all Is is the line's Exact.
type Step struct {
	What  string          `json:"what"` // first 1,000,000.00 at 0%
	Of    decimal.Decimal `json:"of"`
	Times decimal.Decimal `json:"times"`
	Is    decimal.Decimal `json:"is"`
}

// Selection names the events behind a line so that they can be listed from the
// metering store.
type Selection struct {
	Period      period.Period      `json:"period"`
	Types       []string           `json:"types"`
	Apps        []partner.AppID    `json:"apps,omitempty"`
	Customer    partner.CustomerID `json:"customer,omitempty"`
	Class       metering.Class     `json:"class,omitempty"`
	Operations  []string           `json:"operations,omitempty"`
	StatusBelow int                `json:"status_below,omitempty"`
}

// Scorecard is an app's measures of one month, frozen at close with the inputs they
// were computed from. A nil measure has no data.
type Scorecard struct {
	App             partner.AppID    `json:"app"`
	Month           period.Month     `json:"month"`
	Calls           int64            `json:"calls"`
	Failed          int64            `json:"failed"` // status 5xx
	Slow            int64            `json:"slow"`
	Availability    *decimal.Decimal `json:"availability,omitempty"` // 1 − failed ÷ calls
	Within          *decimal.Decimal `json:"within,omitempty"`       // share of calls not slow
	ActiveCustomers int64            `json:"active_customers"`
	Certification   Certification    `json:"certification"`
	Standings       []Standing       `json:"standings,omitempty"` // of the month's days, if they differ
	ExceptionsOpen  int64            `json:"exceptions_open"`
	IncidentsOpened int64            `json:"incidents_opened"` // in the month
	IncidentsOpen   int64            `json:"incidents_open"`   // at month end
	SupportAnswered int64            `json:"support_answered"`
	SupportOpen     int64            `json:"support_open"`
	Corrections     []Correction     `json:"corrections,omitempty"` // by appeals, in the order they were opened
	Appealed        []Appealed       `json:"appealed,omitempty"`    // measures under appeal when it was frozen
	FrozenAt        time.Time        `json:"frozen_at,omitzero"`    // not part of a statement

	// PartnerTier is that of the app's partner, for conditions. It is no measure of the app
	// and not kept with it: pricing takes it from the month's partners.
	PartnerTier partner.Tier `json:"-"`
}

// Appealed is a measure whose appeal was open when the card was frozen.
type Appealed struct {
	Appeal  string `json:"appeal"`
	Measure string `json:"measure"`
}

// Certification is an app's standing at month end.
type Certification struct {
	Tier        int         `json:"tier"`  // 1 to 5
	State       string      `json:"state"` // valid | due | overdue | re-review | suspended | none
	DueOn       period.Date `json:"due_on,omitempty"`
	OverdueDays int         `json:"overdue_days"`
}
