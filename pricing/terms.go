package pricing

import (
	"time"

	"github.com/shopspring/decimal"

	"mete/metering"
	"mete/money"
	"mete/partner"
	"mete/period"
)

// Terms is one version of a contract, decoded and checked. It is immutable once in
// force; Version counts the versions of one Contract from 1 and is set by who keeps
// them.
type Terms struct {
	Contract     string             `json:"contract"`
	Version      int                `json:"version"`
	Partner      partner.ID         `json:"partner"`
	Apps         []partner.AppID    `json:"apps,omitempty"`
	Deal         string             `json:"deal,omitempty"`     // only sales of this deal
	Customer     partner.CustomerID `json:"customer,omitempty"` // only this customer's events
	Currency     money.Currency     `json:"currency"`
	Zone         *time.Location     `json:"-"`
	ZoneName     string             `json:"zone"`
	From         period.Date        `json:"from"`
	Until        period.Date        `json:"until,omitempty"` // exclusive; zero: open
	Collects     string             `json:"collects"`        // platform | partner: who takes the customers' money
	Presentation string             `json:"presentation"`    // agent | principal: our income is the share, or the sale
	Processor    string             `json:"processor"`       // who takes the customers' money for us
	FX           *FX                `json:"fx,omitempty"`    // nil: amounts in other currencies are not priced
	Round        Rounding           `json:"round"`
	LateLimit    int                `json:"late_limit_months"`     // 0: none; see LateLimitIn
	NamesLimit   bool               `json:"-"`                     // the document names a late limit, be it 0; left out of the JSON, which holds the document
	Notice       int                `json:"notice_days,omitempty"` // other terms are told of so many days before they begin; 0: nothing is promised
	Payout       PayoutTerms        `json:"payout"`
	Rules        []Rule             `json:"rules"`
	Restart      bool               `json:"restart,omitempty"` // tiers: restart
	Document     string             `json:"document"`          // the YAML it was decoded from

	idle Problems // see Idle
}

// Idle are the clauses that the document holds and nothing acts on. They are read, so
// that terms in force stay what they are; new terms that hold one are to be refused.
func (t *Terms) Idle() Problems { return t.idle }

// Rounding says how a line's exact amount becomes money.
type Rounding struct {
	Per    string     `json:"per"` // line | transaction
	Mode   money.Mode `json:"mode"`
	Places *int32     `json:"places,omitempty"` // nil: the currency's
}

// PayoutTerms say when what was earned may be paid. Where a partner has several
// contracts, see [PayoutOf] and [DueOf].
type PayoutTerms struct {
	Minimum *money.Amount `json:"minimum,omitempty"`
	Keep    *money.Amount `json:"keep,omitempty"` // stays on the account
	Reserve *Reserve      `json:"reserve,omitempty"`
	Due     *DueTerms     `json:"due,omitempty"`    // nil: the marketplace's pay day
	SetOff  bool          `json:"setoff,omitempty"` // where the partner collects: what it owes us is taken from what we owe; else idle
}

// Reserve is a part of the month kept back, computed and posted at close.
type Reserve struct {
	Rate         decimal.Decimal `json:"rate"`               // 0.05
	Of           string          `json:"of"`                 // proceeds | net_sales | earned
	ReleaseAfter int             `json:"release_after_days"` // after the month's last day
}

// Rule is one rule of a contract. Kind names a file rule_<kind>.go; the kind's own
// terms are in Body.
type Rule struct {
	ID    string          `json:"id"`
	Kind  string          `json:"kind"`
	Class metering.Class  `json:"class,omitempty"`
	Apps  []partner.AppID `json:"apps,omitempty"` // empty: the contract's
	Text  string          `json:"text,omitempty"` // what the statement calls it
	Body  any             `json:"body"`

	Declared `json:"declared,omitzero"`
	Line     int `json:"-"` // where it begins in the document, counted from 1
}
