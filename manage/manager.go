package manage

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"time"

	"appbind/auth"
	"appbind/backend"
	"appbind/config"
	"appbind/events"
	"appbind/secrets"
)

// Manager carries changes to the directory. Safe for concurrent use.
type Manager struct {
	cfg       *config.Config
	up        *backend.Upstream
	rules     *Rules
	attribute string
	timeout   time.Duration // of one operation
	now       Clock
	journal   Journal       // nil: nobody is told
	turns     Turns         // nil: hashing waits for nobody else's
	hashing   chan struct{} // one token for each who hashes: half of the cores are left to binds
}

// New makes a manager for an upstream that was started. shared says that the
// attribute holds passwords of the directory's own too, see Rules.Shared.
func New(cfg *config.Config, up *backend.Upstream, shared bool, now Clock) *Manager {
	rules := RulesOf(&cfg.AppPasswords)
	rules.Shared = shared
	return &Manager{cfg: cfg, up: up, rules: rules, attribute: cfg.AppPasswords.Attribute,
		timeout: time.Duration(cfg.Upstream.OperationTimeout), now: now, hashing: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
}

// Turns hands out the right to compute a slow hash, among those of binds: auth.Verifier does.
type Turns interface {
	// Turn waits for the turn of an entry, for hashes that take so much memory at one time, in bytes. release gives it back.
	Turn(ctx context.Context, entry string, memory int64) (release func(), err error)
}

// WithTurns has slow hashes wait for their turn among those of binds, and is the manager. Call it before anything else.
func (m *Manager) WithTurns(t Turns) *Manager {
	m.turns = t
	return m
}

// hashingMemory is what the costliest of our own hashes takes (argon2).
const hashingMemory = 20 << 20

// hash waits for the right to hash for an entry, slowly or not; release gives it back.
func (m *Manager) hash(ctx context.Context, entry string, slow bool) (release func(), err error) {
	if !slow {
		return func() {}, nil
	}
	select {
	case m.hashing <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrContention, ctx.Err())
	}
	if m.turns == nil {
		return func() { <-m.hashing }, nil
	}
	back, err := m.turns.Turn(ctx, entry, hashingMemory)
	if err != nil {
		<-m.hashing
		return nil, fmt.Errorf("%w: %w", ErrContention, err)
	}
	return func() { back(); <-m.hashing }, nil
}

// Rules are the rules that the manager keeps.
func (m *Manager) Rules() *Rules { return m.rules }

// Now is the time by the manager's clock.
func (m *Manager) Now() time.Time { return m.now() }

// identity is who writes.
func (m *Manager) identity() (dn string, password auth.Password) {
	u := &m.cfg.Upstream
	if u.ManageDN != "" {
		return u.ManageDN, auth.Password(u.ManagePassword)
	}
	return u.BindDN, auth.Password(u.BindPassword)
}

// ownSchema reports whether the attribute is that of contrib/schema, with its auxiliary class.
func (m *Manager) ownSchema() bool {
	for _, name := range m.up.Schema().Names() {
		if strings.EqualFold(name, "appPassword") {
			return true
		}
	}
	return false
}

// User is a user and the app passwords that he has.
type User struct {
	Key      string // the canonical identity of the entry, see auth.Entry
	DN       string // as the directory spells it
	Eligible bool   // neither disabled nor outside of users.filter
	Changed  string // when the password was changed last, see auth.State; of Find only
	Set      *Set
}

// Find finds a user by DN or by users.name_filter, as a bind does, and reads his
// values live. Errors: auth.ErrNotFound, auth.ErrAmbiguous, ErrNotUser,
// backend.ErrUnavailable.
func (m *Manager) Find(ctx context.Context, name string) (*User, error) {
	e, err := m.up.FindLive(ctx, name)
	switch {
	case err != nil:
		return nil, err
	case !e.User:
		return nil, ErrNotUser
	}
	return &User{Key: e.Key, DN: e.DN, Eligible: e.Enabled(m.now()), Changed: e.State.Changed, Set: NewSet(e.Values)}, nil
}

