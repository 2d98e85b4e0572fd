package backend

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"appbind/auth"
	"appbind/config"
	"appbind/wire"
)

// The form of the files. Numbers are unsigned varints, and of a text or a value its length stands before it.
//
//	first file: headUsers, id, copyKey, stamp, odd, copied attributes, parents, users, SHA-256 of all before
//	mark:       headMark, id of the first file, stamp, who has changed, SHA-256 of all before
//
// The heads end in the version, which counts up with any change of the form, or of what is
// in it: the numbers of the rules (matching.go), plainName, Key.
const (
	headUsers = "appbind replica snapshot 2\n"
	headMark  = "appbind replica mark 1\n"
)

// Reasons for which a file is refused.
var (
	errHead      = errors.New("it is no snapshot of this version of appbind")
	errSum       = errors.New("it is damaged or cut off: its checksum does not fit")
	errContent   = errors.New("its content is not well formed")
	errOtherSite = errors.New("it was made with another configuration (upstream.urls, upstream.bind_dn, users, app_passwords.attribute, own_entry_attributes)")
)

// frozen is a table at one moment.
type frozen struct {
	copied  *copiedAttributes
	odd     bool
	proven  time.Time
	parents map[string]string // DN by key
	records []*record         // never changed
}

// freeze takes what the first file will hold. What changes from here on is noted for the mark.
func (t *table) freeze() frozen {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changed = map[string]struct{}{}
	f := frozen{copied: t.copied, odd: t.odd, proven: t.proven, parents: make(map[string]string, len(t.parents)), records: make([]*record, 0, len(t.byID))}
	for key, p := range t.parents {
		f.parents[key] = p.dn
	}
	for _, r := range t.byID {
		f.records = append(f.records, r)
	}
	return f
}

func appendText[T string | []byte](dst []byte, s T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// appendMoment appends a time, zero too.
func appendMoment(dst []byte, at time.Time) []byte {
	if at.IsZero() {
		return appendText(dst, "")
	}
	return appendText(dst, at.UTC().Format(time.RFC3339Nano))
}

func appendTexts[T string | []byte](dst []byte, list []T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, s := range list {
		dst = appendText(dst, s)
	}
	return dst
}

func (s stamp) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(s.proven.UnixNano()))
	dst = binary.BigEndian.AppendUint64(dst, uint64(s.written.UnixNano()))
	dst = binary.BigEndian.AppendUint64(dst, uint64(s.since))
	dst = appendText(dst, s.boot)
	dst = binary.AppendUvarint(dst, uint64(len(s.services)))
	for _, k := range s.services {
		dst = binary.AppendUvarint(appendText(appendText(dst, k.dn), k.hash), uint64(k.age))
	}
	return dst
}

// writer writes the first file.
func (f frozen) writer(id [16]byte, key string, s stamp) func(io.Writer) error {
	return func(w io.Writer) error {
		sum, size := sha256.New(), 0
		put := func(b []byte) error {
			if size += len(b); size > maxSnapshot-sha256.Size {
				return fmt.Errorf("it would be longer than %d bytes", maxSnapshot)
			}
			sum.Write(b)
			_, err := w.Write(b)
			return err
		}
		b := append([]byte(headUsers), id[:]...)
		b = s.append(appendText(b, key))
		b = append(b, bit(f.odd))
		b = binary.AppendUvarint(b, uint64(len(f.copied.list)))
		for _, a := range f.copied.list {
			b = append(appendTexts(b, a.names), byte(a.rule), bit(a.substr))
		}
		number := map[string]uint64{}
		b = binary.AppendUvarint(b, uint64(len(f.parents)))
		for key, dn := range f.parents {
			number[key] = uint64(len(number))
			b = appendText(appendText(b, key), dn)
		}
		b = binary.AppendUvarint(b, uint64(len(f.records)))
		for _, r := range f.records {
			b = binary.AppendUvarint(b, number[r.parent])
			b = appendMoment(appendText(appendText(appendText(b, r.id), r.entry.Key), r.entry.DN), r.entry.Ends)
			b = appendText(appendTexts(appendTexts(b, r.entry.Values), r.names), r.copied)
			if err := put(b); err != nil {
				return err
			}
			b = b[:0]
		}
		if err := put(b); err != nil {
			return err
		}
		_, err := w.Write(sum.Sum(nil))
		return err
	}
}

func writerOf(content []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	}
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// scanner reads a file. What it gives are parts of the file. After something that is not well formed all is empty and bad is set.
type scanner struct {
	rest []byte
	bad  bool
}

// unseal checks head and checksum, and gives what is between.
func unseal(content []byte, head string) (*scanner, error) {
	body, ok := bytes.CutPrefix(content, []byte(head))
	switch end := len(body) - sha256.Size; {
	case !ok:
		return nil, errHead
	case end < 0:
		return nil, errSum
	case sha256.Sum256(content[:len(head)+end]) != [sha256.Size]byte(body[end:]):
		return nil, errSum
	default:
		return &scanner{rest: body[:end:end]}, nil
	}
}

