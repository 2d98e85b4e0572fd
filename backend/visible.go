package backend

import (
	"context"
	"fmt"
	"slices"
	"time"

	"appbind/auth"
	"appbind/wire"
)

// visibleFor is how long it holds that a base was seen: ten more searches a second at most, however many unknown names
// come, and a tenth of a second in which a server that has just ceased to show its entries is taken for one that has none.
const visibleFor = 100 * time.Millisecond

// missing says what it means that a lookup found nothing: auth.ErrNotFound, or trouble. An identity that lost its
// right to read, and a server that lost its entries, find nobody, which would be
// "wrong password" for everybody. So the base below which the name would stand must be
// visible to upstream.bind_dn, on the server that answered: those of users.bases that hold
// the DN; all of them for a DN elsewhere and a name that is no DN.
func (u *Upstream) missing(ctx context.Context, dn string, r lookedUp) error {
	name, _ := wire.ParseDN(dn) // an empty one stands nowhere
	holds := func(base wire.DN) bool { return len(name) > 0 && name.HasSuffix(base) }
	all := !slices.ContainsFunc(u.lookup.bases, holds)
	for i, base := range u.lookup.bases {
		if !all && !holds(base) {
			continue
		}
		if err := u.seeBase(ctx, r.from, i); err != nil {
			if u.blindLog.allow(u.clock.now()) {
				u.log.Error("users.bases cannot be seen", "upstream", r.from.name, "error", err)
			}
			return err
		}
	}
	return auth.ErrNotFound
}

// seeBase makes sure that a server shows users.bases[i], or did so a moment ago.
func (u *Upstream) seeBase(ctx context.Context, srv *server, i int) error {
	now, base := u.clock.now(), u.cfg.Users.Bases[i]
	if age := now.Sub(time.Unix(0, srv.visible[i].Load())); age >= 0 && age < visibleFor {
		return nil
	}
	seen := 0
	s := u.lookup.search(base, wire.ScopeBase, presentObjectClass, wire.AppendStrings(nil, "1.1"))
	r, err := u.serverSearch(ctx, srv, 1, s, nil, func(wire.SearchEntry, []byte) error { seen++; return nil })
	switch {
	case err != nil:
		return err
	case r.Code != wire.ResultSuccess || seen == 0:
		return fmt.Errorf("lookup: %s does not show %q of users.bases to upstream.bind_dn (result %d), so that nobody can be told unknown; may it read there?", srv.name, base, r.Code)
	}
	srv.visible[i].Store(now.UnixNano())
	return nil
}
