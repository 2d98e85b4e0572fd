package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"appbind/config"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

// full has every field.
func full() Event {
	return Event{
		Time: noon, Kind: Issued, Entry: "entryuuid:a", DN: "uid=alice,ou=people", ID: "ph0n", Label: "my <phone>", Expires: noon.Add(time.Hour),
		Services: []string{"imap", "smtp"}, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		Actor: "cn=helpdesk", Via: "ldap", Addr: netip.MustParseAddr("::ffff:192.0.2.1"), Service: "imap", Reason: "a reason", Count: 3,
	}
}

// TestLines: the names and the forms of an event are a contract.
func TestLines(t *testing.T) {
	t.Parallel()
	e := full()
	const want = `{"event_id":"x","time":"2026-03-01T12:00:00.123Z","event":"issued","entry":"entryuuid:a","user":"uid=alice,ou=people","password_id":"ph0n",` +
		`"label":"my <phone>","expires":"2026-03-01T13:00:00.123456789Z","services":["imap","smtp"],"networks":["192.0.2.0/24"],"actor":"cn=helpdesk","via":"ldap",` +
		`"address":"192.0.2.1","service":"imap","reason":"a reason","count":3}`
	if got := string(e.encode("x")); got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	if got := string((&Event{Time: noon, Kind: Purged}).encode("y")); got != `{"event_id":"y","time":"2026-03-01T12:00:00.123Z","event":"purged"}` {
		t.Errorf("got %s", got)
	}
	by := Event{}.By(Actor{"cn=a", "cli", netip.MustParseAddr("::1")})
	if by.Actor != "cn=a" || by.Via != "cli" || by.Addr.String() != "::1" {
		t.Errorf("%+v", by)
	}
}

// TestHostileTexts: whatever a client chooses for a label or a DN, an event is one line of bounded length, and what it says stands in its place.
func TestHostileTexts(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"a\nb", `","event":"revoked`, "\x00\x1b[31m", "\u2028", "\xff\xfe", strings.Repeat("ä", 4<<20), strings.Repeat("\x80", 5000), strings.Repeat("\n", 5000),
	} {
		e := Event{Time: noon, Kind: Refused, Entry: text, DN: text, ID: text, Label: text, Actor: text, Via: text, Service: text, Reason: text, Services: []string{text}}
		got := e.encode("id")
		if bytes.ContainsAny(got, "\n\r\x00\x1b") || len(got) > 9*6*(maxText+4)+200 {
			t.Errorf("%.20q: %d bytes, %.60q", text, len(got), got)
		}
		var l Line
		if err := json.Unmarshal(got, &l); err != nil || l.Event != Refused || l.EventID != "id" {
			t.Errorf("%.20q: %v, %+v", text, err, l)
		}
	}
}

// TestKindsAreConfigured: the configuration knows every kind, and no other.
func TestKindsAreConfigured(t *testing.T) {
	t.Parallel()
	field, _ := reflect.TypeFor[config.Webhook]().FieldByName("Events")
	words := strings.Split(field.Tag.Get("oneof"), ",")
	var kinds []string
	for _, k := range Kinds {
		kinds = append(kinds, string(k))
	}
	if !slices.Equal(words, kinds) {
		t.Errorf("the configuration has %q, the kinds are %q", words, kinds)
	}
}

// collected is a log that can be read while it is written.
type collected struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (c *collected) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.Write(b)
}

func (c *collected) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.String()
}

func auditTo(t *testing.T, file string, o Options) *Journal {
	t.Helper()
	cfg := config.Default()
	cfg.Audit.File = file
	if o.Counts == nil {
		o.Counts = &Counts{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	j, err := Open(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// labels are those of the lines of a file; it fails where a line is no event.
func labels(t *testing.T, file string) (list []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(text)) {
		var parsed Line
		if err := json.Unmarshal([]byte(l), &parsed); err != nil || !strings.HasSuffix(l, "\n") {
			t.Fatalf("%q: %v", l, err)
		}
		list = append(list, parsed.Label)
	}
	return list
}

func labelled(label string) Event { return Event{Time: noon, Kind: Issued, Label: label} }

// TestAuditFile: appended in order, for its owner alone, and opened anew between two lines.
func TestAuditFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "audit.log")
	j := auditTo(t, file, Options{})
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	j.Emit(labelled("a"))
	j.Emit(labelled("b"))
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	j.Reopen()
	j.Emit(labelled("c"))
	j.Close(t.Context())
	if got := labels(t, file+".1"); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("before: %q", got)
	}
	if got := labels(t, file); !slices.Equal(got, []string{"c"}) {
		t.Errorf("after: %q", got)
	}
	again := auditTo(t, file, Options{})
	again.Emit(labelled("d"))
	again.Close(t.Context())
	if got := labels(t, file); !slices.Equal(got, []string{"c", "d"}) {
		t.Errorf("appended: %q", got)
	}
	again.Emit(labelled("late"))
	if st := again.Stats(); st.AuditDropped["stopped"] != 1 || st.Written != 1 || !st.Audit || st.Webhook {
		t.Errorf("%+v", st)
	}
}

