package history

import (
	"context"
	"database/sql"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// conditions is a WHERE clause in the making.
type conditions struct {
	text []string
	args []any
}

// and adds a condition, with ? for its argument.
func (c *conditions) and(text string, arg any) {
	c.args = append(c.args, arg)
	c.text = append(c.text, strings.ReplaceAll(text, "?", "$"+strconv.Itoa(len(c.args))))
}

func (c *conditions) where() string {
	if len(c.text) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.text, " AND ")
}

// Filter says which uses are wanted. Zero fields do not restrict.
type Filter struct {
	Entry    string // the entry's canonical identity
	DN       string // its last known DN, in any case: for entries that are gone
	Kind     string // App, Main or None
	ID       string // the app password's selector
	Label    string // the app password's label, where it has no selector
	Since    time.Time
	Until    time.Time // exclusive
	Accepted bool      // successful ones only
	Denied   bool      // failures only
	Limit    int       // of rows; 0: a thousand
}

// defaultLimit is Filter.Limit where none is given.
const defaultLimit = 1000

const selectUses = `SELECT u.entry, u.dn, p.kind, p.selector, p.label, h.denied, h.service, h.address, h.peer, h.listener, h.first_at, h.last_at, h.times
FROM history_uses h JOIN history_passwords p ON p.id = h.password_id JOIN history_users u ON u.id = p.user_id`

// Uses are the uses and failures that a filter selects, the latest first.
func (s *Store) Uses(ctx context.Context, f Filter) ([]Use, error) {
	var c conditions
	if f.Entry != "" {
		c.and("u.entry = ?", key(f.Entry))
	}
	if f.DN != "" {
		c.and("LOWER(u.dn) = LOWER(?)", clean(f.DN))
	}
	if f.Kind != "" {
		c.and("p.kind = ?", f.Kind)
	}
	switch {
	case f.ID != "":
		c.and("p.ident = ?", "i"+clean(f.ID))
	case f.Label != "":
		c.and("p.ident = ?", "l"+clean(f.Label))
	}
	if !f.Since.IsZero() {
		c.and("h.last_at >= ?", f.Since.UnixMilli())
	}
	if !f.Until.IsZero() {
		c.and("h.first_at < ?", f.Until.UnixMilli())
	}
	if f.Accepted {
		c.and("h.denied = ?", "")
	}
	if f.Denied {
		c.and("h.denied <> ?", "")
	}
	limit := f.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	c.args = append(c.args, limit)
	return s.uses(ctx, selectUses+c.where()+" ORDER BY h.last_at DESC, h.first_at DESC, u.entry, p.ident, h.denied, h.service, h.address LIMIT $"+strconv.Itoa(len(c.args)), c.args...)
}

func (s *Store) uses(ctx context.Context, query string, args ...any) ([]Use, error) {
	return list(ctx, s.db, func(r *sql.Rows, u *Use) error {
		var addr, peer string
		var first, last int64
		err := r.Scan(&u.Entry, &u.DN, &u.Kind, &u.ID, &u.Label, &u.Denied, &u.Service, &addr, &peer, &u.Listener, &first, &last, &u.Times)
		u.Addr, u.Peer = parseAddr(addr), parseAddr(peer)
		u.First, u.Last = time.UnixMilli(first), time.UnixMilli(last)
		return err
	}, query, args...)
}

const selectPasswords = `SELECT u.entry, u.dn, p.kind, p.selector, p.label, p.issued, p.revoked, p.first_used, p.last_used, p.last_service, p.last_address, p.uses
FROM history_passwords p JOIN history_users u ON u.id = p.user_id`

const orderPasswords = " ORDER BY u.dn, u.entry, p.kind, p.label, p.ident"

// Passwords are the passwords of an entry that are known: its app passwords, those that were revoked too, and its
// main password; "" asks for those of all entries. App passwords that were never used nor noted are not among them.
func (s *Store) Passwords(ctx context.Context, entry string) ([]Password, error) {
	var c conditions
	c.and("p.kind <> ?", None)
	if entry != "" {
		c.and("u.entry = ?", key(entry))
	}
	return s.passwords(ctx, selectPasswords+c.where()+orderPasswords, c.args...)
}

