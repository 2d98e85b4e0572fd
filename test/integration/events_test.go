package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"appbind/events"
)

// hook is a webhook's receiver.
type hook struct {
	*httptest.Server
	key    []byte
	mu     sync.Mutex // guards the fields below
	bodies []string
	forged int // requests whose signature does not fit
	down   bool
}

func startHook(t testing.TB, secret string) *hook {
	h := &hook{key: []byte(secret)}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

// ServeHTTP takes an event as a receiver should: by its signature and its time.
func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	stamp, e := strconv.ParseInt(r.Header.Get("webhook-timestamp"), 10, 64)
	at := time.Unix(stamp, 0)
	if err != nil || e != nil || time.Since(at).Abs() > 5*time.Minute || r.Header.Get("webhook-signature") != events.Sign(h.key, r.Header.Get("webhook-id"), at, body) {
		h.forged++
		return
	}
	h.bodies = append(h.bodies, string(body))
}

// got are the kinds and labels of the events that were taken, in order, and all that was received.
func (h *hook) got(t testing.TB) (list []string, all string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.forged > 0 {
		t.Errorf("%d requests with a bad signature", h.forged)
	}
	return told(t, h.bodies), strings.Join(h.bodies, "\n")
}

func (h *hook) set(down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = down
}

// told are the kinds and labels of events.
func told(t testing.TB, lines []string) (list []string) {
	t.Helper()
	for _, text := range lines {
		var e struct{ Event, Label string }
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		list = append(list, e.Event+" "+e.Label)
	}
	return list
}

