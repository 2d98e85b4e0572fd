package auth

import (
	"errors"
	"strings"
	"sync"

	"appbind/wire"
)

// Bounds of the names whose answer is kept.
const (
	maxKnownNames = 4096
	maxKnownName  = 256 // bytes
)

// listed are the DNs whose binds are passed through. Names are compared in the form of wire.DN.Key; since mail
// servers ask for the same few thousand names all day, the answers are kept by the spelling that was asked.
type listed struct {
	byKey map[string]string // wire.DN.Key: the configured spelling

	mu    sync.RWMutex      // guards known
	known map[string]string // a name as received: the configured spelling, or "" for none
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
	l.mu.RLock()
	dn, known := l.known[name]
	l.mu.RUnlock()
	if known {
		return dn
	}
	if parsed, err := wire.ParseDN(name); err == nil {
		dn = l.byKey[parsed.Key()]
	}
	if len(name) <= maxKnownName {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.known) >= maxKnownNames {
			clear(l.known) // costs parsing
		}
		l.known[strings.Clone(name)] = dn
	}
	return dn
}
