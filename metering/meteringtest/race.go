//go:build race

package meteringtest

// raceDetector says that the test runs under the race detector.
const raceDetector = true
