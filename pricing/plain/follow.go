package plain

import (
	"fmt"

	"github.com/shopspring/decimal"

	"mete/pricing"
)

// limit says how long a limit's window is, and whether it is prorated.
func (w *writer) limit(m pricing.Limit) {
	if m.Prorate != "" {
		w.say("prorate", "In a window that is in force in part, the amount is for the days in force.")
	}
}

func (w *writer) on(ids []string) string { return codes(ids) }

func (w *writer) cap(b *pricing.Cap) {
	w.say("maximum", "%s together charge at most %s %s; what is beyond is given back.", sentence("the rules "+w.on(b.On)), w.amount(b.Maximum), windowEnds(b.Window)).is("the cap", w.amount(b.Maximum)+" "+windowEnds(b.Window))
	w.say("on", "It works on what the statement shows for %s.", w.on(b.On)).is("the rules it works on", w.on(b.On))
	w.say("per", "%s", capPer[b.Per]).is("who has the maximum", capPerShort[b.Per])
	w.limit(b.Limit)
}

var capPer = map[string]string{
	"partner": "The maximum is for the partner as a whole.", "app": "Each app has a maximum of its own.", "customer": "Each customer has a maximum of its own.",
}

var capPerShort = map[string]string{"partner": "the partner", "app": "each app", "customer": "each customer"}

func (w *writer) commitment(b *pricing.Commitment) {
	var least string
	if b.Minimum != nil {
		least = w.amount(*b.Minimum)
	} else {
		least = fmt.Sprintf("what %s units cost at the price of %s", number(*b.Units), w.on(b.On))
	}
	w.say("minimum", "The partner owes at least %s %s.", least, windowEnds(b.Window)).is("the minimum", least+" "+windowEnds(b.Window))
	w.say("on", "What the statement shows for %s counts towards it.", w.on(b.On)).is("the rules that count towards it", w.on(b.On))
	if b.TrueUp {
		w.say("true_up", "What is missing is charged when that time, or these terms, end.").is("what is missing", "it is charged at the end")
	} else {
		w.say("true_up", "What is missing is not charged.").is("what is missing", "it is not charged")
	}
	if b.Overage.Equal(one) {
		w.say("overage", "What is beyond the minimum costs what it costs.").is("what is beyond the minimum", "1 times its price")
	} else {
		w.say("overage", "What is beyond the minimum costs %s times its price.", number(b.Overage)).is("what is beyond the minimum", number(b.Overage)+" times its price")
	}
	w.limit(b.Limit)
}

func (w *writer) guarantee(b *pricing.Guarantee) {
	w.say("minimum", "The partner gets at least %s %s; what is missing is paid when that time, or these terms, end.", w.amount(b.Minimum), windowEnds(b.Window)).is("the guarantee", w.amount(b.Minimum)+" "+windowEnds(b.Window))
	w.say("on", "Sales and charges under %s count towards it, as the statement shows them.", w.on(b.On)).is("the rules that count towards it", w.on(b.On))
	w.limit(b.Limit)
}

func (w *writer) discount(b *pricing.Discount) {
	switch {
	case b.Percent != nil:
		w.say("percent", "What the rules below charge is reduced by %s.", pricing.Percent(*b.Percent)).is("the discount", pricing.Percent(*b.Percent))
	case b.Amount != nil:
		w.say("amount", "What the rules below charge is reduced by %s %s, and never by more than that is.", w.amount(*b.Amount), windowEnds(b.Window)).is("the discount", w.amount(*b.Amount)+" "+windowEnds(b.Window))
	}
	w.say("on", "It works on what the statement shows for %s.", w.on(b.On)).is("the rules it works on", w.on(b.On))
	if b.Maximum != nil {
		w.say("maximum", "It gives at most %s %s.", w.amount(*b.Maximum), windowEnds(b.Window)).is("the most that it gives", w.amount(*b.Maximum)+" "+windowEnds(b.Window))
	} else if b.Percent != nil {
		w.say("window", "It has no maximum %s.", windowEnds(b.Window)).is("the most that it gives", "no maximum "+windowEnds(b.Window))
	}
	if b.When != nil {
		c := w.say("when", "Only apps count whose scorecard of the month says: %s.", condition(b.When)).is("the scorecard that it needs", condition(b.When))
		c.Exact = b.When.Text
	}
	if !b.Term.IsZero() {
		w.say("term", "It holds for %s from the month in which these terms begin.", b.Term).is("the time for which it holds", b.Term.String())
	}
	w.limit(b.Limit)
}

