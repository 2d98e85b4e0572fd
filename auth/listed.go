package auth

import (
	"errors"
	"strings"
	"sync"

	"appbind/wire"
)

// Bounds of the spellings of listed names that are kept.
const (
	maxSpellings = 256
	maxSpelling  = 256 // bytes
)

// listed are the DNs whose binds are passed through. Names are compared in the form of wire.DN.Key; since mail
// servers ask for the same few thousand names all day, the answers are kept by the spelling that was asked.
type listed struct {
	byKey map[string]string // wire.DN.Key: the configured spelling

	others *wire.Names // what is not listed

	mu    sync.RWMutex      // guards known
	known map[string]string // a listed name as received: the configured spelling
}

func newListed() listed {
	return listed{byKey: make(map[string]string), others: new(wire.Names), known: make(map[string]string)}
}

// add enters an account. What does not parse, or is empty, is nobody.
func (l *listed) add(dn string) error {
	parsed, err := wire.ParseDN(dn)
	if err != nil {
		return err
	}
	if len(parsed) == 0 {
		return errors.New("the DN is empty")
	}
	l.byKey[parsed.Key()] = dn
	return nil
}

// find is the configured spelling of a listed name; "": it is not listed.
func (l *listed) find(name string) string {
	if len(l.byKey) == 0 || !strings.Contains(name, "=") {
		return ""
	}
	if l.others.Has(name) {
		return ""
	}
	l.mu.RLock()
	dn := l.known[name]
	l.mu.RUnlock()
	if dn != "" {
		return dn
	}
	if parsed, err := wire.ParseDN(name); err == nil {
		dn = l.byKey[parsed.Key()]
	}
	if dn == "" {
		l.others.Add(name)
		return ""
	}
	if len(name) <= maxSpelling {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.known) >= maxSpellings {
			clear(l.known) // costs parsing
		}
		l.known[strings.Clone(name)] = dn
	}
	return dn
}
