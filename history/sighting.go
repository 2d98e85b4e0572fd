package history

import (
	"context"
	"database/sql"
	"errors"
	"net/netip"
	"time"

	"appbind/events"
)

// Two things are noticed when uses are written, since only the store knows what was before: an app
// password that is used from a network from which it was not used within the retention,
// and a device that goes on with one that was revoked, or has expired.

const (
	// The networks that count as one: an address of a provider's customer, or a company's, changes within it.
	networkBits4 = 24
	networkBits6 = 48
	// silence is after what time without a failure a stale device is noticed again.
	silence = 24 * time.Hour
	// maxNetworks bounds the addresses that one row is compared with.
	maxNetworks = 10000
)

const (
	lastAddress = `SELECT id, last_address FROM history_passwords WHERE user_id = $1 AND kind = $2 AND ident = $3 AND last_used IS NOT NULL`

	allAddresses = `SELECT DISTINCT address FROM history_uses WHERE password_id = $1 AND denied = '' AND address <> '' LIMIT $2`

	// The first condition on the time is for the index.
	failedBefore = `SELECT COUNT(*) FROM history_uses WHERE password_id = $1 AND bucket >= $2 AND denied = $3 AND last_at >= $4`
)

// ReasonExpired is the Denied of an app password that has expired.
const ReasonExpired = "app password expired"

// network is what is taken for one place.
func network(a netip.Addr) netip.Prefix {
	bits := networkBits6
	if a.Is4() {
		bits = networkBits4
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // unreachable: the address is valid, and has so many bits
	}
	return p
}

// beforeUse looks, before a use is written, whether it comes from a new network. The first
// network of an app password is not new: it is the one to compare with.
func (w *writer) beforeUse(ctx context.Context, r *row) error {
	if !w.watch || r.denied != "" || r.kind != App || !r.addr.IsValid() {
		return nil
	}
	var password int64
	var last string
	err := w.tx.QueryRowContext(ctx, lastAddress, w.id, r.kind, r.ident).Scan(&password, &last)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	if a := parseAddr(last); a.IsValid() && network(a) == network(r.addr) {
		return nil
	}
	known, err := w.addresses(ctx, password)
	if err != nil {
		return err
	}
	for _, a := range known {
		if network(a) == network(r.addr) {
			return nil
		}
	}
	if len(known) > 0 {
		r.sighting = events.NewNetwork
	}
	return nil
}

// addresses are those from which an app password was used.
func (w *writer) addresses(ctx context.Context, password int64) ([]netip.Addr, error) {
	rows, err := w.tx.QueryContext(ctx, allAddresses, password, maxNetworks)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []netip.Addr
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		if a := parseAddr(text); a.IsValid() {
			list = append(list, a)
		}
	}
	return list, rows.Err()
}

// beforeFailure looks, before a failure is written, whether it is the first one of a device that goes on with
// an old app password.
func (w *writer) beforeFailure(ctx context.Context, r *row, password int64) error {
	if !w.watch || r.kind != App || r.denied != ReasonExpired && (r.denied != ReasonGone || !w.known) {
		return nil
	}
	since := r.first - silence.Milliseconds()
	n := 0
	if err := w.tx.QueryRowContext(ctx, failedBefore, password, since-aDay.Milliseconds(), r.denied, since).Scan(&n); err != nil {
		return err
	}
	if n == 0 {
		r.sighting = events.Stale
		if r.denied == ReasonGone {
			r.label = w.label
		}
	}
	return nil
}

// report tells whoever watches what was noticed in rows that are stored now.
func (r *Recorder) report(rows []*row) {
	if r.watch == nil {
		return
	}
	for _, x := range rows {
		if x.sighting == "" {
			continue
		}
		r.watch(events.Event{
			Time: time.UnixMilli(x.first), Kind: x.sighting, Entry: x.entry, DN: x.dn, ID: x.id, Label: x.label,
			Addr: x.addr, Service: x.service, Reason: x.denied,
		})
	}
}