// Unused are the app passwords, not revoked as far as is known, that were last used, or issued, before a
// time. Of those that were never used only those are known whose issue was noted.
func (s *Store) Unused(ctx context.Context, before time.Time) ([]Password, error) {
	return s.passwords(ctx, selectPasswords+` WHERE p.kind = 'app' AND p.revoked IS NULL AND COALESCE(p.last_used, p.issued, $1) < $1`+orderPasswords,
		before.UnixMilli())
}

func (s *Store) passwords(ctx context.Context, query string, args ...any) ([]Password, error) {
	return list(ctx, s.db, func(r *sql.Rows, p *Password) error {
		var issued, revoked, first, last sql.NullInt64
		var addr string
		err := r.Scan(&p.Entry, &p.DN, &p.Kind, &p.ID, &p.Label, &issued, &revoked, &first, &last, &p.Service, &addr, &p.Uses)
		p.Issued, p.Revoked, p.FirstUsed, p.LastUsed = timeOf(issued), timeOf(revoked), timeOf(first), timeOf(last)
		p.Addr = parseAddr(addr)
		return err
	}, query, args...)
}

// grouped sums up uses that are alike but for their time.
const grouped = ` GROUP BY u.entry, u.dn, p.kind, p.selector, p.label, h.denied, h.service, h.address ORDER BY MAX(h.last_at) DESC, u.entry, p.selector, p.label, h.service, h.address`

const selectGrouped = `SELECT u.entry, u.dn, p.kind, p.selector, p.label, h.denied, h.service, h.address, MAX(h.peer), MAX(h.listener), MIN(h.first_at), MAX(h.last_at), SUM(h.times)
FROM history_uses h JOIN history_passwords p ON p.id = h.password_id JOIN history_users u ON u.id = p.user_id`

// MainPasswords are the successful uses of main passwords since a time, one for each
// user, service and address: who has yet to move to app passwords, and with what.
func (s *Store) MainPasswords(ctx context.Context, since time.Time) ([]Use, error) {
	return s.uses(ctx, selectGrouped+` WHERE p.kind = 'main' AND h.denied = '' AND h.last_at >= $1`+grouped, since.UnixMilli())
}

// StaleReasons are those of passwords that were good once, or look it: the device has an old one.
func StaleReasons() []string {
	return []string{
		ReasonGone, "app password expired", "password known to be wrong", "failure budget used up", "refused by the upstream",
		"main password not allowed here", "main password not allowed for this user",
	}
}

// staleTries is how often a wrong main password must have been tried to be a device's, and not a person's typing mistake.
const staleTries = 3

// Stale are the devices that go on with a password that no longer works, since a time, the latest
// first: a revoked or expired app password, a main password that is wrong or not allowed. One
// for each user, password, reason, service and address.
func (s *Store) Stale(ctx context.Context, since time.Time) ([]Use, error) {
	c := conditions{}
	c.and("h.last_at >= ?", since.UnixMilli())
	var in []string
	for _, reason := range StaleReasons() {
		c.args = append(c.args, reason)
		in = append(in, "$"+strconv.Itoa(len(c.args)))
	}
	c.args = append(c.args, staleTries)
	having := " HAVING p.kind = 'app' OR SUM(h.times) >= $" + strconv.Itoa(len(c.args))
	text := selectGrouped + c.where() + " AND h.denied IN (" + strings.Join(in, ", ") + ")"
	return s.uses(ctx, text+strings.Replace(grouped, " ORDER BY", having+" ORDER BY", 1), c.args...)
}

// list collects what a query finds.
func list[T any](ctx context.Context, db *sql.DB, scan func(*sql.Rows, *T) error, query string, args ...any) ([]T, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []T
	for rows.Next() {
		var one T
		if err := scan(rows, &one); err != nil {
			return nil, err
		}
		found = append(found, one)
	}
	return found, rows.Err()
}

// timeOf is a time of the store, zero for NULL.
func timeOf(ms sql.NullInt64) time.Time {
	if !ms.Valid {
		return time.Time{}
	}
	return time.UnixMilli(ms.Int64)
}

// parseAddr reads what addrText wrote.
func parseAddr(text string) netip.Addr {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return a
}
