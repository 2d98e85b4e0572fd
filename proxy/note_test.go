package proxy

import (
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"appbind/auth"
	"appbind/config"
	"appbind/secrets"
	"appbind/wire"
)

// notebook is a History for tests.
type notebook struct {
	mu    sync.Mutex // guards notes
	notes []Note
}

func (b *notebook) Note(n Note) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notes = append(b.notes, n)
}

// take returns the notes since the last call.
func (b *notebook) take() []Note {
	b.mu.Lock()
	defer b.mu.Unlock()
	notes := b.notes
	b.notes = nil
	return notes
}

// noting is a rig with a history.
func noting(t *testing.T, change ...func(cfg *config.Config)) (*rig, *notebook) {
	t.Helper()
	r, book := newRig(t, change...), &notebook{}
	core := r.core(r.cfg)
	core.History = book
	if err := r.server.Reload(core); err != nil {
		t.Fatal(err)
	}
	r.closeOld()
	return r, book
}

// TestNotes: which binds are noted, and as what. The note of a bind is there before its answer.
func TestNotes(t *testing.T) {
	revoked, err := secrets.Generate(nil)
	if err != nil {
		t.Fatal(err)
	}
	r, book := noting(t, func(cfg *config.Config) {
		cfg.Listeners[0].Context, cfg.Listeners[0].Service = "trusted", "IMAPS"
		cfg.Fallback.ByService = map[string]string{"smtp": "deny"}
	})
	mistyped := revoked.Password[:len(revoked.Password)-1] + "u"
	for _, tc := range []struct {
		name, dn, password string
		code               int32
		kind, id, label    string
		denied, service    string
		addr               string
	}{
		{"app password", aliceUser, phonePW, 0, "app", "", "phone", "", "imap", ""},
		{"main password", aliceUser, alicePW, 0, "main", "", "", "", "imap", ""},
		{"its context", aliceUser + ",svc=submission,rip=192.0.2.9,cn=appbind", phonePW, 0, "app", "", "phone", "", "smtp", "192.0.2.9"},
		{"wrong", aliceUser, "wrong", 49, "main", "", "", auth.ReasonUpstreamRefused, "imap", ""},
		{"wrong again", aliceUser, "wrong", 49, "main", "", "", auth.ReasonKnownBad, "imap", ""},
		{"main password not allowed", aliceUser + ",svc=smtp,cn=appbind", alicePW, 49, "main", "", "", auth.ReasonFallbackDenied, "smtp", ""},
		{"revoked", aliceUser, revoked.Password, 49, "app", revoked.ID, "", auth.ReasonNoAppPassword, "imap", ""},
		{"revoked, as typed", aliceUser, strings.ToUpper(strings.ReplaceAll(revoked.Password, "-", " ")), 49, "app", revoked.ID, "", auth.ReasonNoAppPassword, "imap", ""},
		{"mistyped", aliceUser, mistyped, 49, "none", "", "", auth.ReasonMistyped, "imap", ""},
		{"stored value", aliceUser, phoneValue(), 49, "none", "", "", auth.ReasonStoredSecret, "imap", ""},
	} {
		c := r.dial()
		c.bind(1, tc.dn, tc.password, tc.code)
		notes := book.take()
		if len(notes) != 1 {
			t.Fatalf("%s: %d notes", tc.name, len(notes))
		}
		n := notes[0]
		addr := ""
		if n.Addr.IsValid() {
			addr = n.Addr.String()
		}
		if n.Kind != tc.kind || n.ID != tc.id || n.Label != tc.label || n.Denied != tc.denied || n.Service != tc.service || addr != tc.addr {
			t.Errorf("%s: %+v", tc.name, n)
		}
		if n.DN != aliceUser || n.Entry == "" || n.Peer != netip.MustParseAddr("127.0.0.1") || n.Listener != r.cfg.Listeners[0].URL.String() || time.Since(n.Time) > time.Minute {
			t.Errorf("%s: %+v", tc.name, n)
		}
	}
}

// TestNotNoted: binds of nobody's, those that could not be judged, and those that are no user's.
func TestNotNoted(t *testing.T) {
	r, book := noting(t)
	for _, login := range [][2]string{
		{serviceDN, servicePW}, {serviceDN, "wrong"}, {adminDN, "wrong"}, {"uid=nobody,ou=people,dc=example,dc=org", "x"}, {"", ""}, {aliceUser, ""},
		{"not a dn", "x"}, {aliceUser + ",cn=appbind", phonePW}, {"", "x"},
	} {
		c := r.dial()
		c.write(bindRequest(1, login[0], login[1]))
		c.result(1, wire.OpBindResponse)
	}
	critical := r.dial()
	critical.write(bindMessage(1, 3, aliceUser, phonePW, wire.AppendControl(nil, "1.2.3.4", true, nil)))
	critical.want(1, wire.OpBindResponse, wire.ResultUnavailableCriticalExtension)
	r.up.Close()
	c := r.dial()
	c.bind(1, aliceUser, phonePW, wire.ResultUnavailable)
	if notes := book.take(); len(notes) != 0 {
		t.Errorf("%+v", notes)
	}
}

// TestNoHistory: binds work where nobody takes notes.
func TestNoHistory(t *testing.T) {
	r := newRig(t)
	r.dial().bind(1, aliceUser, phonePW, wire.ResultSuccess)
}
