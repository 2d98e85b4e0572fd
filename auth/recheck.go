package auth

import (
	"context"
	"errors"

	"appbind/secrets"
)

// ErrRevoked says that the app password of a session is gone, has expired, or that its user may not log in any more.
var ErrRevoked = errors.New("the app password of this session is no longer valid")

// Login is what a session that an app password opened needs of it, and nothing else of the entry: a session
// may last for days.
type Login struct {
	dn, key string // of the entry
	app     *secrets.Value
}

// Login is what Recheck needs; nil unless the bind was accepted with an app password.
func (d *Decision) Login() *Login {
	if d.Kind != Accepted || d.App == nil || d.Entry == nil {
		return nil
	}
	return &Login{dn: d.Entry.DN, key: d.Entry.Key, app: d.App}
}

// Recheck tells whether a session that was bound with an app password may go on. nil: the value is
// still stored and usable, app passwords are not switched off, and the user is eligible. ErrRevoked: not so; the session ends. Any other error is
// trouble with the lookup, which says nothing about the session. A nil login, of a session that was passed
// through, is the upstream's own matter: nil.
//
// An entry that was renamed is looked up under its old DN and so revoked; the client binds again.
func (v *Verifier) Recheck(ctx context.Context, l *Login) error {
	if l == nil {
		return nil
	}
	if v.off {
		return ErrRevoked
	}
	e, err := v.dir.Find(ctx, l.dn)
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrAmbiguous):
		return ErrRevoked
	case err != nil:
		return err
	case e == nil:
		return errors.New("appbind: internal error: lookup without an entry")
	}
	if e.Key != l.key || !e.User || !e.Enabled(v.mem.now()) || v.expired(l.app) {
		return ErrRevoked
	}
	for _, raw := range e.Values {
		if string(raw) == l.app.Raw {
			return nil
		}
	}
	return ErrRevoked
}

// expired is the one restriction that can change while the value stays the same.
func (v *Verifier) expired(value *secrets.Value) bool {
	return !value.Expires.IsZero() && !v.mem.now().Before(value.Expires)
}