// Each calls f for every user who has a value of the attribute. An error of f
// ends it; so does an answer that the directory cut short.
func (m *Manager) Each(ctx context.Context, f func(u *User) error) error {
	present := append([]byte{0x87, byte(len(m.attribute))}, m.attribute...)
	return m.each(ctx, present, f)
}

// Everybody is Each for all users, those without a value too.
func (m *Manager) Everybody(ctx context.Context, f func(u *User) error) error {
	return m.each(ctx, nil, f)
}

func (m *Manager) each(ctx context.Context, filter []byte, f func(u *User) error) error {
	return m.up.EachUser(ctx, filter, func(e *auth.Entry) error {
		return f(&User{Key: e.Key, DN: e.DN, Eligible: e.Enabled(m.now()), Set: NewSet(e.Values)})
	})
}

// via is who carries out a change: nil is upstream.manage_dn, else the client whose link it is.
func (m *Manager) via(link *backend.Link) (d door, done func()) {
	if link != nil {
		return &own{m: m, link: link}, func() {}
	}
	managed := &managed{m: m}
	return managed, managed.release
}

// Through is the manager that writes over a client's own link, where the
// directory judges by the client's own rights. The link stays the client's.
func (m *Manager) Through(link *backend.Link) *Operator { return &Operator{m: m, link: link} }

// Managing is the manager that writes as upstream.manage_dn.
func (m *Manager) Managing() *Operator { return &Operator{m: m} }

// Operator changes app passwords in the directory, with the rights that it was
// made with. Errors of its methods, beside those told: *Violation, *Refused,
// auth.ErrNotFound, ErrContention, ErrUnconfirmed, backend.ErrUnavailable.
type Operator struct {
	m    *Manager
	link *backend.Link
	by   events.Actor
}

// change runs one change of a user's entry, and tells the journal how it ended.
func (o *Operator) change(ctx context.Context, s subject, decide func(s *Set) (Change, error)) error {
	ctx, cancel := context.WithTimeout(ctx, o.m.timeout)
	defer cancel()
	d, release := o.m.via(o.link)
	made, err := o.m.change(ctx, d, s.dn, decide)
	release()
	if err != nil {
		o.failed(s, err)
		return err
	}
	o.tell(ctx, s, made)
	return nil
}

// Create makes an app password for a user that Find has found, and returns it
// when the directory has stored it. Errors besides: ErrNotEligible.
func (o *Operator) Create(ctx context.Context, u *User, q Request) (Issued, error) {
	who := subject{u.DN, u.Key, Ref{Label: q.Label}}
	if !u.Eligible {
		o.failed(who, ErrNotEligible)
		return Issued{}, ErrNotEligible
	}
	var made Issued
	err := o.change(ctx, who, func(s *Set) (c Change, err error) {
		release, err := o.m.hash(ctx, u.Key, len(q.Password) > 0 || o.m.rules.Algorithm != secrets.SHA256)
		if err != nil {
			return Change{}, err
		}
		defer release()
		made, c, err = o.m.rules.Issue(s, q, o.m.now())
		return c, err
	})
	if err != nil {
		return Issued{}, err
	}
	return made, nil
}

// Renew gives an app password another expiry, see Rules.Renew. Errors besides: ErrNoSuchPassword, ErrSeveral.
func (o *Operator) Renew(ctx context.Context, dn string, ref Ref, expires time.Time, never bool) error {
	return o.change(ctx, subject{dn: dn, ref: ref}, func(s *Set) (Change, error) { return o.m.rules.Renew(s, ref, expires, never, o.m.now()) })
}

// Relabel gives an app password another label. Errors besides: ErrNoSuchPassword, ErrSeveral.
func (o *Operator) Relabel(ctx context.Context, dn string, ref Ref, label string) error {
	return o.change(ctx, subject{dn: dn, ref: ref}, func(s *Set) (Change, error) { return o.m.rules.Relabel(s, ref, label, o.m.now()) })
}

