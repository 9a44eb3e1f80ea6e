// Package partner holds who takes part in a marketplace: partners and their
// payees, apps, customers (practices) and leads.
//
// It refuses to know prices, events or balances; it is a leaf of words that every
// other package shares. Read [Partner] first.
package partner

import (
	"fmt"
	"regexp"
	"time"

	"mete/money"
	"mete/period"
)

// ID names a partner, such as northwind.
type ID string

// AppID names an app of a partner, such as northwind-scheduler.
type AppID string

// CustomerID names a customer of the marketplace: a practice, never a patient.
type CustomerID string

// Platform is the party that runs the marketplace. No partner may take this ID.
const Platform ID = "platform"

// idForm keeps IDs usable in file names and URLs: the unreserved characters of RFC
// 3986, lower case.
var idForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._~-]{0,62}$`)

// CheckID reports why s cannot name a partner, an app or a customer: want lower-case
// letters, digits, '-', '_', '.' and '~', at most 63 characters.
func CheckID(s string) error {
	if !idForm.MatchString(s) {
		return fmt.Errorf("%q is no identifier: use lower-case letters, digits, '-', '_', '.' or '~', at most 63 characters", s)
	}
	return nil
}

// Tier is a partner's standing in the marketplace.
type Tier string

// The partner tiers of the programme.
const (
	Build     Tier = "build"
	Grow      Tier = "grow"
	Strategic Tier = "strategic"
)

// Tiers are the tiers of the programme, lowest first.
var Tiers = []Tier{Build, Grow, Strategic}

// Partner is a company that sells through, builds for or refers to the marketplace.
type Partner struct {
	ID           ID     `json:"id" yaml:"id"`
	Name         string `json:"name" yaml:"name"`
	Tier         Tier   `json:"tier,omitempty" yaml:"tier,omitempty"`
	AccountGroup string `json:"account_group,omitempty" yaml:"account_group,omitempty"` // partners under common control share tiers
	Payee        Payee  `json:"payee,omitempty" yaml:"payee,omitempty"`
	Type         Type   `json:"type,omitempty" yaml:"type,omitempty"` // empty: not said
}

// Type is what sort of organisation a partner is, where that matters to a screen of
// its contracts.
type Type string

// The types of partners.
const (
	Developer    Type = "developer"    // makes apps, and is none of the others
	Provider     Type = "provider"     // treats patients: a practice, a hospital, a pharmacy, a laboratory
	Manufacturer Type = "manufacturer" // makes or sells drugs, devices, biologicals or medical supplies
	OtherType    Type = "other"
)

// Payee is where and under which conditions a partner may be paid. It holds facts
// with dates, never secrets: an account is known by its last four digits and the
// name the rail has for it.
type Payee struct {
	Rail             string         `json:"rail,omitempty" yaml:"rail,omitempty"`                 // manual | stripe | ach
	Account          string         `json:"account,omitempty" yaml:"account,omitempty"`           // the rail's name of the account
	Last4            string         `json:"last4,omitempty" yaml:"last4,omitempty"`               // as printed, ****4417
	ConfirmedOn      period.Date    `json:"confirmed_on,omitempty" yaml:"confirmed_on,omitempty"` // account proven to belong to the payee
	ChangedOn        period.Date    `json:"changed_on,omitempty" yaml:"changed_on,omitempty"`     // last change of bank details
	TaxForm          string         `json:"tax_form,omitempty" yaml:"tax_form,omitempty"`         // W-9, W-8BEN-E; empty = none on file
	TaxFormExpiresOn period.Date    `json:"tax_form_expires_on,omitempty" yaml:"tax_form_expires_on,omitempty"`
	ScreenedOn       period.Date    `json:"screened_on,omitempty" yaml:"screened_on,omitempty"` // last clean screening (OFAC, LEIE)
	Currency         money.Currency `json:"currency,omitempty" yaml:"currency,omitempty"`
	WithholdFrom     period.Date    `json:"withhold_from,omitzero" yaml:"withhold_from,omitempty"` // tax is kept back from payouts of this day and later
}

// App is a product of one partner that customers use through the platform.
type App struct {
	ID                AppID  `json:"id" yaml:"id"`
	Partner           ID     `json:"partner" yaml:"partner"`
	Name              string `json:"name" yaml:"name"`
	CertificationTier int    `json:"certification_tier" yaml:"certification_tier"` // 1 (least risk) to 5

	// For a screen of contracts; false also stands for: not said.
	IndividualAccess bool `json:"ehi_individual_access,omitempty" yaml:"ehi_individual_access,omitempty"` // gives persons access to their own health information
	SteersOrders     bool `json:"steers_orders,omitempty" yaml:"steers_orders,omitempty"`                 // proposes or ranks what a provider may order or whom to refer to
}

// Customer is a practice or other organisation that buys and uses apps.
type Customer struct {
	ID   CustomerID `json:"id" yaml:"id"`
	Name string     `json:"name" yaml:"name"`
	Zone string     `json:"zone,omitempty" yaml:"zone,omitempty"` // IANA name

	// As an API information source, for a screen of contracts.
	Hosting Hosting `json:"hosting,omitempty" yaml:"hosting,omitempty"` // who runs its certified API; empty: not said
	Partner ID      `json:"partner,omitempty" yaml:"partner,omitempty"` // the partner that is this very organisation, if one is
}

// Hosting is who runs the certified API of a practice.
type Hosting string

// Who may host.
const (
	HostedByPlatform Hosting = "platform"
	HostedBySelf     Hosting = "self" // the practice itself, or somebody it pays
)

// ReferralCode ties a code that a partner hands out to the partner.
type ReferralCode struct {
	Code    string `json:"code" yaml:"code"`
	Partner ID     `json:"partner" yaml:"partner"`
}

// Lead is what the events of one lead say together, folded in time order.
type Lead struct {
	ID          string     `json:"id"`
	Referrer    ID         `json:"referrer"`
	Customer    CustomerID `json:"customer"`
	App         AppID      `json:"app,omitempty"`
	QualifiedAt time.Time  `json:"qualified_at,omitzero"`
	ConvertedAt time.Time  `json:"converted_at,omitzero"`
	CancelledAt time.Time  `json:"cancelled_at,omitzero"`
}
