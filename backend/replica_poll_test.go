package backend

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"appbind/auth"
	"appbind/backend/fakeldap"
	"appbind/config"
	"appbind/wire"
)

// never keeps a test's poll or list from happening.
const never = time.Hour

// keeper is a directory that writes change marks, pages, and tells of changes as asked.
type keeper struct {
	*fakeldap.Directory
	ad   bool
	root []string

	mu      sync.Mutex // guards the fields below
	usn     int
	stamp   time.Time
	refuse  map[string]int32 // controls of hints that are refused, with a code
	waiting []waiting
	users   map[string][]string
}

// waiting is a search that hears of changes.
type waiting struct {
	c    *fakeldap.Conn
	id   int32
	oid  string
	base wire.DN
}

// newKeeper is a directory with the users eve and max below ou=people; controls are what it offers.
func newKeeper(ad bool, controls ...string) *keeper {
	k := &keeper{Directory: directory(), ad: ad, usn: 1000, stamp: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), refuse: map[string]int32{}, users: map[string][]string{}}
	k.root = []string{"objectClass", "top", "namingContexts", "dc=example,dc=org"}
	if ad {
		k.root = append(k.root, "supportedCapabilities", capabilityActiveDirectory)
	}
	for _, c := range controls {
		k.root = append(k.root, "supportedControl", c)
	}
	k.Remove(alice)
	k.put(people, "p", "objectClass", "organizationalUnit")
	k.put("uid=eve,"+people, "e", "objectClass", "person", "uid", "eve", "appPassword", "$app$x$h")
	k.put("uid=max,"+people, "m", "objectClass", "person", "uid", "max", "appPassword", "$app$m$h")
	return k
}

// put makes or changes an entry, as of now; id is one letter.
func (k *keeper) put(dn, id string, attributes ...string) {
	k.mu.Lock()
	k.usn++
	k.users[dn] = append([]string{id}, attributes...)
	marks := []string{"nsUniqueId", uniqueID(id), "modifyTimestamp", k.stamp.Format("20060102150405Z")}
	if k.ad {
		marks = []string{"objectGUID", strings.Repeat(id, 16), "uSNChanged", strconv.Itoa(k.usn)}
	}
	k.Add(dn, "", append(marks, attributes...)...)
	k.Add("", "", append([]string{"highestCommittedUSN", strconv.Itoa(k.usn)}, k.root...)...)
	k.mu.Unlock()
	k.tell(dn, id, false)
}

func uniqueID(id string) string {
	x := fmt.Sprintf("%x", strings.Repeat(id, 16))
	return x[:8] + "-" + x[8:16] + "-" + x[16:24] + "-" + x[24:]
}

// remove deletes an entry.
func (k *keeper) remove(dn string) {
	k.mu.Lock()
	k.usn++
	id := k.users[dn][0]
	delete(k.users, dn)
	k.Remove(dn)
	k.mu.Unlock()
	if !k.ad { // which tells of no deletions
		k.tell(dn, id, true)
	}
}

// move renames an entry.
func (k *keeper) move(from, to string) {
	k.mu.Lock()
	id, attributes := k.users[from][0], k.users[from][1:]
	delete(k.users, from)
	k.Remove(from)
	k.mu.Unlock()
	k.put(to, id, attributes...)
}

// tell sends a change to those who wait for it.
func (k *keeper) tell(dn, id string, gone bool) {
	k.mu.Lock()
	list := slices.Clone(k.waiting)
	k.mu.Unlock()
	for _, w := range list {
		if parsed, err := wire.ParseDN(dn); err != nil || !parsed.HasSuffix(w.base) {
			continue
		}
		attributes := []string{"nsUniqueId", uniqueID(id)}
		if k.ad {
			attributes = []string{"objectGUID", strings.Repeat(id, 16)}
		}
		var controls []byte
		if w.oid == oidSyncRequest {
			state := byte(stateModify)
			if attributes = nil; gone {
				state = stateDelete
			}
			value := wire.AppendElement([]byte{0x0a, 1, state}, wire.TagOctetString, []byte(strings.Repeat(id, 16)))
			controls = wire.AppendControl(nil, oidSyncState, false, wire.AppendElement(nil, wire.TagSequence, value))
		}
		w.c.Write(entryWith(w.id, dn, controls, attributes...))
	}
}

