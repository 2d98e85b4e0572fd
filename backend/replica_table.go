package backend

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"appbind/auth"
)

// table is the users as one session of the replica holds them. Its indexes
// answer only for what one entry alone has; where two share a key, neither is served.
type table struct {
	mu      sync.RWMutex       // guards the fields below; no I/O under it
	byID    map[string]*record // by the entryUUID of the sync state control, 16 octets, or by Key
	byDN    index
	byName  index              // by the values of the attributes of name_filter
	parents map[string]*parent // by DN key
	odd     bool               // attributes came that were not asked for by this name: byName would not be complete
	ended   bool               // the session is over: nothing is answered any more, but in an outage
	proven  time.Time          // the table was what the server held at this time; zero: not proven yet
	index   *recollection      // for searches in an outage, see recollection.go; nil: not made since the last change

	changed map[string]struct{} // the IDs that have changed since the snapshot was written, see note; nil: none was

	copied *copiedAttributes // what is held of each user besides; never changed
	server string            // who shows what it holds, as in auth.State; never changed
}

// record is one user.
type record struct {
	entry  *auth.Entry // never changed: whoever found it may hold it
	id     string      // in table.byID
	parent string      // key of the parent in table.parents
	names  []string    // keys in byName
	copied []byte      // attributes of table.copied, as a PartialAttributeList
}

// parent is an entry below which users stand. Renaming it renames them, and nothing is sent for them.
type parent struct {
	dn    string
	users int
	id    string // its entryUUID; "" until it was read
}

// index maps a key to the records that have it, nearly always one.
type index map[string][]*record

func (x index) add(key string, r *record) { x[key] = append(x[key], r) }

func (x index) remove(key string, r *record) {
	list := x[key]
	for i, other := range list {
		if other == r {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if len(list) == 0 {
		delete(x, key)
		return
	}
	x[key] = list
}

func newTable(copied *copiedAttributes) *table {
	return &table{byID: map[string]*record{}, byDN: index{}, byName: index{}, parents: map[string]*parent{}, copied: copied}
}

// put takes an entry in, in the place of what had its ID. parentDN is the DN of its parent.
func (t *table) put(id string, r *record, parentDN string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(id)
	t.enter(id, r, parentDN)
}

// enter is put of an ID that is not there; the caller holds t.mu.
func (t *table) enter(id string, r *record, parentDN string) {
	r.id = id
	t.note(id)
	t.byID[id], t.index = r, nil
	if key, plain := plainName(r.entry.DN); plain { // others are never asked for
		t.byDN.add(key, r)
	}
	for _, n := range r.names {
		t.byName.add(n, r)
	}
	p := t.parents[r.parent]
	if p == nil {
		p = &parent{dn: parentDN}
		t.parents[r.parent] = p
	}
	p.users++
}

// remove takes an entry out, and reports whether it was there.
func (t *table) remove(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := t.byID[id] != nil
	t.drop(id)
	return found
}

// vacate takes out what has this DN, but for the entry whose key is given.
func (t *table) vacate(dn, but string) {
	key, plain := plainName(dn)
	if !plain {
		return // not in the index
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range slices.Clone(t.byDN[key]) {
		if r.entry.Key != but {
			t.drop(r.id)
		}
	}
}

// records are all users, by ID.
func (t *table) records() map[string]*record {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return maps.Clone(t.byID)
}

// isParent reports whether the entry with this identity stands above users.
func (t *table) isParent(id string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, p := range t.parents {
		if p.id == id {
			return true
		}
	}
	return false
}

// drop is remove; the caller holds t.mu.
func (t *table) drop(id string) {
	r := t.byID[id]
	if r == nil {
		return
	}
	t.note(id)
	delete(t.byID, id)
	t.index = nil
	if key, plain := plainName(r.entry.DN); plain {
		t.byDN.remove(key, r)
	}
	for _, n := range r.names {
		t.byName.remove(n, r)
	}
	if p := t.parents[r.parent]; p != nil {
		p.users-- // at 0 it stays until watched: the only user of a container may come again at once
	}
}

// find is the one entry of a bind name; nil where the directory must be asked.
func (t *table) find(name string, isDN, byName bool, now time.Time) *auth.Entry {
	key, plain := plainName(name)
	if !plain || !isDN && !byName {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.ended || !currentAt(t.proven, now) {
		return nil
	}
	list := t.byDN[key]
	if !isDN {
		if list = t.byName[key]; t.odd {
			return nil
		}
	}
	if len(list) != 1 {
		return nil
	}
	return list[0].entry
}

// currentAt reports whether a proof of currency is young enough. The age is the
// larger of that by the monotonic clock and that by the wall clock: the first
// stands still while the machine sleeps, the second may be set.
func currentAt(proven, now time.Time) bool {
	if proven.IsZero() {
		return false
	}
	wall := now.Round(0).Sub(proven.Round(0))
	return now.Sub(proven) < maxAge && wall < maxAge && wall > -maxAge
}

// prove records that the table was current at that time.
func (t *table) prove(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at.After(t.proven) {
		t.proven = at
	}
}

// end makes the table answer nothing any more.
func (t *table) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
}

// size is how many users it holds and when it was proven last.
func (t *table) size() (users int, proven time.Time) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.byID), t.proven
}

// watched are the parents to look at, with the IDs that they had. Those without users are forgotten.
func (t *table) watched() []parent {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.parents, func(_ string, p *parent) bool { return p.users == 0 })
	list := make([]parent, 0, len(t.parents))
	for _, p := range t.parents {
		list = append(list, *p)
	}
	return list
}

// know records the ID of a parent.
func (t *table) know(key, id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.parents[key]; p != nil {
		p.id = id
	}
}

// plainName is a bind name in the form of the indexes: lower case. A name that
// has more than one spelling by more than case is not plain, and the directory
// must be asked what it means: escapes, quotes, spaces other than single ones within a
// value, several values in an RDN, letters outside ASCII.
func plainName(name string) (key string, plain bool) {
	upper := false
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case isAlnum(c):
			upper = upper || c >= 'A' && c <= 'Z'
		case strings.IndexByte("=,.@_-", c) >= 0:
		case c == ' ' && i > 0 && i+1 < len(name) && isAlnum(name[i-1]) && isAlnum(name[i+1]):
		default:
			return "", false
		}
	}
	if upper {
		name = strings.ToLower(name)
	}
	return name, true
}

func isAlnum(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
}
