package billing

import (
	"mete/period"
	"mete/pricing"
)

// Engine is the version of the arithmetic that closes months. A change that can move a
// cent gets a new one, and manifests say which one made them.
const Engine = "mete-3"

// secondEngine is the one before. What it closed is derived again as it did it: with one
// certification for a whole month, that of its end, which no exception extended and no
// fact moved that came after the close; and closed months stay under the terms that their manifests name, also when these had been
// corrected since.
const secondEngine = "mete-2"

// forward reports whether closes of the engine price corrected terms forward.
func forward(engine string) bool { return engine != firstEngine && engine != secondEngine }

// firstEngine is the one before that, which did so too. Besides:
//
//   - it knew the late limits of contracts only, looked at each line alone, and barred
//     lost chargebacks as if they were charges;
//   - it showed a scope group the leads of its own partners only, so that a customer
//     whom somebody else had brought first could be paid for twice.
const firstEngine = "mete-1"

func (r *run) first() bool { return r.manifest.Engine == firstEngine }

func (r *run) undated() bool { return undated(r.manifest.Engine) }

// undated reports whether the engine knew one certification of a month, that of its end
// as the close knew it.
func undated(engine string) bool { return engine == firstEngine || engine == secondEngine }

// derives reports whether months of the engine can be derived again by this one.
func derives(engine string) bool {
	return engine == Engine || engine == secondEngine || engine == firstEngine
}

// barredByFirst is what late limits barred in the first engine.
func barredByFirst(inForce []*pricing.Terms, closing period.Month, differences []pricing.Line) map[pricing.LineKey]bool {
	limits := map[string]int{}
	for _, t := range inForce {
		limits[t.Contract] = t.LateLimit
	}
	out := map[pricing.LineKey]bool{}
	for _, l := range differences {
		age := (closing.Year-l.Month.Year)*12 + int(closing.Month-l.Month.Month)
		if limit := limits[l.Contract]; limit > 0 && age > limit && l.Amount.Minor < 0 && l.Part != "sales" && l.Part != "refunds" {
			out[l.LineKey] = true
		}
	}
	return out
}