// TestAuditCannotBeOpened: a configuration whose audit log cannot be opened is refused; a guest makes no file.
func TestAuditCannotBeOpened(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range []struct {
		file  string
		guest bool
		want  string
	}{
		{dir + "/missing/audit.log", false, "does not exist"},
		{dir, false, "is not a regular file"},
		{dir + "/none.log", true, "no such file"},
	} {
		cfg := config.Default()
		cfg.Audit.File = c.file
		j, err := Open(cfg, Options{Counts: &Counts{}, Log: slog.New(slog.DiscardHandler), Guest: c.guest})
		if j != nil || err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "audit.file: ") {
			t.Errorf("%s: %v", c.file, err)
		}
	}
}

// TestReopenFails: the old file stays in use.
func TestReopenFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/a", 0o700); err != nil {
		t.Fatal(err)
	}
	log := &collected{}
	j := auditTo(t, dir+"/a/audit.log", Options{Log: slog.New(slog.NewTextHandler(log, nil))})
	if err := os.Rename(dir+"/a", dir+"/b"); err != nil {
		t.Fatal(err)
	}
	j.Reopen()
	j.Emit(labelled("a"))
	j.Close(t.Context())
	if got := labels(t, dir+"/b/audit.log"); !slices.Equal(got, []string{"a"}) || !strings.Contains(log.String(), "cannot be opened anew") {
		t.Errorf("%q, %s", got, log)
	}
}

// gate is standard output that fails at will.
type gate struct {
	collected
	fails  func(n int) (part int, err error) // of the n-th write
	writes int                               // the writing goroutine's own
}

func (g *gate) Write(b []byte) (int, error) {
	g.writes++
	if part, err := g.fails(g.writes); err != nil {
		_, _ = g.collected.Write(b[:part])
		return part, err
	}
	return g.collected.Write(b)
}

var errFull = errors.New("no space left on device")

// TestAuditFails: a line that could not be written is written later, whole and on a line of its own; the failure is told once.
func TestAuditFails(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		log := &collected{}
		g := &gate{fails: func(n int) (int, error) {
			if n >= 2 && n <= 4 {
				return 7, errFull
			}
			return 0, nil
		}}
		j := auditTo(t, "stdout", Options{Stdout: g, Log: slog.New(slog.NewTextHandler(log, nil))})
		for _, l := range []string{"a", "b", "c"} {
			j.Emit(labelled(l))
		}
		pass(auditPause / 2)
		if st := j.Stats(); st.AuditUp || st.Written != 1 {
			t.Errorf("%+v", st)
		}
		pass(4 * auditPause)
		if st := j.Stats(); !st.AuditUp || st.Written != 3 {
			t.Errorf("%+v", st)
		}
		j.Close(t.Context())
		var got []string
		for l := range strings.Lines(g.String()) {
			var parsed Line
			if json.Unmarshal([]byte(l), &parsed) == nil {
				got = append(got, parsed.Label)
			}
		}
		if !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("%q of %s", got, g.String())
		}
		if n := strings.Count(log.String(), "cannot be written"); n != 1 || strings.Count(log.String(), "written again") != 1 {
			t.Errorf("told: %s", log)
		}
	})
}

// TestAuditOverflows: nobody waits for a disk that is full; what does not fit is counted, and Close ends.
func TestAuditOverflows(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		g := &gate{fails: func(int) (int, error) { return 0, errFull }}
		j := auditTo(t, "stdout", Options{Stdout: g})
		j.Emit(labelled("first"))
		pass(auditPause / 2)
		for range auditQueued + 10 {
			j.Emit(labelled("x"))
		}
		if st := j.Stats(); st.AuditDropped["queue"] != 10 {
			t.Errorf("%+v", st)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begun := time.Now()
		j.Close(ctx)
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("Close took %v", took)
		}
		if st := j.Stats(); st.AuditDropped["stopped"] != auditQueued+1 || st.Written != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// TestNoJournal: where nothing is configured there is none, and everybody may tell it.
func TestNoJournal(t *testing.T) {
	t.Parallel()
	j, err := Open(config.Default(), Options{})
	if j != nil || err != nil {
		t.Fatal(j, err)
	}
	j.Emit(full())
	j.Reopen()
	j.Close(t.Context())
	if st := j.Stats(); st.Audit || st.Webhook {
		t.Errorf("%+v", st)
	}
}
