package portal

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"appbind/events"
)

// TestAuditLog: whatever is done on the pages stands in the audit log too, once, with the same user, actor and address.
func TestAuditLog(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enrol("alice", hisBottle, strings.Replace(hisBottle, "his phone;id=7f3k", "other;id=8f3k", 1))
	r.enrol("admin")
	b := r.browser().enter("alice")
	b.post("/passwords", "label", "tablet").expect(t, "create", 201, "", "")
	b.post("/passwords/7f3k/rename", "label", "phone").expect(t, "rename", 303, "/passwords?done=renamed", "")
	b.post("/passwords/7f3k/extend", "expires", "2026-12-31").expect(t, "extend", 303, "/passwords?done=extended", "")
	b.post("/passwords/7f3k/restrict", "service", "imap").expect(t, "restrict", 303, "/passwords?done=restricted", "")
	b.post("/passwords/7f3k/revoke").expect(t, "revoke", 303, "/passwords?done=revoked", "")
	p := b.get("/factors/totp")
	given, proof := regexp.MustCompile(`name="secret" value="([A-Z2-7]{32})"`).FindStringSubmatch(p.body)[1], regexp.MustCompile(`name="proof" value="([0-9a-f]{64})"`).FindStringSubmatch(p.body)[1]
	p = b.post("/factors/totp", "secret", given, "proof", proof, "code", codeOf(t, given, r.clock.now()))
	p.expect(t, "enrol", 200, "", "recovery codes")
	id := regexp.MustCompile(`action="/factors/remove">.*?name="id" value="([0-9a-f]{64})"`).FindStringSubmatch(b.get("/factors").body)[1]
	b.post("/factors/remove", "id", id).expect(t, "remove", 303, "/factors?done=removed", "")
	b.post("/factors/recovery").expect(t, "recovery", 200, "", "")
	admin := r.browser().enter("admin")
	admin.post("/admin/revoke", "user", aliceDN, "id", "8f3k").expect(t, "admin revokes", 200, "", "")
	admin.post("/admin/enrol-code", "user", aliceDN).expect(t, "admin issues", 200, "", "never again")
	b.post("/revoke-all").expect(t, "all", 303, "/passwords?done=revokedall", "")
	b.post("/sign-out-everywhere").expect(t, "out", 303, "/sign-in?done=signedout", "")
	b.post("/passwords/7f3k/revoke").expect(t, "nobody", 401, "", "")

	kinds := map[string]events.Kind{didCreate: events.Issued, didRename: events.Changed, didExtend: events.Renewed, didRestrict: events.Changed, didRevoke: events.Revoked}
	for action, kind := range told {
		kinds[action] = kind
	}
	rows, err := r.Store.events(t.Context(), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	want, got, seen := map[string]int{}, map[string]int{}, map[string]bool{}
	for _, e := range rows {
		seen[e.Action] = true
		want[fmt.Sprintf("%s of %s %s by %s from %s", kinds[e.Action], e.Entry, e.DN, e.Actor, e.Address)]++
	}
	for _, e := range r.heard {
		got[fmt.Sprintf("%s of %s %s by %s from %s", e.Kind, e.Entry, e.DN, e.Actor, e.Addr)]++
		if e.Via != "portal" || e.Time.IsZero() {
			t.Errorf("%+v", e)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the audit log has\n%v\nthe pages\n%v", got, want)
	}
	elsewhere := map[string]bool{didRefuse: true, didSignIn: true, didTurnAway: true, didTie: true, didUntie: true} // in the tests of passkeys and OpenID
	for action := range kinds {
		for tag, l := range r.locales {
			if l.words["did."+action] == "" {
				t.Errorf("%s has no words for %s", tag, action)
			}
		}
		if !seen[action] && !elsewhere[action] {
			t.Errorf("not done here: %s", action)
		}
	}
	if n := got["revoked of entryuuid:00000000-0000-0000-0000-00000000000a "+aliceDN+" by "+adminDN+" from 127.0.0.1"]; n != 1 {
		t.Errorf("what the admin has done: %d\n%v", n, got)
	}
}

// TestAuditWords: no action is noted in words that the audit log has no kind for.
func TestAuditWords(t *testing.T) {
	t.Parallel()
	known := map[string]bool{"didCreate": true, "didRename": true, "didExtend": true, "didRestrict": true, "didRevoke": true}
	source, _ := os.ReadFile("audit.go")
	for _, m := range regexp.MustCompile(`(did[A-Z][A-Za-z]*):`).FindAllStringSubmatch(string(source), -1) {
		known[m[1]] = true
	}
	n := 0
	look := func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok {
			return true
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || method.Sel.Name != "event" && method.Sel.Name != "adminEvent" {
			return true
		}
		action := call.Args[len(call.Args)-2]
		if name, ok := action.(*ast.Ident); !ok || !known[name.Name] && name.Name != "action" {
			t.Errorf("an action that the audit log does not hear of: %v", action)
		}
		n++
		return true
	}
	names, _ := filepath.Glob("*.go")
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, look)
	}
	if n < 10 {
		t.Errorf("%d actions found", n)
	}
}
