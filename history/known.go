package history

import (
	"context"
	"database/sql"
	"time"
)

// Known finds what is known of a password by what tells it from others, see Event.
type Known struct {
	passwords map[knownKey]*Password
}

// knownKey is a password's key in the store.
type knownKey struct{ entry, kind, ident string }

// NewKnown makes it of what Passwords returned.
func NewKnown(list []Password) *Known {
	k := &Known{passwords: make(map[knownKey]*Password, len(list))}
	for i := range list {
		p := &list[i]
		k.passwords[knownKey{p.Entry, p.Kind, ident(&Event{Kind: p.Kind, ID: p.ID, Label: p.Label})}] = p
	}
	return k
}

// App is an app password of an entry, by its selector, or where it has none by its label; nil: nothing is known of it.
func (k *Known) App(entry, id, label string) *Password {
	return k.passwords[knownKey{key(entry), App, ident(&Event{Kind: App, ID: id, Label: label})}]
}

// Main is the main password of an entry; nil: nothing is known of it.
func (k *Known) Main(entry string) *Password {
	return k.passwords[knownKey{key(entry), Main, ""}]
}

// Span is the time of the first and of the last bind that the history knows of; zero: of none. What was deleted
// counts only as far as the times of first and last uses are left of it. Between the two there may be gaps.
func (s *Store) Span(ctx context.Context) (first, last time.Time, err error) {
	for _, query := range []string{
		"SELECT MIN(first_used), MAX(last_used) FROM history_passwords",
		"SELECT MIN(first_at), MAX(last_at) FROM history_uses",
	} {
		var from, to sql.NullInt64
		if err := s.db.QueryRowContext(ctx, query).Scan(&from, &to); err != nil {
			return time.Time{}, time.Time{}, err
		}
		if at := timeOf(from); !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
		if at := timeOf(to); at.After(last) {
			last = at
		}
	}
	return first, last, nil
}