func (s *scanner) take(n uint64) []byte {
	if n > uint64(len(s.rest)) {
		s.rest, s.bad = nil, true
		return nil
	}
	b := s.rest[:n:n]
	s.rest = s.rest[n:]
	return b
}

func (s *scanner) number() uint64 {
	n, used := binary.Uvarint(s.rest)
	if used <= 0 {
		s.rest, s.bad = nil, true
		return 0
	}
	s.rest = s.rest[used:]
	return n
}

// count is a number of things of which each takes at least that many bytes.
func (s *scanner) count(least int) int {
	n := s.number()
	if n > uint64(len(s.rest)/least) {
		s.rest, s.bad = nil, true
		return 0
	}
	return int(n)
}

func (s *scanner) bytes() []byte { return s.take(s.number()) }

func (s *scanner) text() string { return string(s.bytes()) }

func (s *scanner) texts() []string {
	list := make([]string, s.count(1))
	for i := range list {
		list[i] = s.text()
	}
	return list
}

func (s *scanner) bit() bool {
	b := s.take(1)
	s.bad = s.bad || b[0] > 1
	return !s.bad && b[0] == 1
}

func (s *scanner) fixed() int64 {
	b := s.take(8)
	if s.bad {
		return 0
	}
	return int64(binary.BigEndian.Uint64(b))
}

func (s *scanner) stamp() stamp {
	proven, written, since := s.fixed(), s.fixed(), s.fixed()
	st := stamp{proven: time.Unix(0, proven), written: time.Unix(0, written), since: time.Duration(since), boot: s.text()}
	for range s.count(3) {
		st.services = append(st.services, keptService{s.text(), s.text(), time.Duration(s.number())})
	}
	return st
}

// snapshotted is the content of a first file.
type snapshotted struct {
	id    [16]byte
	stamp stamp
	table *table // over: it answers in an outage only; proven is not set
}

// decodeUsers reads a first file, which must be of this configuration: of its copyKey, and with attributes out of wanted alone.
func decodeUsers(content []byte, key string, wanted []string) (snapshotted, error) {
	var d snapshotted
	s, err := unseal(content, headUsers)
	if err != nil {
		return d, err
	}
	copy(d.id[:], s.take(uint64(len(d.id))))
	made := s.text()
	if s.bad {
		return d, errContent
	}
	if made != key {
		return d, errOtherSite
	}
	d.stamp = s.stamp()
	odd := s.bit()
	copied := s.copied(wanted)
	parents := make([]parent, s.count(2))
	keys := make([]string, len(parents))
	for i := range parents {
		keys[i], parents[i].dn = s.text(), s.text()
	}
	n := s.count(7)
	d.table = newTable(copied)
	d.table.odd, d.table.ended, d.table.changed = odd, true, map[string]struct{}{}
	d.table.byID = make(map[string]*record, n)
	for range n {
		p, r := s.number(), s.record()
		if s.bad || p >= uint64(len(parents)) || d.table.byID[r.id] != nil {
			return d, errContent
		}
		r.parent = keys[p]
		d.table.put(r.id, r, parents[p].dn)
	}
	if s.bad || len(s.rest) > 0 {
		return d, errContent
	}
	clear(d.table.changed)
	return d, nil
}

// moment reads a time, zero too.
func (s *scanner) moment() time.Time {
	text := s.text()
	if text == "" {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	s.bad = s.bad || err != nil
	return at
}

func (s *scanner) record() *record {
	r := &record{id: s.text(), entry: &auth.Entry{Key: s.text(), DN: s.text(), Ends: s.moment(), User: true, Eligible: true, Copied: true, Index: new(auth.Index)}}
	if n := s.count(1); n > 0 {
		r.entry.Values = make([][]byte, n)
	}
	for i := range r.entry.Values {
		r.entry.Values[i] = s.bytes()
	}
	r.names = s.texts()
	r.copied = s.bytes()
	s.bad = s.bad || r.id == "" || r.entry.Key == "" || r.entry.DN == "" || !wellFormed(r.copied)
	return r
}

// wellFormed reports whether a list of attributes can be read to its end.
func wellFormed(attributes []byte) bool {
	ok := true
	err := wire.EachAttribute(attributes, func(a wire.Attribute) bool {
		ok = wire.EachString(a.Values, func([]byte) bool { return true }) == nil
		return ok
	})
	return ok && err == nil
}

// copied reads the attributes that users have besides.
func (s *scanner) copied(wanted []string) *copiedAttributes {
	c := &copiedAttributes{byName: map[string]*copiedAttribute{}}
	for range s.count(3) {
		a := &copiedAttribute{names: s.texts()}
		number := s.take(1)
		a.substr = s.bit()
		if s.bad || len(a.names) == 0 || number[0] >= byte(rules) || !slices.Contains(wanted, a.names[len(a.names)-1]) ||
			slices.ContainsFunc(a.names, func(n string) bool { return PasswordLike(n) || config.PasswordLike(n) || c.byName[n] != nil }) {
			s.rest, s.bad = nil, true
			return c
		}
		a.rule = rule(number[0])
		c.add(a)
	}
	return c
}