// entryWith is a search entry with controls.
func entryWith(id int32, dn string, controls []byte, attributes ...string) []byte {
	m, err := wire.Parse(fakeldap.EntryMessage(id, dn, attributes...))
	if err != nil {
		panic(err)
	}
	return wire.AppendMessage(nil, id, wire.OpSearchResultEntry, m.Body, controls)
}

// Handle answers one message.
func (k *keeper) Handle(c *fakeldap.Conn, m wire.Message) {
	oid := ""
	_ = wire.EachControl(m.Controls, func(x wire.Control) bool {
		if string(x.OID) != oidPaged {
			oid = string(x.OID)
		}
		return true
	})
	s, err := wire.DecodeSearch(m.Body)
	if m.Op != wire.OpSearchRequest || err != nil || oid == "" {
		k.Directory.Handle(c, m)
		return
	}
	base, _ := wire.ParseDN(string(s.Base))
	k.mu.Lock()
	code := k.refuse[oid]
	if code == 0 {
		k.waiting = append(k.waiting, waiting{c, m.ID, oid, base})
	}
	k.mu.Unlock()
	if code != 0 {
		c.Answer(m, code)
		return
	}
	if oid == oidSyncRequest { // a refresh of one entry, and its end
		value := wire.AppendElement([]byte{0x0a, 1, stateAdd}, wire.TagOctetString, []byte(strings.Repeat("m", 16)))
		c.Write(entryWith(m.ID, "uid=max,"+people, wire.AppendControl(nil, oidSyncState, false, wire.AppendElement(nil, wire.TagSequence, value))))
		body := wire.AppendElement(nil, 0x80, []byte(oidSyncInfo))
		body = wire.AppendElement(body, 0x81, []byte{infoRefreshDelete, 0})
		c.Write(wire.AppendMessage(nil, m.ID, wire.OpIntermediateResponse, body, nil))
	}
}

// told waits until somebody hears of changes.
func (k *keeper) told(t *testing.T, n int) {
	t.Helper()
	until(t, "a search that hears of changes", soon, func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return len(k.waiting) >= n
	})
}

// endHints ends the searches that hear of changes.
func (k *keeper) endHints() {
	k.mu.Lock()
	list := k.waiting
	k.waiting = nil
	k.mu.Unlock()
	for _, w := range list {
		w.c.Result(w.id, wire.OpSearchResultDone, wire.ResultUnavailable, "")
	}
}

// polled is an upstream whose replica polls.
func polled(t testing.TB, poll, list time.Duration, servers ...*fakeldap.Server) *Upstream {
	t.Helper()
	return polledPausing(t, 50*time.Millisecond, poll, list, servers...)
}

// polledPausing is polled with another time between two looks at the parents.
func polledPausing(t testing.TB, pause, poll, list time.Duration, servers ...*fakeldap.Server) *Upstream {
	t.Helper()
	var urls []config.URL
	for _, s := range servers {
		urls = append(urls, urlOf(s))
	}
	cfg := testConfig(urls...)
	cfg.AppPasswords.Lookup, cfg.Users.NameFilter, cfg.Users.EnabledFilter = "replica", "(uid=%s)", "(!(nsAccountLock=TRUE))"
	return upstream(t, cfg, func(u *Upstream) {
		u.replica.pause, u.replica.poll, u.replica.list = pause, poll, list
	})
}

// isCurrent waits for the first session.
func isCurrent(t testing.TB, u *Upstream, want bool) ReplicaInfo {
	t.Helper()
	i := u.Replica(testContext(t, 10*time.Second))
	if i.Current != want {
		t.Fatalf("replica: %+v", i)
	}
	return i
}

