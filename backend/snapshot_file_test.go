package backend

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"appbind/auth"
	"appbind/config"
)

// TestSnapshotRefused: anything that is not quite the file that was written is refused with its
// reason, whatever it is, and appbind goes on without.
func TestSnapshotRefused(t *testing.T) {
	t.Parallel()
	ok := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	rewrite := func(change func([]byte) []byte) func(string) {
		return func(file string) {
			content, err := os.ReadFile(file)
			ok(err)
			ok(os.WriteFile(file, change(content), 0o600))
		}
	}
	for _, c := range []struct {
		what, want string
		spoil      func(file string)
	}{
		{"readable by the group", "mode 0640, must be 0600", func(f string) { ok(os.Chmod(f, 0o640)) }},
		{"readable by others", "mode 0604", func(f string) { ok(os.Chmod(f, 0o604)) }},
		{"writable by the group", "mode 0620", func(f string) { ok(os.Chmod(f, 0o620)) }},
		{"not readable", "", func(f string) { ok(os.Remove(f)); ok(os.Mkdir(f, 0o700)) }},
		{"a symbolic link", "is a symbolic link", func(f string) { ok(os.Rename(f, f+"x")); ok(os.Symlink(f+"x", f)) }},
		{"a FIFO", "is no regular file", func(f string) { ok(os.Remove(f)); ok(unix.Mkfifo(f, 0o600)) }},
		{"too long", "is too long", func(f string) { ok(os.Truncate(f, maxSnapshot+1)) }},
		{"empty", "no snapshot of this version", func(f string) { ok(os.Truncate(f, 0)) }},
		{"the head alone", "cut off", func(f string) { ok(os.Truncate(f, int64(len(headUsers)))) }},
		{"cut off", "cut off", rewrite(func(b []byte) []byte { return b[:len(b)-1] })},
		{"longer", "damaged", rewrite(func(b []byte) []byte { return append(b, 0) })},
		{"another version", "of this version", rewrite(func(b []byte) []byte { return bytes.Replace(b, []byte("shot 2"), []byte("shot 9"), 1) })},
		{"a bit is wrong", "damaged", rewrite(func(b []byte) []byte { b[len(b)/2] ^= 4; return b })},
		{"something behind, with a checksum", "not well formed", rewrite(func(b []byte) []byte { return sealed(append(b[:len(b)-sha256.Size], 0)) })},
		{"cut off, with a checksum", "not well formed", rewrite(func(b []byte) []byte { return sealed(b[:len(b)-sha256.Size-1]) })},
	} {
		for _, mark := range []bool{false, true} {
			m, file := newMachine(), filepath.Join(t.TempDir(), "s")
			u := m.process(t, file)
			u.hold(t, "a", "b")
			u.saveSnapshot(false)
			ok(u.saveMark(u.replica.last.Load(), nil, m.wall))
			spoiled := file
			if mark {
				spoiled = markOf(file)
			}
			if c.spoil(spoiled); mark && c.what == "another version" {
				rewrite(func(b []byte) []byte { return bytes.Replace(b, []byte("mark 1"), []byte("mark 9"), 1) })(spoiled)
			}
			log := &logBuffer{}
			again := m.process(t, file)
			again.log = log.logger()
			again.loadSnapshot()
			if again.replica.last.Load() != nil {
				t.Errorf("%s, mark %v: used", c.what, mark)
			}
			if got := log.String(); !strings.Contains(got, "level=WARN msg=\"snapshot of the replica is refused") || !strings.Contains(got, c.want) {
				t.Errorf("%s, mark %v: %s", c.what, mark, got)
			}
		}
	}
}

// sealed puts the checksum that fits behind a content.
func sealed(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append(slices.Clone(b), sum[:]...)
}

