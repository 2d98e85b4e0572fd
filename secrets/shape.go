package secrets

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// The generated form: 4 selector, 16 secret and 4 check characters, displayed in groups of four.
const (
	alphabet = "0123456789abcdefghjkmnpqrstvwxyz" // Crockford's base32 in lower case

	selectorChars = 4                              // 20 bits, public
	secretChars   = 16                             // 80 bits
	checkChars    = 4                              // 20 bits: five would take 3 % of random hexadecimal passwords for ours
	drawnChars    = selectorChars + secretChars    // what is drawn at random
	passwordChars = drawnChars + checkChars        // without separators
	groupChars    = 4                              // per displayed group
	displayBytes  = passwordChars*5/groupChars - 1 // six groups and five "-"
)

// Shape tells whether a presented password looks like one that we generate.
type Shape int

const (
	// NotOurs is any other password.
	NotOurs Shape = iota
	// Ours has the shape and its check is right.
	Ours
	// Mistyped has the displayed grouping (with "-" or space) and a wrong check.
	Mistyped
)

// ShapeOf tells the shape of a password and, for Ours, its selector and its canonical (displayed) text.
// Case does not matter, i and l are 1, o is 0, and "-" and space may stand anywhere.
func ShapeOf(password []byte) (s Shape, selector string, canonical []byte) {
	// Small enough to be inlined, so that neither result need be on the heap.
	var text [displayBytes]byte
	s, head, canonical := readShape(password, text[:])
	return s, string(head), canonical
}

// values maps a character to its value in the alphabet plus one; 0 is none.
var values = func() (t [256]byte) {
	for i := range len(alphabet) {
		t[alphabet[i]] = byte(i) + 1
		t[strings.ToUpper(alphabet[i : i+1])[0]] = byte(i) + 1
	}
	for _, c := range "iIlL" {
		t[c] = t['1']
	}
	t['o'], t['O'] = t['0'], t['0']
	return t
}()

// readShape writes the canonical text of a password of our shape to text, and returns its selector and itself;
// both are nil for the other shapes.
func readShape(password, text []byte) (s Shape, selector, canonical []byte) {
	if len(password) < passwordChars || len(password) > MaxPassword {
		return NotOurs, nil, nil
	}
	var chars [passwordChars]byte
	n, foreign := 0, false
	for _, c := range password {
		switch {
		case c == '-' || c == ' ':
			continue
		case n == passwordChars:
			return NotOurs, nil, nil
		case values[c] != 0:
			chars[n] = alphabet[values[c]-1]
		case c == 'u' || c == 'U': // the one letter that the alphabet leaves out for good
			foreign = true
		default:
			return NotOurs, nil, nil
		}
		n++
	}
	if n == passwordChars && !foreign && checkOf(chars[:drawnChars]) == [checkChars]byte(chars[drawnChars:]) {
		display(&chars, text)
		return Ours, text[:selectorChars], text
	}
	if isGrouped(password) {
		return Mistyped, nil, nil
	}
	return NotOurs, nil, nil
}

// isGrouped says whether a password consists of six groups of four with one separator between them.
func isGrouped(password []byte) bool {
	if len(password) != displayBytes {
		return false
	}
	for i, c := range password {
		if (c == '-' || c == ' ') != (i%(groupChars+1) == groupChars) {
			return false
		}
	}
	return true
}

// checkOf is the first 20 bits of SHA-256 over the drawn characters, written as four characters.
func checkOf(drawn []byte) [checkChars]byte {
	sum := sha256.Sum256(drawn)
	bits := uint32(sum[0])<<12 | uint32(sum[1])<<4 | uint32(sum[2])>>4
	return [checkChars]byte{alphabet[bits>>15], alphabet[bits>>10&31], alphabet[bits>>5&31], alphabet[bits&31]}
}

// display writes the characters in groups of four joined by "-".
func display(chars *[passwordChars]byte, text []byte) {
	n := 0
	for i, c := range chars {
		if i > 0 && i%groupChars == 0 {
			text[n] = '-'
			n++
		}
		text[n] = c
		n++
	}
}

// isSelector says whether s is a selector as it is stored.
func isSelector(s string) bool {
	return len(s) == selectorChars && strings.Trim(s, alphabet) == ""
}

// Generated is a new password. Printing it shows the selector only.
type Generated struct {
	Password string // as displayed, and as it is to be hashed
	ID       string // its selector
}

// reservedPrefix starts the app passwords that Stalwart 0.16 keeps to itself: it never asks LDAP about them.
const reservedPrefix = "app"

// maxDraws bounds the search for a free selector. With fifty taken of a million, a second draw is rare;
// a hundred in vain mean a random source that repeats itself.
const maxDraws = 100

// Generate draws a password whose selector is none of taken, those of the entry's other values. The random
// source is crypto/rand where random is nil; the only errors are those of another source.
func Generate(random io.Reader, taken ...string) (Generated, error) {
	for range maxDraws {
		var chars [passwordChars]byte
		if _, err := io.ReadFull(source(random), chars[:drawnChars]); err != nil {
			return Generated{}, fmt.Errorf("cannot generate a password: %w", err)
		}
		for i, b := range chars[:drawnChars] {
			chars[i] = alphabet[b&31]
		}
		id := string(chars[:selectorChars])
		if strings.HasPrefix(id, reservedPrefix) || slices.Contains(taken, id) {
			continue
		}
		check := checkOf(chars[:drawnChars])
		copy(chars[drawnChars:], check[:])
		var text [displayBytes]byte
		display(&chars, text[:])
		return Generated{Password: string(text[:]), ID: id}, nil
	}
	return Generated{}, errors.New("cannot generate a password: the random source repeats itself")
}

func source(random io.Reader) io.Reader {
	if random == nil {
		return rand.Reader
	}
	return random
}