// TestPollFollows: each kind of change shows, whatever tells of it.
func TestPollFollows(t *testing.T) {
	for _, tt := range []struct {
		name       string
		ad         bool
		controls   []string
		poll, list time.Duration
		says       string
	}{
		{"uSNChanged", true, nil, 5 * time.Millisecond, 20 * time.Millisecond, "uSNChanged"},
		{"modifyTimestamp", false, nil, 5 * time.Millisecond, 20 * time.Millisecond, "modifyTimestamp"},
		{"uSNChanged, looks alone", true, nil, 5 * time.Millisecond, never, "uSNChanged"},
		{"modifyTimestamp, looks alone", false, nil, 5 * time.Millisecond, never, "modifyTimestamp"},
		{"pages", false, []string{oidPaged}, 5 * time.Millisecond, 20 * time.Millisecond, "modifyTimestamp"},
		{"notification", true, []string{oidNotification, oidPaged}, never, never, "change notification"},
		{"persistent search", false, []string{oidPersistentSearch}, never, never, "persistent search"},
		{"content synchronization", false, []string{oidSyncRequest}, never, never, "RFC 4533"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := newKeeper(tt.ad, tt.controls...)
			u := polled(t, tt.poll, tt.list, fake(t, fakeldap.Options{Handler: k.Handle}))
			if i := isCurrent(t, u, true); !strings.Contains(i.Source, tt.says) || i.Users != 2 {
				t.Errorf("%+v", i)
			}
			hints, lists := tt.poll == never, tt.list != never
			if hints {
				k.told(t, 1)
			}
			eve, max := "uid=eve,"+people, "uid=max,"+people
			person := []string{"objectClass", "person", "uid", "eve"}
			within := func(what, name, want string) {
				t.Helper()
				until(t, what, soon, func() bool { return heldCopy(u, name) == want })
			}
			within("first content", eve, "$app$x$h ")
			k.put(eve, "e", append(person, "appPassword", "$app$x$h", "appPassword", "$app$y$h")...)
			within("value added", "eve", "$app$x$h $app$y$h ")
			k.put(eve, "e", append(person, "appPassword", "$app$y$h")...)
			within("value removed", eve, "$app$y$h ")
			k.put(eve, "e", person...)
			within("cleared", eve, "")
			k.put(eve, "e", append(person, "nsAccountLock", "TRUE")...)
			within("disabled", eve, "none")
			within("disabled, by name", "eve", "none")
			k.put(eve, "e", person...)
			within("enabled", eve, "")
			k.move(eve, "uid=eva,"+people)
			within("renamed, old", eve, "none")
			within("renamed, new", "uid=eva,"+people, "")
			k.move("uid=eva,"+people, eve)
			within("renamed back", eve, "")
			k.put("uid=new,"+people, "n", "objectClass", "person", "uid", "new", "appPassword", "$app$n$h")
			within("created", "new", "$app$n$h ")
			if lists || hints && !tt.ad { // of a deletion Active Directory tells nothing
				k.remove("uid=new," + people)
				within("deleted", "uid=new,"+people, "none")
				within("deleted, by name", "new", "none")
			}
			k.remove(eve)
			k.put(eve, "f", "objectClass", "person", "uid", "eve", "appPassword", "$app$f$h")
			within("created again", eve, "$app$f$h ")
			within("created again, by name", "eve", "$app$f$h ")
			within("somebody else", max, "$app$m$h ")
			if lists || hints && tt.ad { // persistent search tells of no move out of the base
				k.move(eve, "uid=eve,dc=example,dc=org")
				within("moved out", "eve", "none")
			}
		})
	}
}