// Rescope limits an app password to other services and networks. Errors besides: ErrNoSuchPassword, ErrSeveral.
func (o *Operator) Rescope(ctx context.Context, dn string, ref Ref, services []string, networks []netip.Prefix) error {
	return o.change(ctx, subject{dn: dn, ref: ref}, func(s *Set) (Change, error) {
		return o.m.rules.Rescope(s, ref, services, networks, o.m.now())
	})
}

// Edit changes any part of an app password but its hash and id, see Rules.Edit. Errors besides: ErrNoSuchPassword, ErrSeveral.
func (o *Operator) Edit(ctx context.Context, dn string, ref Ref, change func(p *secrets.Params) error) error {
	return o.change(ctx, subject{dn: dn, ref: ref}, func(s *Set) (Change, error) { return o.m.rules.Edit(s, ref, o.m.now(), change) })
}

// Revoke deletes one app password and returns what it was. One that another
// writer revoked at the same time counts as revoked. Errors besides: ErrNoSuchPassword, ErrSeveral.
func (o *Operator) Revoke(ctx context.Context, dn string, ref Ref) (*secrets.Value, error) {
	var gone *secrets.Value
	err := o.change(ctx, subject{dn: dn, ref: ref}, func(s *Set) (Change, error) {
		v, err := s.Find(ref)
		if gone != nil && errors.Is(err, ErrNoSuchPassword) {
			return Change{}, nil // it was there a moment ago: somebody was faster
		}
		if err != nil {
			return Change{}, err
		}
		gone = v
		return Change{Delete: []string{v.Raw}}, nil
	})
	if err != nil {
		return nil, err
	}
	return gone, nil
}

// RevokeAll deletes every app password for which which holds, in one modify, and returns them.
func (o *Operator) RevokeAll(ctx context.Context, dn string, which func(v *secrets.Value) bool) ([]*secrets.Value, error) {
	var gone []*secrets.Value
	err := o.change(ctx, subject{dn: dn}, func(s *Set) (Change, error) {
		gone = nil
		for _, v := range s.Values {
			if v.Kind == secrets.App && which(v) {
				gone = append(gone, v)
			}
		}
		return o.m.rules.RevokeAll(s, which), nil
	})
	return gone, err
}

// Add stores values that exist already, such as those of an import, when every one
// keeps the rules; clear text is hashed. It returns what was stored.
func (o *Operator) Add(ctx context.Context, dn string, values [][]byte) ([]string, error) {
	var stored []string
	err := o.change(ctx, subject{dn: dn}, func(s *Set) (Change, error) {
		_, out, err := o.m.Judge(ctx, s, []Mod{{Operation: ModAdd, Values: values}}, false)
		if err != nil {
			return Change{}, err
		}
		stored = nil
		for _, v := range out[0].Values {
			stored = append(stored, string(v))
		}
		return Change{Add: stored}, nil
	})
	if err != nil {
		return nil, err
	}
	return stored, nil
}

// RemoveTOTP deletes second factors for which which holds, in one modify, and is how many there were. last: also when no
// usable one is left then; else that is ErrLastFactor.
func (o *Operator) RemoveTOTP(ctx context.Context, dn string, last bool, which func(v *secrets.Value) bool) (int, error) {
	n := 0
	err := o.change(ctx, subject{dn: dn}, func(s *Set) (Change, error) {
		var c Change
		left := 0
		for _, v := range s.Values {
			switch {
			case v.Kind != secrets.TOTP:
			case which(v):
				c.Delete = append(c.Delete, v.Raw)
			case v.Err == nil:
				left++
			}
		}
		if n = len(c.Delete); n > 0 && left == 0 && !last {
			return Change{}, ErrLastFactor
		}
		return c, nil
	})
	return n, err
}
