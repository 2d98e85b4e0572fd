package proxy

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"appbind/auth"
	"appbind/manage"
	"appbind/wire"
)

// For how long it is remembered whether somebody is a manager, of how many, and
// that it could not be found out: a directory that does not answer must not
// delay the searches of everybody else.
const (
	managerFresh = 10 * time.Second
	managerRetry = time.Second
	maxRoster    = 10000
)

// roster remembers who was found to be a manager, by the DN of the bind, for all
// connections of one account together.
type roster struct {
	mu    sync.Mutex // guards known
	known map[string]membership
}

// membership is whether somebody is a manager, and until when that holds.
type membership struct {
	manager bool
	until   time.Time
}

// look is what is known of a DN.
func (r *roster) look(dn string, now time.Time) (manager, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.known[dn]
	return m.manager, ok && now.Before(m.until)
}

// note remembers. When there are too many all are forgotten.
func (r *roster) note(dn string, m membership) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= maxRoster {
		clear(r.known)
	}
	r.known[dn] = m
}

// maySeeVirtual reports whether the client can be one who sees virtual entries at
// all. It is what they cost everybody else: no session of an app password, nobody anonymous.
func (c *conn) maySeeVirtual() bool {
	if c.sess.kind != passed {
		return false
	}
	st := c.srv.state.Load()
	return st.virtual && (c.sess.entry != "" || len(st.managers) > 0)
}

// virtualUser is the user of a DN, if the client may see his app passwords: the
// user himself after a bind of his own upstream, and managers. nil: nobody, or none of the
// client's business.
func (c *conn) virtualUser(ctx context.Context, st *state, dn string) (*manage.User, error) {
	if !c.maySeeVirtual() {
		return nil, nil
	}
	parsed, err := wire.ParseDN(dn)
	if err != nil || !slices.ContainsFunc(st.bases, parsed.HasSuffix) {
		return nil, nil // the directory says so
	}
	own := c.ownDN()
	self := own != nil && own.Key() == parsed.Key()
	if !self && !c.isManager(st) {
		return nil, nil
	}
	u, err := st.manager.Find(ctx, dn)
	switch {
	case errors.Is(err, auth.ErrNotFound), errors.Is(err, auth.ErrAmbiguous), errors.Is(err, manage.ErrNotUser):
		return nil, nil
	case err != nil:
		return nil, err
	case !c.isSelf(u) && !c.isManager(st): // another one by the same name
		return nil, nil
	}
	return u, nil
}

// isSelf reports whether the client has bound as this user: as the same entry, not only by the same name.
func (c *conn) isSelf(u *manage.User) bool { return c.sess.entry != "" && c.sess.entry == u.Key }

// ownDN is the DN of the user as whom the client has bound; nil: it is no user.
func (c *conn) ownDN() wire.DN {
	if c.sess.kind != passed || c.sess.entry == "" {
		return nil
	}
	dn, err := wire.ParseDN(c.sess.dn)
	if err != nil {
		return nil
	}
	return dn
}

// isManager reports whether the client has bound as one of managers, or as a
// member of a group among them. When the directory does not tell, it has not.
func (c *conn) isManager(st *state) bool {
	if c.sess.kind != passed || len(st.managers) == 0 {
		return false
	}
	now := time.Now()
	if manager, known := st.roster.look(c.sess.dn, now); known {
		return manager
	}
	ctx, cancel := context.WithTimeout(c.srv.base, time.Duration(st.Config.Upstream.BindTimeout))
	defer cancel()
	manager, err := st.managed(ctx, c.sess.dn)
	fresh := managerFresh
	if err != nil {
		c.debug("managers cannot be read", err)
		manager, fresh = false, managerRetry
	}
	st.roster.note(c.sess.dn, membership{manager, time.Now().Add(fresh)})
	return manager
}

// managed reports whether a DN is one of managers or a member of one.
func (st *state) managed(ctx context.Context, dn string) (bool, error) {
	parsed, err := wire.ParseDN(dn)
	if err != nil {
		return false, nil
	}
	if st.managers[parsed.Key()] {
		return true, nil
	}
	for _, group := range st.Config.Managers {
		member := false
		s := &wire.SearchRequest{Base: []byte(group), Scope: wire.ScopeBase, Filter: memberFilter(dn), Attributes: wire.AppendStrings(nil, "1.1"), SizeLimit: 1}
		_, err := st.Upstream.ServiceSearch(ctx, s, nil, func(wire.SearchEntry, []byte) error {
			member = true
			return nil
		})
		if err != nil || member {
			return member, err
		}
	}
	return false, nil
}

// memberFilter is (|(member=dn)(uniqueMember=dn)).
func memberFilter(dn string) []byte {
	var f []byte
	for _, attribute := range [...]string{"member", "uniqueMember"} {
		at := len(f)
		f = wire.AppendStrings(f, attribute, dn)
		f = wire.CloseElement(f, at, filterEquality)
	}
	return wire.CloseElement(f, 0, filterOr)
}

// isBase reports whether a search base is one of users.bases as configured.
func (st *state) isBase(base []byte) bool {
	for _, b := range st.Config.Users.Bases {
		if string(base) == b {
			return true
		}
	}
	return false
}

// touchesBases reports whether users can stand below a DN: it is above one of users.bases, or below.
func (st *state) touchesBases(dn wire.DN) bool {
	return slices.ContainsFunc(st.bases, func(b wire.DN) bool { return dn.HasSuffix(b) || b.HasSuffix(dn) })
}
