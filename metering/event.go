// Package metering owns what happened: events, the meters that read them, and the
// store that counts each one once, forever.
//
// It refuses to know prices, contracts and money owed. An [Event] enters through
// a [Gate] (accept-list, bounds, PHI guard), is kept by a [Store], and leaves as
// [Usage] and [Transaction]. Read [Store] first: its promises are what the rest of
// the product stands on.
package metering

import (
	"time"

	"github.com/shopspring/decimal"

	"mete/money"
	"mete/partner"
)

// Key is the identity of an event: the first 128 bits of SHA-256 over the
// length-prefixed source and id.
type Key [16]byte

// Hash is the SHA-256 of an event's canonical content as sent.
type Hash [32]byte

// Class is the legal and commercial kind of an activity; law treats them
// differently (45 CFR 170.404 for certified_api).
type Class string

// The classes of activity.
const (
	CertifiedAPI  Class = "certified_api"
	API           Class = "api"
	ValueAdded    Class = "value_added"
	Listing       Class = "listing"
	Marketplace   Class = "marketplace"
	Placement     Class = "placement"
	Referral      Class = "referral"
	Certification Class = "certification"
	Support       Class = "support"
)

// Environment tells production from sandbox; sandbox is metered, never billed.
type Environment string

// The environments. Absent is production.
const (
	Production Environment = "production"
	Sandbox    Environment = "sandbox"
)

// The types of events.
const (
	UsageAPI           = "usage.api"
	UsageVoided        = "usage.voided"
	SalePaid           = "sale.paid"
	SaleInvoiced       = "sale.invoiced"
	SaleRefunded       = "sale.refunded"
	SaleChargedBack    = "sale.charged_back"
	SaleChargebackWon  = "sale.chargeback_won"
	SaleChargebackLost = "sale.chargeback_lost"
	SaleWrittenOff     = "sale.written_off"
	LeadQualified      = "lead.qualified"
	LeadConverted      = "lead.converted"
	LeadCancelled      = "lead.cancelled"
	FeeDue             = "fee.due"
	AppRegistered      = "app.registered"
	AppInstalled       = "app.installed"
	AppUninstalled     = "app.uninstalled"
	ScopeChanged       = "scope.changed"
	ReviewSubmitted    = "review.submitted"
	ReviewDecided      = "review.decided"
	ExceptionGranted   = "exception.granted"
	ExceptionClosed    = "exception.closed"
	IncidentOpened     = "incident.opened"
	IncidentClosed     = "incident.closed"
	SupportOpened      = "support.opened"
	SupportAnswered    = "support.answered"
	SupportClosed      = "support.closed"
)

// Event is one fact: a CloudEvent 1.0 reduced to its accept-listed form. Nothing
// else of what was sent is kept. Times are UTC to the microsecond.
type Event struct {
	ID         string             `json:"id"`
	Source     string             `json:"source"`
	Type       string             `json:"type"`
	Time       time.Time          `json:"time"`
	TimeAbsent bool               `json:"time_absent,omitempty"` // no time was sent: Time is the first acceptance
	Customer   partner.CustomerID `json:"subject,omitempty"`
	Data       Data               `json:"data"`
}

// Data is the closed body of an event. Decimal quantities have at most
// [MaxQuantityPlaces] decimals; amounts have at most their currency's.
type Data struct {
	App         partner.AppID     `json:"app,omitempty"`
	Operation   string            `json:"operation,omitempty"`
	Class       Class             `json:"class,omitempty"`
	Quantity    *decimal.Decimal  `json:"quantity,omitempty"` // absent = 1
	Unit        string            `json:"unit,omitempty"`
	Amount      *decimal.Decimal  `json:"amount,omitempty"` // major units, before tax
	TaxAmount   *decimal.Decimal  `json:"tax_amount,omitempty"`
	Fee         *decimal.Decimal  `json:"fee,omitempty"`
	Currency    money.Currency    `json:"currency,omitempty"`
	Status      int               `json:"status,omitempty"` // HTTP status or 0
	LatencyMS   *decimal.Decimal  `json:"latency_ms,omitempty"`
	Bytes       int64             `json:"bytes,omitempty"`
	Environment Environment       `json:"environment,omitempty"`
	Deal        string            `json:"deal,omitempty"`
	Lead        string            `json:"lead,omitempty"`
	RefersTo    string            `json:"refers_to,omitempty"` // id of an earlier event of the same source
	Reference   string            `json:"reference,omitempty"`
	Region      string            `json:"region,omitempty"` // tax jurisdiction, such as us-tx
	PaidMonths  int               `json:"paid_months,omitempty"`
	Dimensions  map[string]string `json:"dimensions,omitempty"` // declared by a meter
}

// MaxQuantityPlaces is the finest quantity that is counted exactly.
const MaxQuantityPlaces = 9

// Position is where an accepted event lies in the stream: the incarnation of the
// stream (counted by the store, from 1), the partition, the sequence of its message
// in the partition and its index inside the message.
type Position struct {
	Incarnation int    `json:"incarnation"`
	Partition   int    `json:"partition"`
	Sequence    uint64 `json:"sequence"`
	Index       int    `json:"index"`
}

// Accepted is an event that passed validation and lies in the stream.
type Accepted struct {
	Event
	Key        Key       `json:"-"`
	Hash       Hash      `json:"-"`
	Position   Position  `json:"position"`
	AcceptedAt time.Time `json:"accepted_at"`

	Overwritten *Overwritten `json:"-"` // nil but in blocks that [History] gives
}

// Overwritten is what is left of an event as it was sent, once redactions have overwritten
// it and it is given to another store. Its key and hash are those of what was sent.
type Overwritten struct {
	By     []string // the redactions' IDs; the store that takes it must know them
	Target Key      // of a usage.voided: the event that it takes out
}

// Target is the key of the event that a usage.voided takes out.
func (a *Accepted) Target() Key {
	if a.Overwritten != nil {
		return a.Overwritten.Target
	}
	return KeyOf(a.Source, a.Data.RefersTo)
}