// linesOf are the lines of a file; none where there is no file.
func linesOf(file string) []string {
	text, _ := os.ReadFile(file)
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// TestEvents: what is done to app passwords over LDAP stands in the audit log and in the history, and is told to the
// webhook; so is what the history notices. The receiver may be down meanwhile. No password, hash or key is anywhere.
func TestEvents(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	const key, chosen = "canary-key-of-the-webhook-0123456789", "canary-chosen-4d1e"
	h := startHook(t, key)
	h.set(true)
	dir := shortDir(t)
	audit := filepath.Join(dir, "audit.log")
	write(t, dir+"/webhook.key", key+"\n")
	yaml := managing(t, s, "  - {url: 'ldap://127.0.0.1:0', context: trusted, service: imap}\n", "chosen_algorithm: argon2id") +
		historyConfig + fmt.Sprintf("managers: ['"+helpdeskDN+"']\nlog: {level: debug}\naudit: {file: %s}\nwebhook: {url: '%s/hook', secret_file: %s/webhook.key}\n", audit, h.URL, dir)
	a := startAppbind(t, yaml)
	modify := func(ldif string) result { return as(t, a.uri(), helpdeskDN, helpdeskPW, ldif, "ldapmodify") }
	label := "appPasswordLabel=phone," + userDN("alice")

	r := as(t, a.uri(), helpdeskDN, helpdeskPW, "", "ldappasswd", label)
	m := newPasswordLine.FindStringSubmatch(r.out)
	if r.code != 0 || m == nil {
		t.Fatalf("%d %s%s", r.code, r.out, r.err)
	}
	if r := as(t, a.uri(), helpdeskDN, helpdeskPW, "", "ldappasswd", label); r.code == 0 {
		t.Error("made twice")
	}
	if r := as(t, a.uri(), userDN("bob"), "bob-main", changeOf("alice", "add", "appPassword", "$app$mine$"+chosen), "ldapmodify"); r.code != 50 {
		t.Errorf("who may not: %d", r.code)
	}
	if r := command(t, changeOf("alice", "add", "appPassword", "$app$mine$"+chosen), "ldapmodify", "-x", "-H", a.uri()); r.code == 0 {
		t.Error("a stranger wrote")
	}
	if r := modify(changeOf("alice", "add", "appPassword", "$app$tablet$"+chosen)); r.code != 0 {
		t.Fatalf("%d %s", r.code, r.err)
	}
	for _, rip := range []string{"192.0.2.1", "198.51.100.1"} {
		expectBind(t, a.uri(), userDN("alice")+",rip="+rip+",cn=appbind", m[1], 0)
	}
	if r := as(t, a.uri(), helpdeskDN, helpdeskPW, "", "ldapdelete", "appPasswordId="+m[1][:4]+","+userDN("alice")); r.code != 0 {
		t.Fatalf("%d %s", r.code, r.err)
	}
	expectBind(t, a.uri(), userDN("alice")+",rip=192.0.2.1,cn=appbind", m[1], 49)
	expectBind(t, a.uri(), userDN("alice")+",rip=192.0.2.1,cn=appbind", "canary-wrong-9d0a", 49)
	entry := "dn: uid=eve,ou=people,dc=example,dc=org\nobjectClass: inetOrgPerson\nobjectClass: appPasswordAccount\nuid: eve\ncn: Eve\nsn: E\nappPassword: $app$desktop$" + chosen + "\n"
	if r := as(t, a.uri(), adminDN, adminPW, entry, "ldapadd"); r.code != 0 {
		t.Fatalf("%d %s", r.code, r.err)
	}
	within(t, "the audit log is not complete", historyPatience, func() bool { return len(linesOf(audit)) >= 8 })
	h.set(false)

	// What the directory has confirmed stands there in its order; what the history notices comes when it is written.
	lines := linesOf(audit)
	const changes = "issued phone|refused phone|refused |issued tablet|revoked phone|issued desktop"
	var done []string
	for _, e := range told(t, lines) {
		if !strings.HasPrefix(e, "new_network") && !strings.HasPrefix(e, "stale_device") {
			done = append(done, e)
		}
	}
	if got := strings.Join(done, "|"); got != changes {
		t.Errorf("the audit log has %s\nwant %s", got, changes)
	}
	text := strings.Join(lines, "\n")
	for _, want := range []string{
		`"label":"phone","expires":"20`, `"actor":"` + helpdeskDN + `","via":"ldap","address":"127.0.0.1"`, `"actor":"` + userDN("bob") + `"`, `"reason":"the directory answered with result 50"`,
		`"event":"new_network","entry":"entryuuid:`, `"label":"phone","address":"198.51.100.1","service":"imap"}`, `"address":"192.0.2.1","service":"imap","reason":"no such app password"}`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the audit log lacks %s:\n%s", want, text)
		}
	}
	within(t, "the webhook is not told", historyPatience, func() bool {
		list, _ := h.got(t)
		return len(list) >= 6
	})
	list, _ := h.got(t)
	if got := strings.Join(list, "|"); strings.Contains(got, "refused") || !strings.HasPrefix(got, "issued phone|issued tablet|revoked phone|") || !strings.Contains(got, "new_network phone") || !strings.Contains(got, "stale_device phone") {
		t.Errorf("the webhook was told %s", got)
	}

	store := historyOf(t, a)
	past, err := store.Passwords(context.Background(), "")
	if err != nil || len(past) < 3 {
		t.Fatalf("%+v, %v", past, err)
	}
	for _, p := range past {
		if gone := p.Label == "phone"; p.Kind == "app" && (p.Issued.IsZero() || gone == p.Revoked.IsZero()) {
			t.Errorf("the history has %+v", p)
		}
	}
	// Rotated, and told to another file.
	if err := os.Rename(audit, audit+".1"); err != nil {
		t.Fatal(err)
	}
	a.hangup(yaml, reloaded)
	if r := modify(changeOf("alice", "delete", "appPassword", "$app$tablet")); r.code != 0 {
		t.Fatalf("%d %s", r.code, r.err)
	}
	within(t, "the audit log was not opened anew", historyPatience, func() bool { return strings.Contains(strings.Join(linesOf(audit), ""), "tablet") })
	said := processFiles(t, a)
	_, metrics := httpGet(a.endpoint() + "/metrics")
	a.stop(syscall.SIGTERM)
	_, hooked := h.got(t)
	if !strings.Contains(hooked, `"event":"revoked"`) || metric(t, metrics, "appbind_audit_up") != 1 {
		t.Error("the last event was not told")
	}
	said += a.output() + hooked + text + strings.Join(linesOf(audit), "") + fmt.Sprintf("%+v", past) + metrics
	for _, file := range []string{"history.db", "history.db-wal"} {
		data, _ := os.ReadFile(filepath.Join(filepath.Dir(a.file), file))
		said += string(data)
	}
	if found := leaks(said, []string{key, chosen, m[1], strings.ReplaceAll(m[1], "-", ""), "canary-wrong-9d0a", helpdeskPW, managePW}); len(found) > 0 {
		t.Errorf("leaks: %q", found)
	}
	canaryFree(t, said, "$app$", "$argon2id$", "{SSHA256}")
}