// TestPollParent: a renamed container is noticed, though its entries are not changed.
func TestPollParent(t *testing.T) {
	sub := "ou=sub," + people
	for _, tt := range []struct {
		name    string
		control string
		pause   time.Duration
	}{{"by looking", "", 20 * time.Millisecond}, {"by hint", oidNotification, never}} {
		t.Run(tt.name, func(t *testing.T) {
			k := newKeeper(true, tt.control)
			k.put(sub, "s", "objectClass", "organizationalUnit")
			k.put("uid=sue,"+sub, "u", "objectClass", "person", "uid", "sue", "appPassword", "$app$s$h")
			s := fake(t, fakeldap.Options{Handler: k.Handle})
			poll := 20 * time.Millisecond
			if tt.control != "" {
				poll = never
			}
			u := polledPausing(t, tt.pause, poll, never, s)
			isCurrent(t, u, true)
			if tt.control != "" {
				k.told(t, 1)
			}
			until(t, "sue is held", soon, func() bool { return heldCopy(u, "uid=sue,"+sub) == "$app$s$h " })
			k.mu.Lock() // the entry of sue goes with its parent, and nothing of it changes
			attributes := k.users["uid=sue,"+sub][1:]
			k.Remove("uid=sue," + sub)
			k.Add("uid=sue,ou=gone,"+people, "", append([]string{"objectGUID", strings.Repeat("u", 16), "uSNChanged", "1"}, attributes...)...)
			k.mu.Unlock()
			k.move(sub, "ou=gone,"+people)
			until(t, "the parent is noticed", soon, func() bool { return heldCopy(u, "uid=sue,"+sub) == "none" })
			until(t, "the new DN", soon, func() bool { return heldCopy(u, "uid=sue,ou=gone,"+people) == "$app$s$h " })
		})
	}
}

// TestPollParentReplaced: another container of the same name, and what was below it is gone.
func TestPollParentReplaced(t *testing.T) {
	sub := "ou=sub," + people
	k := newKeeper(false)
	k.put(sub, "s", "objectClass", "organizationalUnit")
	k.put("uid=sue,"+sub, "u", "objectClass", "person", "uid", "sue", "appPassword", "$app$s$h")
	u := polled(t, 20*time.Millisecond, never, fake(t, fakeldap.Options{Handler: k.Handle}))
	isCurrent(t, u, true)
	until(t, "sue is held", soon, func() bool { return heldCopy(u, "sue") == "$app$s$h " })
	k.Remove("uid=sue," + sub)
	k.put(sub, "t", "objectClass", "organizationalUnit")
	until(t, "the parent is another one", soon, func() bool { return heldCopy(u, "sue") == "none" })
}

// TestPollLinkEnd: a link that ends takes the copy along at once, not with the next look; the server itself is well.
func TestPollLinkEnd(t *testing.T) {
	k := newKeeper(false)
	s := fake(t, fakeldap.Options{Handler: k.Handle})
	u := polled(t, never, never, s)
	isCurrent(t, u, true)
	k.put("uid=eve,"+people, "e", "objectClass", "person", "uid", "eve") // nothing tells of it
	s.CloseConns()
	until(t, "listed anew", soon, func() bool { return heldCopy(u, "eve") == "" })
}

// TestHintSink: a change takes the entry out, whatever it is known by; what a refresh tells is none.
func TestHintSink(t *testing.T) {
	t.Parallel()
	u := unstarted(t, testConfig())
	p := newPoll(&session{up: u, sv: u.survey.Load(), table: newTable(newCopied(nil, newSchema("", nil)))}, &stampMark{})
	id := strings.Repeat("e", 16)
	value := wire.AppendElement([]byte{0x0a, 1, stateDelete}, wire.TagOctetString, []byte(id))
	control := wire.AppendControl(nil, oidSyncState, false, wire.AppendElement(nil, wire.TagSequence, value))
	for _, tt := range []struct {
		key, dn string
		refresh bool
		want    bool
	}{
		{"nsuniqueid:" + uniqueID("e"), "uid=elsewhere," + people, false, false},
		{"entryuuid:65656565-6565-6565-6565-656565656565", "uid=elsewhere," + people, false, false},
		{"entryuuid:another", alice, false, false},
		{"entryuuid:another", "uid=elsewhere," + people, false, true},
		{"nsuniqueid:" + uniqueID("e"), alice, true, true},
	} {
		p.table = newTable(newCopied(nil, newSchema("", nil)))
		p.hinter.table = p.table
		p.table.put(tt.key, &record{entry: &auth.Entry{DN: alice, Key: tt.key}, parent: "p"}, people)
		p.touched.begin()
		m, err := wire.Parse(entryWith(7, tt.dn, control))
		if err != nil {
			t.Fatal(err)
		}
		(&hintSink{hinter: p.hinter, round: &hintRound{}, refresh: tt.refresh}).Deliver(m, false, false)
		if got := len(p.table.records()) == 1; got != tt.want {
			t.Errorf("%+v: held %v", tt, got)
		}
		if p.touched.has("nsuniqueid:"+uniqueID("e"), "") == tt.refresh || p.touched.has("", tt.dn) == tt.refresh {
			t.Errorf("%+v: a list that is being read would bring it back", tt)
		}
		p.touched.end()
	}
}

