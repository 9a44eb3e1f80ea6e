//go:build race

package billing_test

// The race detector makes the engine in these stores some twenty times slower.
const (
	raceEnabled = true
	rapidChecks = "2"
)
