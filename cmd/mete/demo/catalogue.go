package demo

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

var zoneNames = []string{"America/Chicago", "America/New_York", "America/Los_Angeles"}

// zones are loaded once; the binary carries its own zone data.
var zones = func() []*time.Location {
	var out []*time.Location
	for _, name := range zoneNames {
		z, err := time.LoadLocation(name)
		if err != nil {
			panic("demo: internal error: " + err.Error())
		}
		out = append(out, z)
	}
	return out
}()

// apps are twenty apps over all tiers of risk; the numbers are weight of traffic and
// monthly price in cents.
var apps = []app{
	{"northwind-scheduler", "northwind", 3, 9, 24900},
	{"northwind-waitlist", "northwind", 2, 5, 9900},
	{"northwind-kiosk", "northwind", 1, 4, 7900},
	{"lumen-intake", "lumen", 2, 8, 19900},
	{"lumen-forms", "lumen", 1, 4, 5900},
	{"carebridge-portal", "carebridge", 4, 8, 29900},
	{"carebridge-messages", "carebridge", 3, 6, 14900},
	{"medscribe-notes", "medscribe", 5, 6, 34900},
	{"medscribe-dictate", "medscribe", 4, 4, 17900},
	{"clinipay-checkout", "clinipay", 3, 4, 12900},
	{"clinipay-plans", "clinipay", 2, 3, 8900},
	{"tidepool-refill", "tidepool-rx", 4, 4, 15900},
	{"tidepool-adherence", "tidepool-rx", 3, 3, 10900},
	{"baywell-outreach", "baywell", 2, 3, 9900},
	{"orchard-analytics", "orchard", 1, 3, 19900},
	{"helio-triage", "helio", 5, 2, 22900},
	{"tinyapp-reminders", "tinyapp", 1, 1, 190},
	{"pulsenote-vitals", "pulsenote", 4, 2, 9900},
	{"refera-match", "refera", 2, 2, 6900},
	{"refera-network", "refera", 1, 1, 4900},
}

type company struct {
	id, name, tier, group, zone string
	payee                       string // YAML flow mapping
}

const payeeForm = `{rail: manual, account: %s, last4: "%s", confirmed_on: 2026-01-15, tax_form: W-9, screened_on: 2026-10-05, currency: USD}`

func payable(account, last4 string) string { return fmt.Sprintf(payeeForm, account, last4) }

var companies = []company{
	{"northwind", "Northwind Scheduling LLC", "strategic", "", zoneNames[0], payable("Northwind-operating", "4417")},
	{"lumen", "Lumen Intake Inc", "strategic", "lumen-group", zoneNames[1], payable("Lumen-operating", "9902")},
	{"carebridge", "CareBridge Systems Inc", "strategic", "", zoneNames[1], payable("CareBridge-main", "1180")},
	{"medscribe", "MedScribe AI Corp", "grow", "", zoneNames[2], payable("MedScribe-revenue", "2201")},
	{"clinipay", "CliniPay Inc", "grow", "", zoneNames[0], payable("CliniPay-partner", "6618")},
	{"tidepool-rx", "Tidepool Rx LLC", "grow", "", zoneNames[2], payable("Tidepool-operating", "0457")},
	{"baywell", "Baywell Health Inc", "grow", "lumen-group", zoneNames[1], payable("Baywell-main", "3306")},
	{"orchard", "Orchard Analytics LLC", "build", "", zoneNames[0],
		`{rail: manual, account: Orchard-new, last4: "7781", confirmed_on: 2026-10-14, changed_on: 2026-10-13, tax_form: W-9, screened_on: 2026-10-05, currency: USD}`},
	{"helio", "Helio Triage GmbH", "build", "", zoneNames[1],
		`{rail: manual, account: Helio-main, last4: "5520", confirmed_on: 2026-02-01, screened_on: 2026-10-05, currency: USD}`},
	{"tinyapp", "TinyApp Studio", "build", "", zoneNames[2], payable("TinyApp-main", "9013")},
	{"pulsenote", "PulseNote Inc", "build", "", zoneNames[0], payable("PulseNote-main", "6642")},
	{"refera", "Refera Network LLC", "build", "", zoneNames[0], payable("Refera-main", "7345")},
}

