package compliance

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"mete/metering"
	"mete/partner"
	"mete/pricing"
)

// predicates find a rule in one rule of a contract: each says in words what it found,
// or nothing. They see only contract rules of the kinds and classes that rules.yaml
// names.
var predicates = map[string]func(*Case, *pricing.Rule) string{
	"certified-api-price":          certifiedPrice,
	"certified-api-percentage":     certifiedPercentage,
	"certified-api-cost-basis":     certifiedCostBasis,
	"certified-api-self-hosted":    certifiedSelfHosted,
	"certified-api-criterion":      competitionCriterion,
	"certified-api-quality":        certifiedQuality,
	"individual-access-fee":        individualAccessFee,
	"listing-fee":                  listingFee,
	"sandbox-or-documentation-fee": sandboxFee,
	"certification-gate":           certificationGate,
	"referral-remuneration":        referralRemuneration,
	"unequal-rates":                unequalRates,
	"criterion-of-competition":     competitionCriterion,
}

// certifiedPrice finds any price that a partner pays as an API user.
func certifiedPrice(c *Case, r *pricing.Rule) string {
	p := c.priceOf(r)
	if !p.charges {
		return ""
	}
	id := r.InformationSource
	if id == "" {
		return fmt.Sprintf("%s charges %s on certified_api%s, and %s pays it as the maker of an app", r.ID, p.text, c.unclassed(r), c.Terms.Partner)
	}
	if is := c.Customers[id].Partner; is != c.Terms.Partner {
		who := "names no partner"
		if is != "" {
			who = "names " + string(is)
		}
		return fmt.Sprintf("%s charges %s on certified_api for the information source %s, whose document %s and not %s: another's price is paid as the maker of an app",
			r.ID, p.text, id, who, c.Terms.Partner)
	}
	return ""
}

// certifiedPercentage finds percentages, and prices said to depend on revenue.
func certifiedPercentage(c *Case, r *pricing.Rule) string {
	p := c.priceOf(r)
	switch {
	case p.percent:
		return fmt.Sprintf("%s takes %s on certified_api%s", r.ID, p.text, c.unclassed(r))
	case p.charges && r.Criterion != nil && r.Criterion.Basis == pricing.BasisRevenue:
		return fmt.Sprintf("%s charges %s on certified_api%s by the criterion revenue: %s", r.ID, p.text, c.unclassed(r), r.Criterion.Text)
	}
	return ""
}

func certifiedCostBasis(c *Case, r *pricing.Rule) string {
	if p := c.priceOf(r); p.charges && r.CostBasis == "" {
		return fmt.Sprintf("%s charges %s for usage of certified_api%s and records no cost basis", r.ID, p.text, c.unclassed(r))
	}
	return ""
}

// certifiedSelfHosted finds usage prices for a practice that we do not host, or of
// which nobody said that we do.
func certifiedSelfHosted(c *Case, r *pricing.Rule) string {
	p := c.priceOf(r)
	if !p.charges || r.InformationSource == "" { // without a source it is the app's maker who pays: another rule
		return ""
	}
	switch c.Customers[r.InformationSource].Hosting {
	case partner.HostedByPlatform:
		return ""
	case partner.HostedBySelf:
		return fmt.Sprintf("%s charges %s for usage of certified_api by %s, which hosts itself", r.ID, p.text, r.InformationSource)
	}
	return fmt.Sprintf("%s charges %s for usage of certified_api by %s, and nobody recorded who hosts it", r.ID, p.text, r.InformationSource)
}

// certifiedQuality finds scorecards that move a price on the certified API. Its class
// is that of the rule it adjusts, see [Case.reaches].
func certifiedQuality(_ *Case, r *pricing.Rule) string {
	if b, ok := r.Body.(*pricing.Quality); ok {
		return fmt.Sprintf("%s moves the rate of %s on certified_api by the app's scorecard", r.ID, b.Adjusts)
	}
	return ""
}

func competitionCriterion(_ *Case, r *pricing.Rule) string {
	if cr := r.Criterion; cr != nil && (cr.Basis == pricing.BasisCompetition || cr.Basis == pricing.BasisExclusivity) {
		return fmt.Sprintf("%s depends on %s: %s", r.ID, cr.Basis, cr.Text)
	}
	return ""
}

// individualAccessFee finds prices on individuals' access: those whose rule says so,
// and, where the rule says nothing, prices of access for an app that gives it.
func individualAccessFee(c *Case, r *pricing.Rule) string {
	p := c.priceOf(r)
	if !p.charges {
		return ""
	}
	if is := r.IndividualAccess; is != nil {
		if *is {
			return fmt.Sprintf("%s charges %s for individuals' access to their own health information", r.ID, p.text)
		}
		return ""
	}
	if r.Kind != "usage_fee" && r.Kind != "share" && r.Kind != "pass_through" || !c.reaches(r, metering.API) && !c.reaches(r, metering.CertifiedAPI) {
		return ""
	}
	for _, id := range c.appsOf(r) {
		if c.Apps[id].IndividualAccess {
			return fmt.Sprintf("%s charges %s for %s, which gives individuals access to their own health information", r.ID, p.text, id)
		}
	}
	return ""
}

func listingFee(c *Case, r *pricing.Rule) string {
	if p := c.priceOf(r); p.charges && !c.Settings.FreeBasicListing {
		return fmt.Sprintf("%s charges %s for a listing, and the marketplace does not say that a basic listing is free", r.ID, p.text)
	}
	return ""
}

// developmentWords are what one needs to develop and deploy, in words of fee rules.
var developmentWords = regexp.MustCompile(`(?i)\b(sandbox(es)?|test(ing)? environments?|developer portal|api reference|documentation|docs)\b`)

var wordJoints = strings.NewReplacer("-", " ", "_", " ", ".", " ", "~", " ")

func sandboxFee(c *Case, r *pricing.Rule) string {
	p := c.priceOf(r)
	if !p.charges {
		return ""
	}
	for _, text := range c.wordsOf(r) {
		if word := developmentWords.FindString(wordJoints.Replace(text)); word != "" {
			return fmt.Sprintf("%s charges %s and speaks of %q", r.ID, p.text, word)
		}
	}
	return ""
}

// wordsOf are the texts of a rule by which people say what it is for.
func (c *Case) wordsOf(r *pricing.Rule) []string {
	words := []string{r.ID, r.Text}
	switch b := r.Body.(type) {
	case *pricing.UsageFee:
		words = append(words, b.Meter, c.Meters[b.Meter].Description)
	case *pricing.FixedFee:
		words = append(words, b.Reference)
		for name := range b.Amounts {
			words = append(words, name)
		}
		slices.Sort(words[3:])
	}
	return words
}

// certificationGate finds what certified access is said to depend on, and fees for
// certification of which nobody said that it does not.
func certificationGate(c *Case, r *pricing.Rule) string {
	p := c.priceOf(r)
	switch {
	case !p.charges || r.CertifiedAccess == pricing.AccessIndependent:
		return ""
	case r.CertifiedAccess == pricing.AccessRequired:
		return fmt.Sprintf("%s charges %s, and certified access depends on it", r.ID, p.text)
	case r.Class == metering.Certification:
		return fmt.Sprintf("%s charges %s for certification, and does not say that certified access is independent of it", r.ID, p.text)
	}
	return ""
}
