package backend

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"appbind/auth"
)

// block is a user who has changed since the first file was written: nobody is taken from there who has
// its ID, or one of the keys under which it is known now. Without the latter, a name
// that two users have now would be that of one of them.
type block struct {
	id    string
	names []string
	dn    string // key in byDN; "": none
}

// blocked are the users who have changed.
func (t *table) blocked() (list []block, changes int, proven time.Time) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for id := range t.changed {
		b := block{id: id}
		if r := t.byID[id]; r != nil {
			b.names = r.names
			b.dn, _ = plainName(r.entry.DN)
		}
		list = append(list, b)
	}
	return list, len(t.changed), t.proven
}

// block takes out of a table what a mark says.
func (t *table) block(list []block) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range list {
		t.drop(b.id)
		for _, r := range slices.Clone(t.byDN[b.dn]) {
			t.drop(r.id)
		}
		for _, name := range b.names {
			for _, r := range slices.Clone(t.byName[name]) {
				t.drop(r.id)
			}
		}
	}
}

func encodeMark(id [16]byte, s stamp, list []block) []byte {
	b := append([]byte(headMark), id[:]...)
	b = s.append(b)
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, e := range list {
		b = appendTexts(appendText(appendText(b, e.id), e.dn), e.names)
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func decodeMark(content []byte) (id [16]byte, st stamp, list []block, err error) {
	s, err := unseal(content, headMark)
	if err != nil {
		return id, st, nil, err
	}
	copy(id[:], s.take(uint64(len(id))))
	st = s.stamp()
	list = make([]block, s.count(3))
	for i := range list {
		list[i] = block{id: s.text(), dn: s.text(), names: s.texts()}
	}
	if s.bad || len(s.rest) > 0 {
		return id, st, nil, errContent
	}
	return id, st, list, nil
}

// restored is what a start finds.
type restored struct {
	table    *table // a copy for an outage that is over with the first session
	id       [16]byte
	services []auth.KeptService
}

// readSnapshot reads both files.
func (u *Upstream) readSnapshot(now time.Time) (r restored, err error) {
	k := u.snapshot
	content, err := readPrivate(k.file, maxSnapshot)
	if err != nil {
		return r, err
	}
	d, err := decodeUsers(content, u.replica.key, u.replica.wanted)
	if err != nil {
		return r, err
	}
	boot, since := k.boot()
	age, err := d.stamp.age(now, boot, since)
	if err != nil {
		return r, err
	}
	switch content, err := readPrivate(markOf(k.file), maxMark); {
	case errors.Is(err, fs.ErrNotExist): // nothing was written after the first file
	case err != nil:
		return r, err
	default:
		id, st, list, err := decodeMark(content)
		if err != nil {
			return r, fmt.Errorf("%s: %w", markOf(k.file), err)
		}
		if id != d.id {
			break // of another first file, which this one has replaced
		}
		if age, err = st.age(now, boot, since); err != nil {
			return r, err
		}
		d.table.block(list)
		d.stamp = st
	}
	if age >= u.replica.maxStale {
		return r, fmt.Errorf("it is too old: it was proven %v ago, and app_passwords.max_stale is %v", age.Round(time.Second), u.replica.maxStale)
	}
	d.table.prove(now.Add(-age))
	return restored{d.table, d.id, d.stamp.restored(age, u.replica.maxStale, now)}, nil
}