// TestPollLimit: a list that the server cuts short is not used, and pages get around a limit.
func TestPollLimit(t *testing.T) {
	k := newKeeper(false)
	k.SetLimit(1)
	u := polled(t, never, never, fake(t, fakeldap.Options{Handler: k.Handle}))
	if i := isCurrent(t, u, false); i.Err == nil || !strings.Contains(i.Err.Error(), "size and time limits") || heldCopy(u, "eve") != "none" {
		t.Errorf("%+v", i)
	}
	k = newKeeper(true, oidPaged)
	for i := range 1200 {
		k.Add(fmt.Sprintf("uid=u%d,%s", i, people), "", "objectGUID", fmt.Sprintf("%016d", i), "uSNChanged", "5", "objectClass", "person", "uid", fmt.Sprint("u", i))
	}
	k.SetLimit(pageSize)
	u = polled(t, never, never, fake(t, fakeldap.Options{Handler: k.Handle}))
	if i := isCurrent(t, u, true); i.Users != 1202 {
		t.Errorf("%+v", i)
	}
}

// TestPollUnmarked: an entry whose changes would never be seen.
func TestPollUnmarked(t *testing.T) {
	k := newKeeper(false)
	k.Add("uid=old,"+people, "", "objectClass", "person", "uid", "old", "nsUniqueId", uniqueID("o"))
	u := polled(t, never, never, fake(t, fakeldap.Options{Handler: k.Handle}))
	if i := isCurrent(t, u, false); i.Err == nil || !strings.Contains(i.Err.Error(), "modifyTimestamp or createTimestamp") {
		t.Errorf("%+v", i)
	}
	k.Add("uid=old,"+people, "", "objectClass", "person", "uid", "old", "nsUniqueId", uniqueID("o"), "createTimestamp", "20200101000000Z")
	isCurrent(t, polled(t, never, never, fake(t, fakeldap.Options{Handler: k.Handle})), true)
}

// TestPollCut: what is revoked between the cut of the link and the next look is never seen again; and
// another server's lower numbers do not hide what it holds.
func TestPollCut(t *testing.T) {
	one, two := newKeeper(true), newKeeper(true)
	two.usn = 10
	eve := "uid=eve," + people
	two.put(eve, "e", "objectClass", "person", "uid", "eve") // revoked there already
	first := fake(t, fakeldap.Options{Handler: one.Handle})
	u := polled(t, 20*time.Millisecond, never, first, fake(t, fakeldap.Options{Handler: two.Handle}))
	isCurrent(t, u, true)
	until(t, "the first server is followed", soon, func() bool { return heldCopy(u, eve) == "$app$x$h " })
	one.put(eve, "e", "objectClass", "person", "uid", "eve")
	until(t, "revoked", soon, func() bool { return heldCopy(u, eve) == "" })
	first.Pause()
	until(t, "not answered from memory", soon, func() bool { return heldCopy(u, eve) == "none" })
	until(t, "the second server is followed", 2*soon, func() bool {
		got := heldCopy(u, eve)
		if got != "none" && got != "" {
			t.Fatalf("a revoked value is back: %q", got)
		}
		return got == ""
	})
	two.put(eve, "e", "objectClass", "person", "uid", "eve", "appPassword", "$app$z$h")
	until(t, "the second server's change", soon, func() bool { return heldCopy(u, eve) == "$app$z$h " })
}