var practiceNames = []string{"Cedar", "Lakeside", "Harbor", "Summit", "Prairie", "Maple", "Riverbend", "Stonegate", "Willow", "Bayview"}
var practiceKinds = []string{"Family Medicine", "Pediatrics", "Cardiology", "Orthopedics", "Dermatology", "Internal Medicine"}

func (g *generator) makePractices() {
	for n := range 60 {
		p := practice{
			id: fmt.Sprintf("practice-%02d", n+1), zone: zoneNames[n%len(zoneNames)],
			name: practiceNames[n%len(practiceNames)] + " " + practiceKinds[n%len(practiceKinds)],
		}
		for a, app := range g.apps {
			if g.rand.IntN(24) < app.weight+2 {
				p.apps = append(p.apps, a)
			}
		}
		if len(p.apps) == 0 {
			p.apps = []int{0}
		}
		g.practices = append(g.practices, p)
	}
}

func (g *generator) writeCatalogue(w *World) error {
	files := map[string]string{
		"marketplace.yaml": marketplaceYAML,
		"partners.yaml":    partnersYAML(),
		"apps.yaml":        appsYAML(),
		"customers.yaml":   g.customersYAML(),
	}
	for _, c := range companies {
		files["contract-"+c.id+".yaml"] = contractYAML(c)
		w.Contracts = append(w.Contracts, c.id+"-agreement")
		w.Partners = append(w.Partners, c.id)
	}
	if err := os.MkdirAll(w.Catalogue, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(w.Catalogue, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

const marketplaceYAML = `marketplace: meridian-us
name: Meridian EHR Marketplace
zone: America/Chicago
currency: USD
contact: partners@meridian.example
close: {lag: 3 days}
pay: {issue: 10, day: 20, calendar: us-banks}
processors: {stripe: {name: Stripe}}
rails: {manual: {account: Meridian operating, last4: "0031"}}
---
holidays: us-banks
name: US federal holidays
days:
  2026-09-07: Labor Day
  2026-10-12: Columbus Day
  2026-11-11: Veterans Day
  2026-11-26: Thanksgiving
  2026-12-25: Christmas
---
meters:
  - {id: api_calls, description: API calls that did not fail, type: usage.api, class: api, aggregate: count, status_below: 400, unit: call}
  - {id: api_bytes, description: bytes sent by the API, type: usage.api, class: api, aggregate: bytes, status_below: 400, unit: byte}
---
sources:
  - {name: gateway-nginx, kind: gateway, owner: gateway, mapping: nginx, class: api, silent_after: 2 days}
  - {name: gateway-traefik, kind: gateway, owner: gateway, mapping: traefik, class: api, silent_after: 2 days}
  - {name: gateway-caddy, kind: gateway, owner: gateway, mapping: caddy, class: api, silent_after: 2 days}
  - {name: billing, kind: billing, owner: billing}
  - {name: registry, kind: certification, owner: registry}
  - {name: servicedesk, kind: support, owner: registry}
  - {name: crm, kind: marketplace, owner: crm}
---
referral_codes:
  - {code: REFERA10, partner: refera}
`

func partnersYAML() string {
	var b strings.Builder
	b.WriteString("partners:\n")
	for _, c := range companies {
		fmt.Fprintf(&b, "  - id: %s\n    name: %s\n    tier: %s\n", c.id, c.name, c.tier)
		if c.group != "" {
			fmt.Fprintf(&b, "    account_group: %s\n", c.group)
		}
		fmt.Fprintf(&b, "    payee: %s\n", c.payee)
	}
	return b.String()
}

func appsYAML() string {
	var b strings.Builder
	b.WriteString("apps:\n")
	for _, a := range apps {
		fmt.Fprintf(&b, "  - {id: %s, partner: %s, name: %s, certification_tier: %d}\n", a.id, a.partner, strings.ReplaceAll(a.id, "-", " "), a.tier)
	}
	return b.String()
}

func (g *generator) customersYAML() string {
	var b strings.Builder
	b.WriteString("customers:\n")
	for _, p := range g.practices {
		fmt.Fprintf(&b, "  - {id: %s, name: %s, zone: %s}\n", p.id, p.name, p.zone)
	}
	return b.String()
}

// contractYAML is the agreement with a company: strategic partners share on a ladder
// since a date, growing ones pay a rate and usage fees, building ones start free.
func contractYAML(c company) string {
	var own []string
	for _, a := range apps {
		if a.partner == c.id {
			own = append(own, a.id)
		}
	}
	head := fmt.Sprintf("contract: %s-agreement\npartner: %s\napps: [%s]\ncurrency: USD\nzone: %s\neffective: {from: 2026-07-01}\ncollects: platform\npresentation: agent\nprocessor: stripe\n",
		c.id, c.id, strings.Join(own, ", "), c.zone)
	per := "partner"
	if c.group != "" {
		per = "group"
	}
	switch c.tier {
	case "strategic":
		return head + fmt.Sprintf(strategicRules, per)
	case "grow":
		if c.group != "" {
			return head + fmt.Sprintf(strategicRules, per)
		}
		return head + growRules
	}
	return head + cmp.Or(map[string]string{"refera": referaRules}[c.id], buildRules)
}

const strategicRules = `payout: {minimum: 25.00, reserve: {rate: 5%%, of: proceeds, release_after: 60 days}}
rules:
  - id: subscriptions
    kind: share
    of: sale.paid
    class: marketplace
    text: Subscriptions
    platform:
      tiers: {mode: graduated, on: gross, window: lifetime since 2026-07-01, per: %s}
      steps: [{to: 10_000, rate: 0%%}, {to: 25_000, rate: 12%%}, {rate: 15%%}]
    refunds: at_original_rate
  - id: api-calls
    kind: usage_fee
    meter: api_calls
    class: api
    text: API calls
    price: {model: graduated, steps: [{to: 2_000, unit: 0}, {to: 8_000, unit: 0.004}, {unit: 0.0025}]}
  - id: certification
    kind: fixed_fee
    class: certification
    due: fee.due
    text: Certification renewal
  - id: quality
    kind: quality
    adjusts: subscriptions
    bands:
      - {when: certification.overdue_days > 30, platform_rate: +5 points}
      - {when: availability >= 0.995 && incidents.open == 0, platform_rate: -2 points}
    bounds: {min: 8%%, max: 25%%}
    not_scored_below: 500 calls
`

const growRules = `payout: {minimum: 25.00}
rules:
  - id: subscriptions
    kind: share
    of: sale.paid
    class: marketplace
    text: Subscriptions
    platform: {rate: 18%}
    refunds: at_original_rate
  - id: api-calls
    kind: usage_fee
    meter: api_calls
    class: api
    text: API calls
    price: {model: per_unit, unit: 0.0035}
  - id: certification
    kind: fixed_fee
    class: certification
    due: fee.due
    text: Certification renewal
  - id: quality
    kind: quality
    adjusts: subscriptions
    bands:
      - {when: certification.state == "re-review", platform_rate: +3 points}
    bounds: {min: 10%, max: 25%}
    not_scored_below: 500 calls
`

const buildRules = `payout: {minimum: 25.00}
rules:
  - id: subscriptions
    kind: share
    of: sale.paid
    class: marketplace
    text: Subscriptions
    platform:
      tiers: {mode: graduated, on: net, window: year, per: partner}
      steps: [{to: 5_000, rate: 5%}, {rate: 20%}]
    refunds: reduce_base
  - id: listing
    kind: fixed_fee
    class: listing
    due: monthly
    amount: 49.00
    text: Listing
  - id: quality
    kind: quality
    adjusts: subscriptions
    bands:
      - {when: certification.overdue_days > 30, platform_rate: +5 points}
    bounds: {min: 5%, max: 25%}
    not_scored_below: 500 calls
`

const referaRules = `payout: {minimum: 25.00}
rules:
  - id: subscriptions
    kind: share
    of: sale.paid
    class: marketplace
    text: Subscriptions
    platform: {rate: 20%}
    refunds: platform_keeps_share
  - id: referrals
    kind: referral
    from: platform
    to: partner
    percent: 10%
    of: sale.paid
    attributes: lead
    touch: first
    window: 60 days
    term: 12 months
    clawback: 90 days
    text: Referred practices
`
