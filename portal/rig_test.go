package portal

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"appbind/auth"
	"appbind/backend"
	"appbind/backend/fakeldap"
	"appbind/config"
	"appbind/events"
	"appbind/history"
	"appbind/manage"
	"appbind/wire"
)

const (
	base      = "ou=people,dc=example,dc=org"
	aliceDN   = "uid=alice," + base
	bobDN     = "uid=bob," + base
	adminDN   = "uid=admin," + base
	groupDN   = "cn=portal admins,dc=example,dc=org"
	secret    = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
	aTOTP     = "otpauth://totp/Example:alice@example.org?secret=" + secret + "&issuer=Example"
	mainWord  = "main-canary-password"
	origin    = "http://localhost:8443"
	aHash     = "{SSHA256}D5tBbpqxCTr4fDNGBLCANSjxjvWbMVCCYTVCRKbQMRsxMjM0NTY3OA=="
	hisBottle = "$app$his phone;id=7f3k;exp=20300601000000Z$" + aHash
)

// identities are the users' entryUUIDs.
var identities = map[string]string{"alice": "00000000-0000-0000-0000-00000000000a", "bob": "00000000-0000-0000-0000-00000000000b", "admin": "00000000-0000-0000-0000-00000000000d"}

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex // guards t
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// rig is the pages in front of a directory.
type rig struct {
	*Portal
	t      *testing.T
	dir    *fakeldap.Directory
	clock  *clock
	log    *safeBuffer
	mailed sync.Mutex // guards mails and heard
	mails  []string
	heard  []events.Event
}