func (w *writer) tax(b *pricing.TaxRule) {
	w.say("rate", "The marketplace adds tax of %s to its charges and owes it to the authority %s.", pricing.Percent(b.Rate), code(b.Jurisdiction)).is("the tax", pricing.Percent(b.Rate)+" for "+code(b.Jurisdiction))
	w.say("on", "It is on what the statement shows for %s.", w.on(b.On)).is("the rules it is on", w.on(b.On))
}

func (w *writer) credit(b *pricing.Credit) {
	granted := map[string]string{"once": "once, when the terms begin", "monthly": "in each month", "yearly": "in each year of the terms"}[b.Granted]
	w.say("amount", "The partner is granted a credit of %s %s.", w.amount(b.Amount), granted).is("the credit", w.amount(b.Amount)+" "+granted)
	w.say("on", "It pays what the statement shows for %s, the oldest credit first.", w.on(b.On)).is("the rules that it pays", w.on(b.On))
	if b.Expires.IsZero() {
		w.say("expires", "It does not expire.").is("the time in which it can be used", "no limit")
	} else {
		w.say("expires", "Each grant can be used for %s, the month of the grant included.", b.Expires).is("the time in which it can be used", b.Expires.String())
	}
	if b.Maximum != nil {
		w.say("maximum", "At most %s of it are used in one month.", w.amount(*b.Maximum)).is("the most that is used in one month", w.amount(*b.Maximum))
	}
}

func (w *writer) quality(b *pricing.Quality) {
	w.say("adjusts", "Each month the scorecard of an app moves the marketplace's rate under %s for that app. Only rates above zero are moved.", code(b.Adjusts)).is("the rule whose rate is moved", code(b.Adjusts))
	if b.NotScored > 0 {
		n := number(decimal.NewFromInt(b.NotScored))
		w.say("not_scored_below", "An app with fewer than %s calls in the month is not scored, and its rate is not moved.", n).is("the calls below which an app is not scored", n)
	}
	w.say("missing", "An app without a scorecard, or without the data that a condition asks for, is not scored either.")
	if g := b.Gate; g != nil {
		otherwise := "the rate is not moved"
		if !g.Otherwise.IsZero() {
			otherwise = "the rate is " + points(g.Otherwise)
		}
		c := w.say("gate", "What follows applies only while this holds: %s. When it does not, %s, and nothing else moves it.", condition(g.Require), otherwise).is("the condition for all that moves the rate", condition(g.Require)+"; otherwise "+otherwise)
		c.Exact = g.Require.Text
	}
	if b.Factors != nil {
		w.factors(b)
	}
	if b.Bands != nil {
		t := &Table{Head: []string{"While", "The rate is"}}
		for i, x := range b.Bands {
			t.Rows = append(t.Rows, Row{Key: fmt.Sprintf("%d %s", i, x.When.Text), Cells: []string{condition(x.When), points(x.Points)}, Term: "the rate while: " + condition(x.When), Value: points(x.Points)})
		}
		w.say("bands", "Points of all that hold add up:").Table = t
	}
	if b.Min != nil {
		w.say("bounds.min", "This does not bring a rate below %s.", pricing.Percent(*b.Min)).is("the lowest rate", pricing.Percent(*b.Min))
	}
	if b.Max != nil {
		w.say("bounds.max", "This does not bring a rate above %s.", pricing.Percent(*b.Max)).is("the highest rate", pricing.Percent(*b.Max))
	}
}

// factors multiply a rate, within a floor and a cap.
func (w *writer) factors(b *pricing.Quality) {
	t := &Table{Head: []string{"While", "The rate is multiplied by"}}
	for i, x := range b.Factors {
		when, exact := "always", ""
		if x.When != nil {
			when, exact = condition(x.When), x.When.Text
		}
		times := number(x.Times)
		if x.Measure != "" {
			times = "the figure of the scorecard " + code(x.Measure)
		}
		t.Rows = append(t.Rows, Row{Key: fmt.Sprintf("%d %s", i, exact), Cells: []string{when, times}, Term: "the factor: " + when, Value: times})
	}
	w.say("factors", "Factors of all that hold are multiplied, before points are added:").Table = t
	bound := func(key, text, term string, d *decimal.Decimal) {
		if d != nil {
			w.say(key, text, number(*d)).is(term, number(*d))
		}
	}
	bound("floor", "Together they come to at least %s.", "the least that the factors come to", b.Floor)
	bound("cap", "Together they come to at most %s.", "the most that the factors come to", b.Cap)
}
