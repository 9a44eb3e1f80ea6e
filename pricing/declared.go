package pricing

import (
	"fmt"
	"maps"

	"mete/partner"
)

// Declared is what a rule says about itself for those who screen contracts. It prices
// nothing.
type Declared struct {
	CostBasis         string             `json:"cost_basis,omitempty"`         // where the costs are recorded that the price recovers
	Criterion         *Criterion         `json:"criterion,omitempty"`          // why the rate is what it is
	CertifiedAccess   string             `json:"certified_access,omitempty"`   // required | independent; empty: not said
	InformationSource partner.CustomerID `json:"information_source,omitempty"` // the practice, as which the partner pays; empty: it pays as the app's maker
	IndividualAccess  *bool              `json:"ehi_individual_access,omitempty"`
}

// Whether certified API access depends on what a rule charges.
const (
	AccessRequired    = "required"
	AccessIndependent = "independent"
)

// Criterion is on what a rate depends, for all parties alike.
type Criterion struct {
	Basis string `json:"basis"` // one of CriterionBases
	Text  string `json:"text"`  // the criterion, as a third person can verify it
}

// What a rate may be said to depend on. The last three are refused or flagged by
// screens; they can be written so that a contract can say what is so.
const (
	BasisCost          = "cost"
	BasisVolume        = "volume"
	BasisServiceLevel  = "service_level"
	BasisCertification = "certification"
	BasisTerm          = "term"
	BasisOther         = "other"
	BasisRevenue       = "revenue"
	BasisCompetition   = "competition"
	BasisExclusivity   = "exclusivity"
)

// CriterionBases are the words of [Criterion].
func CriterionBases() []string {
	return []string{BasisCost, BasisVolume, BasisServiceLevel, BasisCertification, BasisTerm, BasisOther,
		BasisRevenue, BasisCompetition, BasisExclusivity}
}

// maxDeclared bounds the text of a cost basis and of a criterion, in bytes.
const maxDeclared = 300

func readDeclared(c *contract, o *object) Declared {
	var d Declared
	if f, ok := o.get("cost_basis"); ok {
		d.CostBasis = f.sentence()
	}
	if f, ok := o.get("criterion"); ok {
		if g := c.object(f); g != nil {
			d.Criterion = &Criterion{}
			if h, ok := g.need("basis", "what the rate depends on, such as cost"); ok {
				d.Criterion.Basis, _ = h.oneOf(CriterionBases()...)
			}
			if h, ok := g.need("text", "the criterion, as a third person can verify it"); ok {
				d.Criterion.Text = h.sentence()
			}
			g.done()
		}
	}
	if f, ok := o.get("certified_access"); ok {
		d.CertifiedAccess, _ = f.oneOf(AccessRequired, AccessIndependent)
	}
	if f, ok := o.get("information_source"); ok {
		id, _ := f.id()
		d.InformationSource = partner.CustomerID(id)
	}
	if f, ok := o.get("ehi_individual_access"); ok {
		is := f.flag()
		d.IndividualAccess = &is
	}
	return d
}

// sentence is a text that is not empty and not too long.
func (v value) sentence() string {
	s, ok := v.text()
	switch {
	case ok && s == "":
		v.bad("is empty", "say it, or leave the field out")
	case len(s) > maxDeclared:
		v.bad(fmt.Sprintf("%d characters", len(s)), fmt.Sprintf("at most %d; name where the rest can be read", maxDeclared))
	}
	return s
}

// declare adds the fields of [Declared] to those of a rule.
func declare(fields schema) {
	sentence := func(doc string) schema {
		return described(doc, schema{"type": "string", "minLength": 1, "maxLength": maxDeclared})
	}
	maps.Copy(fields, schema{
		"cost_basis": sentence("where the costs are recorded that this price recovers"),
		"criterion": object1("on what the rate depends, for all parties alike", schema{
			"basis": enum("what it depends on", CriterionBases()...),
			"text":  sentence("the criterion, as a third person can verify it"),
		}.require("basis", "text")),
		"certified_access":      enum("whether access to the certified API depends on what this rule charges", AccessRequired, AccessIndependent),
		"information_source":    idSchema("the customer, a practice that deploys the certified API, as which the partner pays this; it pays as the maker of an app if left out"),
		"ehi_individual_access": boolean("whether this is a price on individuals' access to their own health information; the app says if left out"),
	})
}