// TestPollHintLost: a hint that is refused or ends costs the delay, nothing else; the next kind is tried, and after a list the first again.
func TestPollHintLost(t *testing.T) {
	k := newKeeper(false, oidSyncRequest, oidPersistentSearch)
	k.refuse[oidSyncRequest] = wire.ResultInsufficientAccessRights
	u := polled(t, 20*time.Millisecond, 100*time.Millisecond, fake(t, fakeldap.Options{Handler: k.Handle}))
	isCurrent(t, u, true)
	k.told(t, 1)
	says := func(what, text string, want bool) {
		t.Helper()
		until(t, what, soon, func() bool { return strings.Contains(u.Replica(t.Context()).Source, text) == want })
	}
	says("the second kind", "persistent search", true)
	k.mu.Lock()
	k.refuse[oidPersistentSearch] = wire.ResultUnavailable
	k.mu.Unlock()
	k.endHints()
	says("none tells", "at once", false)
	k.put("uid=eve,"+people, "e", "objectClass", "person", "uid", "eve")
	until(t, "revoked", soon, func() bool { return heldCopy(u, "eve") == "" })
	k.mu.Lock()
	delete(k.refuse, oidSyncRequest)
	k.mu.Unlock()
	says("the first kind again", "RFC 4533", true)
	if u.Replica(t.Context()).Err != nil {
		t.Error("the session ended")
	}
}

// TestPollShared: an entry that only a list can see changed.
func TestPollShared(t *testing.T) {
	k := newKeeper(false)
	u := polled(t, 5*time.Millisecond, 50*time.Millisecond, fake(t, fakeldap.Options{Handler: k.Handle}))
	isCurrent(t, u, true)
	k.Add("uid=eve,"+people, "", "objectClass", "person", "uid", "eve", "nsUniqueId", uniqueID("e"), "modifyTimestamp", "20200101000000Z")
	until(t, "seen by a list", soon, func() bool { return heldCopy(u, "eve") == "" })
}

// TestPollRestored: a server whose numbers go back is another one.
func TestPollRestored(t *testing.T) {
	k := newKeeper(true)
	u := polled(t, 5*time.Millisecond, never, fake(t, fakeldap.Options{Handler: k.Handle}))
	isCurrent(t, u, true)
	k.mu.Lock()
	k.usn = 10
	k.mu.Unlock()
	k.put("uid=eve,"+people, "e", "objectClass", "person", "uid", "eve")
	until(t, "listed anew", soon, func() bool { return heldCopy(u, "eve") == "" })
}

// TestPollReplace: what a look or a hint changed while a list was read is newer than the list.
func TestPollReplace(t *testing.T) {
	t.Parallel()
	u := unstarted(t, testConfig())
	p := newPoll(&session{up: u, sv: u.survey.Load(), table: newTable(newCopied(nil, newSchema("", nil)))}, &stampMark{})
	make := func(uid, value string) listed {
		return listed{&record{entry: &auth.Entry{DN: "uid=" + uid + "," + people, Key: uid, Values: [][]byte{[]byte(value)}}, parent: "p"}, people}
	}
	for _, uid := range []string{"same", "stale", "gone", "hinted", "moved"} {
		l := make(uid, "old")
		p.table.put(uid, l.record, l.parentDN)
	}
	p.touched.begin()
	p.table.put("stale", make("stale", "new").record, people) // a look
	p.touched.note("stale")
	p.table.remove("hinted") // a hint
	p.touched.note("hinted")
	p.table.vacate("uid=moved,"+people, "") // a hint that has the DN only
	p.touched.note("uid=moved," + people)
	locked := make("same", "old") // the list alone tells of a state that comes without a change
	locked.record.entry.State.Lock = "locked"
	p.replace(map[string]listed{"same": locked, "stale": make("stale", "old"), "hinted": make("hinted", "old"), "moved": make("moved", "old"), "fresh": make("fresh", "old")})
	p.touched.end()
	got := map[string]string{}
	for k, r := range p.table.records() {
		got[k] = string(r.entry.Values[0])
	}
	if len(got) != 3 || got["same"] != "old" || got["stale"] != "new" || got["fresh"] != "old" {
		t.Errorf("%v", got)
	}
	if got := p.table.records()["same"].entry.State.Lock; got != "locked" {
		t.Errorf("the state is still %q", got)
	}
	if p.touched.note("late"); p.touched.has("late", "") {
		t.Error("noted while no list is read")
	}
}

