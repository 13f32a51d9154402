//go:build race

package faults

// raceDetector says that the tests run with it.
const raceDetector = true
