//go:build race

package auth

// raceDetector says that pools drop what they hold at random, and so allocate.
const raceDetector = true