// TestSnapshotOwner: a file of another user is refused, even by root.
func TestSnapshotOwner(t *testing.T) {
	t.Parallel()
	file := "/etc/passwd" // root's
	if os.Geteuid() == 0 {
		file = filepath.Join(t.TempDir(), "s")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(file, 12345, -1); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := readPrivate(file, maxSnapshot); err == nil || !strings.Contains(err.Error(), "belongs to the user") {
		t.Errorf("error %v", err)
	}
}

// TestSnapshotSite: each part of the configuration that decides who is in a copy, and what of them, makes it another's.
func TestSnapshotSite(t *testing.T) {
	t.Parallel()
	m, file := newMachine(), filepath.Join(t.TempDir(), "s")
	u := m.process(t, file)
	u.hold(t, "a")
	u.saveSnapshot(false)
	for what, change := range map[string]func(*config.Config){
		"server":         func(c *config.Config) { c.Upstream.URLs[0].Address = "127.0.0.1:2" },
		"scheme":         func(c *config.Config) { c.Upstream.URLs[0].Scheme = "ldaps" },
		"another server": func(c *config.Config) { c.Upstream.URLs = append(c.Upstream.URLs, c.Upstream.URLs[0]) },
		"identity":       func(c *config.Config) { c.Upstream.BindDN = "cn=x" },
		"base":           func(c *config.Config) { c.Users.Bases = []string{"ou=x," + people} },
		"bases":          func(c *config.Config) { c.Users.Bases = append(c.Users.Bases, "dc=x") },
		"filter":         func(c *config.Config) { c.Users.Filter = "(objectClass=x)" },
		"enabled_filter": func(c *config.Config) { c.Users.EnabledFilter = "auto" },
		"name_filter":    func(c *config.Config) { c.Users.NameFilter = "(uid=%s)" },
		"attribute":      func(c *config.Config) { c.AppPasswords.Attribute = "mailSecret" },
		"own entry":      func(c *config.Config) { c.OwnEntryAttributes = []string{"uid"} },
	} {
		if _, err := m.read(t, file, change); !errors.Is(err, errOtherSite) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := m.read(t, file, func(c *config.Config) { c.Upstream.BindTimeout = 0; c.AppPasswords.MaxStale *= 2 }); err != nil {
		t.Errorf("what does not matter: %v", err)
	}
	log := &logBuffer{}
	other := m.process(t, file, func(c *config.Config) { c.Users.Filter = "(objectClass=x)" })
	other.log = log.logger()
	if other.loadSnapshot(); other.replica.last.Load() != nil || !strings.Contains(log.String(), "is ignored") || !strings.Contains(log.String(), "another configuration") {
		t.Errorf("log %s", log.String())
	}
}

// TestSnapshotTwoFiles: a mark of another writing of the users says nothing of this one; its own proof stands.
func TestSnapshotTwoFiles(t *testing.T) {
	t.Parallel()
	m, file := newMachine(), filepath.Join(t.TempDir(), "s")
	u := m.process(t, file)
	tb := u.hold(t, "a", "b")
	u.saveSnapshot(false)
	tb.remove("id-a")
	u.saveSnapshot(false)
	before, err := os.ReadFile(markOf(file))
	if err != nil {
		t.Fatal(err)
	}
	m.pass(time.Hour)
	u.hold(t, "a")
	u.saveSnapshot(false)
	after, err := os.ReadFile(markOf(file))
	if err != nil || !bytes.Equal(before, after) {
		t.Fatalf("the mark was written with the users: %v", err)
	}
	got, err := m.read(t, file)
	if err != nil || values(got, "a") != "$app$1$a $app$2$a of 1" {
		t.Fatalf("%s, %v", values(got, "a"), err)
	}
	if _, proven := got.size(); ageAt(proven, m.wall) != 0 {
		t.Errorf("%v old", ageAt(proven, m.wall))
	}
}

// TestSnapshotAttributes: a snapshot brings no attribute that this configuration would not hold.
func TestSnapshotAttributes(t *testing.T) {
	t.Parallel()
	u := newMachine().process(t, "x")
	for _, c := range []struct {
		name string
		rule rule
		good bool
	}{
		{"mail", ruleFold, true}, {"mail", rules, false}, {"jpegphoto", ruleUnknown, false},
		{"userpassword", ruleUnknown, false}, {"apppassword", ruleUnknown, false},
	} {
		tb := newTable(newCopied(nil, newSchema("", nil)))
		tb.copied.add(&copiedAttribute{names: []string{c.name}, rule: c.rule})
		var b bytes.Buffer
		if err := tb.freeze().writer([16]byte{}, u.replica.key, stamp{})(&b); err != nil {
			t.Fatal(err)
		}
		wanted := append(slices.Clone(u.replica.wanted), "userpassword")
		if _, err := decodeUsers(b.Bytes(), u.replica.key, wanted); (err == nil) != c.good {
			t.Errorf("%s by rule %d: %v", c.name, c.rule, err)
		}
	}
}

// TestBootClock: the machine's own clock is there, and goes on.
func TestBootClock(t *testing.T) {
	t.Parallel()
	id, first := bootClock()
	again, second := bootClock()
	if id == "" || id != again || first <= 0 || second < first {
		t.Errorf("%q %v, %q %v", id, first, again, second)
	}
}

// FuzzSnapshot: whatever stands in the two files, with a checksum that fits, it is refused, or read and written again as the same.
func FuzzSnapshot(f *testing.F) {
	key, wanted := strings.Repeat("k", 32), []string{"uid", "mail"}
	tb := newTable(&copiedAttributes{byName: map[string]*copiedAttribute{}})
	tb.copied.add(&copiedAttribute{names: []string{"0.9.2342.19200300.100.1.1", "uid"}, rule: ruleFold, substr: true})
	for _, uid := range []string{"a", "b"} {
		e := entryOf(uid, "$app$1$"+uid)
		tb.put(uid, &record{entry: e, names: []string{uid}, parent: "p", copied: []byte("0\x0a\x04\x03uid1\x03\x04\x01a")}, people)
	}
	var users bytes.Buffer
	now := time.Unix(1_800_000_000, 0)
	if err := tb.freeze().writer([16]byte{1}, key, stampAt(now, now, "run", time.Hour, []auth.KeptService{{DN: "cn=a", Hash: "$h", At: now}}))(&users); err != nil {
		f.Fatal(err)
	}
	mark := encodeMark([16]byte{1}, stampAt(now, now, "run", time.Hour, []auth.KeptService{{DN: "cn=a", Hash: "$h", At: now}}), []block{{id: "a", names: []string{"a"}, dn: "uid=a"}})
	body := func(b []byte, head string) []byte { return b[len(head) : len(b)-sha256.Size] }
	f.Add(body(users.Bytes(), headUsers), body(mark, headMark))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, users, mark []byte) {
		d, err := decodeUsers(sealed(append([]byte(headUsers), users...)), key, wanted)
		if err != nil {
			return
		}
		_, _ = d.stamp.age(now, "run", time.Hour)
		_ = d.table.recollect(d.table.copied.list)
		var again bytes.Buffer
		if err := d.table.freeze().writer(d.id, key, d.stamp)(&again); err != nil {
			t.Fatal(err)
		}
		same, err := decodeUsers(again.Bytes(), key, wanted)
		if err != nil || len(same.table.byID) != len(d.table.byID) || same.id != d.id || !same.stamp.proven.Equal(d.stamp.proven) {
			t.Fatalf("%v", err)
		}
		for id, r := range d.table.byID {
			if o := same.table.byID[id]; o == nil || !o.same(r) || o.entry.Key != r.entry.Key {
				t.Fatalf("%+v, and %+v", r, o)
			}
		}
		id, st, list, err := decodeMark(sealed(append([]byte(headMark), mark...)))
		if err != nil {
			return
		}
		if _, _, more, err := decodeMark(encodeMark(id, st, list)); err != nil || len(more) != len(list) {
			t.Fatalf("mark: %v", err)
		}
		d.table.block(list)
		for _, b := range list {
			if d.table.byID[b.id] != nil {
				t.Fatal("who was blocked is there")
			}
		}
	})
}
