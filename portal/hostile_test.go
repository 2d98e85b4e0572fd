package portal

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"appbind/config"
	"appbind/secrets"
)

var (
	otpSecretPattern = regexp.MustCompile(`name="secret" value="([A-Z2-7]+)"`)
	proofPattern     = regexp.MustCompile(`name="proof" value="([0-9a-f]+)"`)
)

// TestSiteNames: whatever a site is called, a second factor can be enrolled, and its name is that.
func TestSiteNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Müller & Söhne", "C++ Users", "50% off", "a/b?c#d;e=f", `"quoted" <b>`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(c *config.Config) { c.Portal.Name = name })
			r.enrol("alice")
			b := r.browser().enter("alice")
			form := b.get("/factors/totp").body
			fresh, proof := otpSecretPattern.FindStringSubmatch(form), proofPattern.FindStringSubmatch(form)
			if fresh == nil || proof == nil {
				t.Fatal(form)
			}
			b.post("/factors/totp", "secret", fresh[1], "proof", proof[1], "code", codeOf(t, fresh[1], r.clock.now())).expect(t, "enrolled", 200, "", "")
			list := r.values("alice")
			v := secrets.Parse([]byte(list[len(list)-1]))
			if label := otpLabel(v); len(list) != 2 || v.Err != nil || label != name+":alice@example.org" {
				t.Errorf("%d values, %v, label %q", len(list), v.Err, label)
			}
		})
	}
}

// TestProfileWithoutServers: where no profile can be made, no app password is made that nobody has seen.
func TestProfileWithoutServers(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.Portal.SMTP = "" })
	r.enrol("alice")
	p := r.browser().enter("alice").post("/passwords", "label", "phone", "as", "profile")
	if list := r.values("alice"); p.code == http.StatusCreated || len(list) != 1 {
		t.Errorf("%d, and %d values", p.code, len(list))
	}
}

// TestPanic: a panic ends its request alone, with an answer that says nothing of it, and stands in the log.
func TestPanic(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	h := r.guarded(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("canary") }))
	q := httptest.NewRequest("GET", origin+"/", nil)
	q.RemoteAddr = "127.0.0.1:40000"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, q)
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "canary") {
		t.Errorf("%d\n%s", w.Code, w.Body)
	}
	if log := r.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "internal error") {
		t.Errorf("log: %s", log)
	}
}

// removeBoth takes away both second factors of who is signed in at one time.
func (b *browser) removeBoth() {
	b.r.t.Helper()
	ids := regexp.MustCompile(`name="id" value="([0-9a-f]{64})"`).FindAllStringSubmatch(b.get("/factors").body, -1)
	if len(ids) != 2 {
		b.r.t.Fatalf("%q", ids)
	}
	var both sync.WaitGroup
	for _, id := range ids {
		one := b.r.browser()
		one.cookies[cookieName] = b.cookies[cookieName]
		both.Go(func() { one.post("/factors/remove", "id", id[1]) })
	}
	both.Wait()
}

// TestLastFactors: of two factors that are taken away at one time one stays.
func TestLastFactors(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	other := strings.Replace(aTOTP, "GEZDGNBVGY3TQOJQGEZDGNBV", "MFRGGZDFMZTWQ2LKNNWG23TP", 1)
	r.enrol("alice", other)
	b := r.browser().enter("alice")
	b.removeBoth()
	if list := r.values("alice"); len(list) != 1 {
		t.Errorf("%d factors are left", len(list))
	}
}

// TestClockBack: a proof of the future is none; a clock that was put back must not keep a session alive, or fresh, for as long as it lags.
func TestClockBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enrol("alice")
	b := r.browser().enter("alice")
	r.clock.add(-time.Second)
	b.get("/passwords/new").expect(t, "a second back", 200, "", "")
	r.clock.add(-time.Hour)
	b.get("/passwords").expect(t, "an hour back", 303, "/sign-in", "")
	// The session of before a short jump, with a proof from behind it.
	v := &visit{p: r.Portal, session: &session{stage: stageFull, factorAt: r.clock.now().Add(2 * skew)}}
	if v.fresh() {
		t.Error("a proof of the future is fresh")
	}
}

// TestConnections: a flood of connections is bounded, whoever leaves makes room, and a proxy's are not one address's.
func TestConnections(t *testing.T) {
	t.Parallel()
	proxy := netip.MustParseAddr("192.0.2.1")
	b := newBounded(nil, func(a netip.Addr) bool { return a == proxy })
	for range maxPerAddress {
		if !b.enter("198.51.100.7") {
			t.Fatal("refused too early")
		}
	}
	if b.enter("198.51.100.7") || !b.enter("198.51.100.8") {
		t.Error("the bound of one address")
	}
	b.leave("198.51.100.8")
	for range maxConnections - maxPerAddress {
		if !b.enter("") {
			t.Fatal("refused too early")
		}
	}
	if b.enter("") {
		t.Error("no bound")
	}
	b.leave("198.51.100.7")
	if !b.enter("198.51.100.7") {
		t.Error("who leaves makes no room")
	}
	for range maxPerAddress {
		b.leave("198.51.100.7")
	}
	if len(b.byAddr) != 0 {
		t.Errorf("%v", b.byAddr)
	}
}

// TestFlood: more connections than there may be, which say nothing, are closed at once, and when they have left the pages are there.
func TestFlood(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Portal.Listen, cfg.Portal.URL = "127.0.0.1:0", "http://localhost"
	s, err := Listen(&cfg.Portal, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	var held []net.Conn
	for range maxConnections {
		nc, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		held = append(held, nc)
	}
	over, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer over.Close()
	_ = over.SetReadDeadline(time.Now().Add(5 * time.Second)) // silent ones are closed after requestTime, which is longer
	if _, err := over.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one too many: %v", err)
	}
	for _, nc := range held {
		nc.Close()
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		answer, err := http.Get("http://" + s.Addr().String() + "/")
		if err == nil {
			answer.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestSlowGuesses: who has a main password and patience gets fifty tries a day at the second factor, also where the store is tidied
// meanwhile; codes that were right do not count.
func TestSlowGuesses(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enrol("alice")
	for range maxTriesDay + 5 {
		r.browser().enter("alice")
	}
	tried := 0
	b := r.browser()
	b.password("alice")
	for range 60 {
		if b.post("/second-factor", "code", "zzzz-zzzz-zzzz-zzzz").code == http.StatusUnauthorized {
			tried++
		}
		r.clock.add(6 * time.Minute)
		if err := r.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if tried != maxTriesDay {
		t.Errorf("%d tries", tried)
	}
	r.clock.add(tryDay)
	r.browser().enter("alice")
}