// safeBuffer is a log that many write to.
type safeBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newRig(t *testing.T, change ...func(*config.Config)) *rig {
	t.Helper()
	r := &rig{t: t, dir: fakeldap.NewDirectory(), clock: &clock{t: time.Date(2026, 3, 1, 12, 0, 5, 0, time.UTC)}, log: &safeBuffer{}}
	r.dir.Add("", "", "objectClass", "top", "supportedControl", "1.3.6.1.1.12")
	r.dir.Add(base, "", "objectClass", "organizationalUnit")
	r.dir.Add("cn=appbind,dc=example,dc=org", "reader-password", "objectClass", "person")
	r.dir.Add(groupDN, "", "objectClass", "groupOfNames", "member", adminDN)
	for _, name := range []string{"alice", "bob", "admin"} {
		r.dir.Add("uid="+name+","+base, mainWord+"-"+name, "objectClass", "inetOrgPerson", "uid", name, "cn", name+" Example", "mail", name+"@example.org",
			"entryUUID", identities[name], "entryCSN", "0")
	}
	r.dir.Add("uid=gone,"+base, mainWord+"-gone", "objectClass", "person", "uid", "gone") // not of users.filter
	srv, err := fakeldap.Start(fakeldap.Options{Handler: func(c *fakeldap.Conn, m wire.Message) {
		if m.Op == wire.OpModifyRequest {
			r.dir.Modify(c, m)
			return
		}
		r.dir.Handle(c, m)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	cfg := config.Default()
	cfg.Upstream.URLs = []config.URL{{Scheme: "ldap", Address: srv.Addr(), Host: "127.0.0.1"}}
	cfg.Upstream.BindDN, cfg.Upstream.BindPassword = "cn=appbind,dc=example,dc=org", "reader-password"
	cfg.Users.Bases, cfg.Users.EnabledFilter, cfg.Users.NameFilter = []string{base}, "none", "(|(uid=%s)(mail=%s))"
	cfg.History.Path = filepath.Join(t.TempDir(), "history.db")
	cfg.Portal.Listen, cfg.Portal.URL, cfg.Portal.Name = "127.0.0.1:8443", origin, "Example"
	cfg.Portal.Admins = []string{groupDN}
	cfg.Portal.IMAP, cfg.Portal.SMTP = "mail.example.org:993", "mail.example.org:587"
	for _, f := range change {
		f(cfg)
	}
	r.serve(cfg)
	return r
}

// serve makes the pages of a configuration.
func (r *rig) serve(cfg *config.Config) {
	t := r.t
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.MultiWriter(r.log), &slog.HandlerOptions{Level: slog.LevelDebug}))
	up, err := backend.New(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	up.Start(context.Background())
	t.Cleanup(up.Close)
	store, err := OpenStore(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	r.Portal, err = New(Parts{Config: cfg, Upstream: up, Verifier: auth.New(cfg, up, auth.NewMemory(r.clock.now), log),
		Manager: manage.New(cfg, up, false, r.clock.now).WithJournal(r), Journal: r, Store: store, Log: log, Now: r.clock.now,
		History: func(ctx context.Context) (*history.Store, error) { return history.Open(ctx, cfg) },
		Mail: func(to, _, subject, text string) {
			r.mailed.Lock()
			defer r.mailed.Unlock()
			r.mails = append(r.mails, to+": "+subject+": "+text)
		}})
	if err != nil {
		t.Fatal(err)
	}
}

// Emit is manage.Journal's.
func (r *rig) Emit(e events.Event) {
	r.mailed.Lock()
	defer r.mailed.Unlock()
	r.heard = append(r.heard, e)
}

// enrol gives a user a second factor, past the pages.
func (r *rig) enrol(name string, values ...string) {
	r.dir.Add("uid="+name+","+base, mainWord+"-"+name, append([]string{"objectClass", "inetOrgPerson", "uid", name, "cn", name + " Example",
		"mail", name + "@example.org", "entryUUID", identities[name], "entryCSN", "0"}, pairs(append(values, aTOTP))...)...)
}

func pairs(values []string) (list []string) {
	for _, v := range values {
		list = append(list, "appPassword", v)
	}
	return list
}

// code is the present one-time code.
func (r *rig) code() string { return codeOf(r.t, secret, r.clock.now()) }

func codeOf(t *testing.T, secret string, now time.Time) string {
	t.Helper()
	code, err := totp.GenerateCode(secret, now)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// browser is a client with cookies.
type browser struct {
	r       *rig
	cookies map[string]string
	agent   string
	remote  string
	host    string
	origin  string
	change  func(*http.Request)
}

func (r *rig) browser() *browser {
	return &browser{r: r, cookies: map[string]string{}, agent: "test browser", remote: "127.0.0.1:40000", host: "localhost:8443", origin: origin}
}

// page is an answer.
type page struct {
	code     int
	location string
	body     string
	header   http.Header
}

func (b *browser) do(q *http.Request) page {
	q.Host, q.RemoteAddr = b.host, b.remote
	q.Header.Set("User-Agent", b.agent)
	for name, value := range b.cookies {
		q.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	if b.change != nil {
		b.change(q)
	}
	w := httptest.NewRecorder()
	b.r.ServeHTTP(w, q)
	for _, c := range w.Result().Cookies() {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
	return page{w.Code, w.Header().Get("Location"), w.Body.String(), w.Header()}
}

func (b *browser) get(path string) page {
	return b.do(httptest.NewRequest("GET", path, nil))
}

// post sends a form with the session's token; pairs are names and values.
func (b *browser) post(path string, pairs ...string) page {
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	if c := b.cookies[cookieName]; c != "" && !form.Has("token") {
		form.Set("token", (&visit{session: &session{token: c}}).Token())
	}
	q := httptest.NewRequest("POST", path, strings.NewReader(form.Encode()))
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	q.Header.Set("Origin", b.origin)
	return b.do(q)
}

func (b *browser) password(name string) page {
	return b.post("/sign-in", "name", name, "password", mainWord+"-"+name)
}

// enter signs in with both factors.
func (b *browser) enter(name string) *browser {
	b.r.t.Helper()
	if p := b.password(name); p.location != "/second-factor" {
		b.r.t.Fatalf("%s: password: %d %s\n%s", name, p.code, p.location, b.r.log)
	}
	b.r.clock.add(30 * time.Second) // a code of its own
	if p := b.post("/second-factor", "code", b.r.code()); p.location != "/passwords" {
		b.r.t.Fatalf("%s: second factor: %d %s\n%s", name, p.code, p.location, p.body)
	}
	return b
}

// values are those of an entry's secrets attribute.
func (r *rig) values(name string) []string { return r.dir.Values("uid="+name+","+base, "appPassword") }

var tagPattern = regexp.MustCompile(`id="secret"[^>]*>([^<]+)<`)

// shown is the password or code that a page shows.
func (p page) shown(t *testing.T) string {
	t.Helper()
	m := tagPattern.FindStringSubmatch(p.body)
	if m == nil {
		t.Fatalf("nothing is shown: %d\n%s", p.code, p.body)
	}
	return m[1]
}

func (p page) expect(t *testing.T, what string, code int, location, says string) {
	t.Helper()
	if p.code != code || p.location != location || !strings.Contains(p.body, says) {
		t.Errorf("%s: %d %q, want %d %q %q\n%s", what, p.code, p.location, code, location, says, clip(p.body))
	}
}
