//go:build race

package store

// The race detector makes SQLite some twenty times slower.
const raceEnabled = true
