package portal

import (
	"net/http"
	"strings"
	"testing"

	"appbind/config"
)

// TestOff: pages that are switched off answer 503 to whatever is asked, by whoever, in the reader's language, and look like ours.
func TestOff(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enrol("alice", hisBottle)
	b := r.browser().enter("alice")
	on := r.Portal
	off, err := Off(Parts{Config: r.Config, Log: r.Log, Now: r.clock.now}) // without a directory and a store
	if err != nil {
		t.Fatal(err)
	}
	r.Portal = off
	for _, route := range on.table() {
		path := strings.NewReplacer("{id}", "7f3k", "{$}", "").Replace(route.path)
		p := b.get(path)
		if route.method == http.MethodPost {
			p = b.post(path, "label", "x")
		}
		p.expect(t, route.method+" "+path, 503, "", "switched off at the moment")
	}
	b.change = func(q *http.Request) { q.Header.Set("Accept-Language", "de") }
	b.get("/").expect(t, "in German", 503, "", "zurzeit abgeschaltet")
	b.change = func(q *http.Request) { q.Host = "evil.example" }
	b.get("/").expect(t, "another host", 421, "", "")
	b.change = nil
	for name := range off.assets {
		b.get("/assets/"+off.assets[name].name).expect(t, name, 200, "", "")
	}
	r.Portal = on
	b.get("/passwords").expect(t, "the session", 200, "", "his phone")
	if err := r.Store.EndAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.get("/passwords").expect(t, "ended", 303, "/sign-in", "")
}

// TestPaused: while app passwords do not count at binds, whoever is signed in is told.
func TestPaused(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.AppPasswords.Accept = false })
	r.enrol("alice")
	r.browser().get("/sign-in").expect(t, "a stranger", 200, "", "")
	if strings.Contains(r.browser().get("/sign-in").body, "switched off") {
		t.Error("a stranger is told")
	}
	b := r.browser().enter("alice")
	b.get("/passwords").expect(t, "list", 200, "", "switched off at the moment")
	b.post("/passwords", "label", "for later").expect(t, "created", 201, "", "switched off at the moment")
}
