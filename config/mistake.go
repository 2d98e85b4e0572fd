package config

import (
	"slices"
	"strconv"
	"strings"
)

// Mistake is one thing that is wrong with a configuration.
type Mistake struct {
	// File is the configuration's name, as it was given to Load.
	File string
	// Line counts from 1; 0 where the file could not be read at all.
	Line int
	// Key is the key's path, such as listeners[0].cleartext; empty where the whole file is meant.
	Key string
	// Reason says what is wrong and, where it can be guessed, what to do. It never repeats a value.
	Reason string
}

// String is file:line: key: reason.
func (m Mistake) String() string {
	s := m.File
	if m.Line > 0 {
		s += ":" + strconv.Itoa(m.Line)
	}
	if m.Key != "" {
		s += ": " + m.Key
	}
	return s + ": " + m.Reason
}

// Mistakes is the error of Load: all that is wrong, in the order of the lines.
type Mistakes []Mistake

// Error is one line for each mistake.
func (m Mistakes) Error() string {
	lines := make([]string, len(m))
	for i := range m {
		lines[i] = m[i].String()
	}
	return strings.Join(lines, "\n")
}

// sorted puts mistakes in the order of the lines; those of one line stay as they were found.
func (m Mistakes) sorted() Mistakes {
	slices.SortStableFunc(m, func(a, b Mistake) int { return a.Line - b.Line })
	return m
}

// nearest is the candidate that word was probably meant to be; "" if none is close.
func nearest(word string, candidates []string) string {
	best, bestDistance := "", 1+max(1, len(word)/4)
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), c); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the number of letters to insert, delete, replace or swap with
// their neighbour that makes a of b.
func distance(a, b string) int {
	before, row := []int(nil), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next := make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(next[j-1]+1, row[j]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
