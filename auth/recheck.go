package auth

import (
	"context"
	"errors"

	"appbind/secrets"
)

// ErrRevoked says that the app password of a session is gone, has expired, or that its user may not log in any more.
var ErrRevoked = errors.New("the app password of this session is no longer valid")

// Recheck tells whether a session that was bound with an app password may go on. nil: the value is
// still stored and usable, app passwords are not switched off, and the user is eligible. ErrRevoked: not so; the session ends. Any other error is
// trouble with the lookup, which says nothing about the session. Sessions that were passed
// through are the upstream's own matter: nil.
//
// An entry that was renamed is looked up under its old DN and so revoked; the client binds again.
func (v *Verifier) Recheck(ctx context.Context, d *Decision) error {
	if d.Kind != Accepted || d.App == nil || d.Entry == nil {
		return nil
	}
	if v.off {
		return ErrRevoked
	}
	e, err := v.dir.Find(ctx, d.Entry.DN)
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrAmbiguous):
		return ErrRevoked
	case err != nil:
		return err
	case e == nil:
		return errors.New("appbind: internal error: lookup without an entry")
	}
	if e.Key != d.Entry.Key || !e.User || !e.Eligible || v.expired(d.App) {
		return ErrRevoked
	}
	for _, raw := range e.Values {
		if string(raw) == d.App.Raw {
			return nil
		}
	}
	return ErrRevoked
}

// expired is the one restriction that can change while the value stays the same.
func (v *Verifier) expired(value *secrets.Value) bool {
	return !value.Expires.IsZero() && !v.mem.now().Before(value.Expires)
}
