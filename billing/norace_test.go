//go:build !race

package billing_test

const (
	raceEnabled = false
	rapidChecks = "25" // each draw closes a dozen months
)
