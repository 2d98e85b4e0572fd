package auth

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Outages is what a Directory may offer besides: what it holds in memory decides while no server answers.
// Without it there is no outage mode.
type Outages interface {
	// Outage reports whether no server answers and memory decides. While that is not known it waits, within ctx.
	Outage(ctx context.Context) bool
}

// Bounds of what is remembered of service accounts.
const (
	maxServices     = 1024 // accounts
	maxServiceWrong = 10   // different wrong passwords of one account in an outage
)

// errNotCurrent is why a password that does not fit the copy is not refused: the directory may know it by now.
var errNotCurrent = errors.New("no server answers, and the copy may be older than the password")

// services remembers the password that the upstream took last, for each listed service
// account. It is looked at in an outage only, and never learns from its own answers.
type services struct {
	mu    sync.Mutex          // guards the fields below
	known map[string]*service // by the configured DN
	keep  bool                // hashes are computed, see KeepServices
}

type service struct {
	password digest    // zero: restored, see kept.go
	at       time.Time // when the upstream took it
	wrong    []digest  // other passwords that were tried in an outage
	hash     string    // of the password, see kept.go; "": none yet
	hashing  bool      // somebody computes it
}

// accepted notes that the upstream took a password. It takes the place of another one. hash: the caller is to compute its hash.
func (s *services) accepted(dn string, password digest, now time.Time) (hash bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.known[dn]
	if before == nil && len(s.known) >= maxServices {
		return false
	}
	k := &service{password: password, at: now}
	if before != nil && hmac.Equal(before.password[:], password[:]) {
		k.hash, k.hashing = before.hash, before.hashing
	}
	hash = s.keep && k.hash == "" && !k.hashing
	k.hashing = k.hashing || hash
	s.known[dn] = k
	return hash
}

// refused forgets the password that the upstream takes no more. What it says of another one
// says nothing of this, else anybody could have it forgotten; but for a restored one, see kept.go.
func (s *services) refused(dn string, password digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.known[dn]; k != nil && (k.restored() || hmac.Equal(k.password[:], password[:])) {
		delete(s.known, dn)
	}
}

// recall reports until when a password may serve in an outage; zero: it may not. No directory
// counts the failures now, so after maxServiceWrong different ones the account is forgotten.
func (s *services) recall(dn string, password digest, now time.Time, maxStale time.Duration) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.known[dn]
	switch {
	case k == nil:
		return time.Time{}
	case now.Sub(k.at) >= maxStale, now.Round(0).Sub(k.at.Round(0)) >= maxStale: // the machine may have slept
		delete(s.known, dn)
		return time.Time{}
	case hmac.Equal(k.password[:], password[:]):
		return k.at.Add(maxStale)
	case slices.Contains(k.wrong, password):
	case len(k.wrong)+1 >= maxServiceWrong:
		delete(s.known, dn)
	default:
		k.wrong = append(k.wrong, password)
	}
	return time.Time{}
}

func (s *services) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.known)
}

// serviceBind is passThrough for a listed account. In an outage a service account is who it is if it shows the password that
// the upstream took last, within app_passwords.max_stale. Nobody else is remembered: no user, and no account of passthrough.
func (a *attempt) serviceBind(ctx context.Context, row int, reason, dn string, password Password) bool {
	a.passThrough(ctx, row, reason, dn, password)
	if a.maxStale <= 0 || !a.services[a.listed.find(dn)] {
		return true
	}
	if a.d.Answer != nil {
		a.ServiceBound(dn, password, a.d.Answer.Code)
		return true
	}
	if a.outages.Outage(ctx) {
		known := a.mem.digest(useService, dn, password)
		if err := a.mem.proveService(ctx, dn, password, known); err != nil {
			return a.fail(row, Busy, ReasonHashing, err)
		}
		if until := a.mem.services.recall(dn, known, a.mem.now(), a.maxStale); !until.IsZero() {
			a.d.DN, a.d.Until = dn, until
			return a.decide(row, Accepted, ReasonRemembered)
		}
	}
	return true
}

// ServiceBound notes how the upstream answered a bind as a listed account: by Verify, and by whoever binds
// further links with the password of a client that Verify has accepted. Accounts that are no service accounts are not noted.
func (v *Verifier) ServiceBound(dn string, password Password, code int32) {
	if v.maxStale <= 0 || !v.services[v.listed.find(dn)] {
		return
	}
	known := v.mem.digest(useService, dn, password)
	switch code {
	case codeSuccess:
		if v.mem.services.accepted(dn, known, v.mem.now()) {
			v.mem.hashService(dn, password, known)
		}
	case codeBusy, codeUnavailable:
	default:
		v.mem.services.refused(dn, known)
	}
}

// stale ends a bind whose entry comes from a copy that is not current, behind the rows of app passwords: nobody can
// verify a main password now, and a server that answers again must not be asked by the name that an old copy has.
func (a *attempt) stale(context.Context) bool {
	return a.d.Entry.Stale && a.fail(15, Unavailable, ReasonOutage, errNotCurrent)
}

// notVerified makes trouble of a refusal that an old copy led to: it is not verified that the password does not fit. That app
// passwords are switched off is no matter of the copy.
func (a *attempt) notVerified() {
	if e := a.d.Entry; e != nil && e.Stale && a.d.Kind == InvalidCredentials && a.d.Reason != ReasonOff {
		a.fail(a.d.Row, Unavailable, ReasonOutage, fmt.Errorf("%w (in the copy: %s)", errNotCurrent, a.d.Reason))
	}
}