// TestStampMark: the equal second, the late stamp, the long list.
func TestStampMark(t *testing.T) {
	t.Parallel()
	m, now := &stampMark{}, time.Unix(5000, 0)
	entry := func(stamp string) wire.SearchEntry {
		return wire.SearchEntry{Attributes: wire.AppendAttribute(nil, "modifytimestamp", []byte(stamp))}
	}
	from := func() string {
		t.Helper()
		f, err := m.since(t.Context(), now)
		if err != nil || f == nil {
			t.Fatal(err)
		}
		return string(f[len(f)-15:])
	}
	if f, err := m.since(t.Context(), now); f != nil || err != nil {
		t.Fatal("the first call is the beginning")
	}
	if from() != "19700101000000Z" {
		t.Error("an empty directory")
	}
	if m.listed(wire.SearchEntry{}, now) || m.listed(entry("soon"), now) || !m.listed(entry("20260101120000Z"), now) {
		t.Error("whose changes can be told")
	}
	now = now.Add(time.Minute) // that is how long the list took
	if got := from(); got != "20260101115830Z" {
		t.Errorf("first look from %s: a change while the list was read may be missed", got)
	}
	m.looked(now)
	m.listed(entry("20260101130000Z"), now) // a later list reads early what changes later
	if got := from(); got != "20260101120001Z" {
		t.Errorf("settled: %s", got)
	}
	m.saw(entry("20260101120500.7Z"), now)
	if got := from(); got != "20260101120430Z" {
		t.Errorf("overlap: %s", got)
	}
	m.looked(now.Add(overlap - time.Second))
	if got := from(); got != "20260101120430Z" {
		t.Errorf("settled too early: %s", got)
	}
	m.saw(entry("20260101120400Z"), now.Add(overlap)) // late, and of no effect
	m.looked(now.Add(overlap))
	if got := from(); got != "20260101120501Z" {
		t.Errorf("settled: %s", got)
	}
}

func TestIncomplete(t *testing.T) {
	t.Parallel()
	for kind, want := range map[Kind]string{Kind389: "nsSizeLimit", KindFreeIPA: "nsLookThroughLimit", KindOpenLDAP: "limits dn.exact", KindSamba: "MaxPageSize", KindOther: "size and time limits"} {
		if err := error(&incomplete{kind: kind, code: wire.ResultSizeLimitExceeded}); !strings.Contains(err.Error(), want) {
			t.Error(err)
		}
	}
	if err := error(&incomplete{code: wire.ResultBusy}); strings.Contains(err.Error(), "limit") || errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
}

func TestPageCookie(t *testing.T) {
	t.Parallel()
	value := pagedValue(pageSize, []byte("next"))
	if c, err := pageCookie(wire.AppendControl(nil, oidPaged, false, value)); err != nil || string(c) != "next" {
		t.Errorf("%q, %v", c, err)
	}
	if c, err := pageCookie(wire.AppendControl(nil, "1.2.3", false, nil)); err != nil || c != nil {
		t.Errorf("%q, %v", c, err)
	}
	for _, bad := range [][]byte{nil, {0x30}, {0x30, 0}, {0x30, 3, 2, 1, 0}} {
		if _, err := pageCookie(wire.AppendControl(nil, oidPaged, false, bad)); err == nil {
			t.Errorf("%x is taken", bad)
		}
	}
}
