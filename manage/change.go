package manage

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"appbind/secrets"
)

// Request asks for a new app password.
type Request struct {
	Label    string
	Expires  time.Time      // the zero time: after default_lifetime
	Never    bool           // no expiry, where require_expiry is false
	Services []string       // empty: any
	Networks []netip.Prefix // empty: any
	// Password is one that a person chose; empty: one is generated.
	Password []byte
}

// Issued is a new app password. Printing it shows no password.
type Issued struct {
	Password string // as generated; "" for a chosen one
	Value    *secrets.Value
}

// String is the stored value's, which shows nothing secret.
func (i Issued) String() string { return i.Value.String() }

// GoString is String.
func (i Issued) GoString() string { return i.String() }

// Issue makes a new value for an entry that holds s. Errors: *Violation.
func (r *Rules) Issue(s *Set, q Request, now time.Time) (Issued, Change, error) {
	p := secrets.Params{Label: q.Label, Created: now.UTC().Truncate(time.Second)}
	var err error
	if err = checkLabel(q.Label); err != nil {
		return Issued{}, Change{}, err
	}
	if p.Expires, err = r.expiry(q.Expires, q.Never, now); err != nil {
		return Issued{}, Change{}, err
	}
	if p.Services, p.Networks, err = scopes(q.Services, q.Networks); err != nil {
		return Issued{}, Change{}, err
	}
	// Before the hash, which costs something.
	if err = s.conflict(&secrets.Value{Kind: secrets.App, Label: q.Label}); err != nil {
		return Issued{}, Change{}, err
	}
	if live := s.Live(now); live >= r.MaxPerUser {
		return Issued{}, Change{}, full(live)
	}
	password := q.Password
	generated := ""
	if len(password) == 0 {
		g, err := secrets.Generate(nil, s.IDs()...)
		if err != nil {
			return Issued{}, Change{}, err
		}
		generated, password = g.Password, []byte(g.Password)
	} else if !r.UserChosen {
		return Issued{}, Change{}, violationf("app passwords are generated here: leave the new password out, and one is returned (app_passwords.user_chosen)")
	}
	if err = r.hashInto(&p, s, password); err != nil {
		return Issued{}, Change{}, err
	}
	raw, err := build(p)
	if err != nil {
		return Issued{}, Change{}, err
	}
	return Issued{Password: generated, Value: secrets.Parse([]byte(raw))}, Change{Add: []string{raw}}, nil
}

// full says that there is no room for one more.
func full(live int) error {
	return violationf("the user has %d app passwords already, the most allowed; revoke one first", live).of(RuleFull, live)
}

// Renew gives an app password another expiry; the password stays. expires: the
// zero time for default_lifetime from now; never: none, where that is allowed.
// Errors: *Violation, ErrNoSuchPassword, ErrSeveral.
func (r *Rules) Renew(s *Set, ref Ref, expires time.Time, never bool, now time.Time) (Change, error) {
	at, err := r.expiry(expires, never, now)
	if err != nil {
		return Change{}, err
	}
	return r.edit(s, ref, now, func(p *secrets.Params) error {
		p.Expires = at
		return nil
	})
}

// Relabel gives an app password another label. Errors: *Violation, ErrNoSuchPassword, ErrSeveral.
func (r *Rules) Relabel(s *Set, ref Ref, label string, now time.Time) (Change, error) {
	return r.edit(s, ref, now, func(p *secrets.Params) error {
		p.Label = label
		return nil
	})
}

// Rescope limits an app password to other services and networks; none of one
// kind: any. Errors: *Violation, ErrNoSuchPassword, ErrSeveral.
func (r *Rules) Rescope(s *Set, ref Ref, services []string, networks []netip.Prefix, now time.Time) (Change, error) {
	return r.edit(s, ref, now, func(p *secrets.Params) (err error) {
		p.Services, p.Networks, err = scopes(services, networks)
		return err
	})
}

// Edit changes any part of an app password but its hash and id: change gets its
// parts and leaves them as they are to be. Several changes at once cost one
// modify. Errors: *Violation, ErrNoSuchPassword, ErrSeveral, those of change.
func (r *Rules) Edit(s *Set, ref Ref, now time.Time, change func(p *secrets.Params) error) (Change, error) {
	return r.edit(s, ref, now, func(p *secrets.Params) error {
		before := p.Expires
		err := change(p)
		if err != nil {
			return err
		}
		if p.Services, p.Networks, err = scopes(p.Services, p.Networks); err != nil || p.Expires.Equal(before) {
			return err
		}
		p.Expires, err = r.expiry(p.Expires, p.Expires.IsZero(), now)
		return err
	})
}

// edit replaces one value by the same with other parameters.
func (r *Rules) edit(s *Set, ref Ref, now time.Time, change func(p *secrets.Params) error) (Change, error) {
	v, err := s.Find(ref)
	if err != nil {
		return Change{}, err
	}
	if v.Err != nil {
		return Change{}, violationf("this app password cannot be used and not be changed, only revoked: %s", v.Err)
	}
	p := v.Params()
	id, hash := p.ID, p.Hash
	if err := change(&p); err != nil {
		return Change{}, err
	}
	p.ID, p.Hash = id, hash
	raw, err := build(p)
	if err != nil {
		return Change{}, err
	}
	if raw == v.Raw {
		return Change{}, nil
	}
	c := Change{Delete: []string{v.Raw}, Add: []string{raw}}
	after, _ := s.with(c)
	if err := after.conflict(after.Values[len(after.Values)-1]); err != nil {
		return Change{}, err
	}
	return c, r.room(s, after, now)
}

// Revoke deletes one app password. Errors: ErrNoSuchPassword, ErrSeveral.
func (r *Rules) Revoke(s *Set, ref Ref) (Change, error) {
	v, err := s.Find(ref)
	if err != nil {
		return Change{}, err
	}
	return Change{Delete: []string{v.Raw}}, nil
}

// RevokeAll deletes every app password for which which holds.
func (r *Rules) RevokeAll(s *Set, which func(v *secrets.Value) bool) Change {
	var c Change
	for _, v := range s.Values {
		if v.Kind == secrets.App && which(v) {
			c.Delete = append(c.Delete, v.Raw)
		}
	}
	return c
}

// scopes brings restrictions into the one form in which they are stored:
// canonical names and networks without host bits, each once.
func scopes(services []string, networks []netip.Prefix) ([]string, []netip.Prefix, error) {
	var names []string
	for _, s := range services {
		name := secrets.CanonicalService(strings.TrimSpace(s))
		if name == "" {
			return nil, nil, violationf("a service has no name: write such as imap or smtp")
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	var nets []netip.Prefix
	for _, n := range networks {
		if !n.IsValid() {
			return nil, nil, violationf("a network is malformed: write such as 192.0.2.0/24 or 2001:db8::/48")
		}
		if a := n.Addr(); a.Is4In6() && n.Bits() >= 96 {
			n = netip.PrefixFrom(a.Unmap(), n.Bits()-96)
		}
		if n = n.Masked(); !slices.Contains(nets, n) {
			nets = append(nets, n)
		}
	}
	return names, nets, nil
}
