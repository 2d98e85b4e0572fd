//go:build !race

package backend

// raceAllocations is what the race detector itself allocates in a call.
const raceAllocations = 0
