package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"appbind/backend/fakeldap"
	"appbind/secrets"
	"appbind/wire"
)

func TestHistogram(t *testing.T) {
	t.Parallel()
	h := &histogram{}
	for i := range 1000 {
		h.add(time.Duration(i+1) * time.Microsecond)
	}
	o := &histogram{}
	o.add(time.Hour)
	h.merge(o)
	for _, x := range []struct {
		q    float64
		want time.Duration
	}{{0, time.Microsecond}, {0.5, 501 * time.Microsecond}, {0.99, 991 * time.Microsecond}, {1, time.Hour}} {
		got := h.quantile(x.q)
		if got < x.want || got > x.want+x.want/16 {
			t.Errorf("quantile %v: %v, want %v and 1/16 more at most", x.q, got, x.want)
		}
	}
	if (&histogram{}).quantile(0.5) != 0 {
		t.Error("a quantile of nothing is not 0")
	}
}

// TestBuckets holds the bucket of a value against its bounds.
func TestBuckets(t *testing.T) {
	t.Parallel()
	for _, v := range []uint64{0, 1, 31, 32, 33, 63, 64, 65, 1000, 123456, 1 << 40, 1<<63 - 1} {
		b := bucket(v)
		if upper(b) < v || b > 0 && upper(b-1) >= v {
			t.Errorf("%d is in bucket %d, (%d, %d]", v, b, upper(b-1), upper(b))
		}
	}
}

// self is this process, in the place of one under test.
func self(t *testing.T) *process {
	p, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	pr := &process{name: "self"}
	pr.cmd = &exec.Cmd{Process: p}
	return pr
}

// directory is a server with one user whose binds and searches are answered
// rightly, or as the given handler says.
func directory(t *testing.T, handler fakeldap.Handler) string {
	t.Helper()
	dir := fakeldap.NewDirectory()
	dir.Add("uid=alice,"+people, "right", "uid", "alice", "objectClass", "inetOrgPerson")
	if handler == nil {
		handler = dir.Handle
	}
	s, err := fakeldap.Start(fakeldap.Options{Handler: handler})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s.Addr()
}

func TestMeasure(t *testing.T) {
	t.Parallel()
	addr := directory(t, nil)
	bind, search := bindStep("uid=alice,"+people, "right", 0), searchStep("uid=alice,"+people, "uid", "alice", 1)
	loads := map[string]*load{
		"binds":           {conns: 2, steps: []step{bind, bind}},
		"refused":         {conns: 2, fresh: func() step { return bindStep("uid=alice,"+people, "wrong", 49) }},
		"searches":        {conns: 2, login: &bind, steps: []step{search, search}},
		"eight under way": {conns: 2, depth: 8, login: &bind, steps: []step{search, search}},
		"groups":          {conns: 2, group: 2, steps: []step{bind, search, bind, search}},
	}
	for name, l := range loads {
		if err := l.prime(addr, self(t)); err != nil {
			t.Errorf("%s: priming: %v", name, err)
		}
		s, err := l.measure(addr, self(t), 100*time.Millisecond)
		if err != nil || s.Ops == 0 || s.Rate == 0 || s.P50 == 0 || s.P99 < s.P50 {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	once := &load{conns: 3, once: true, steps: []step{bind, bind, bind, bind, bind, bind, bind}}
	if s, err := once.measure(addr, self(t), 0); err != nil || s.Ops != 7 {
		t.Errorf("seven steps, once each: %d sent, %v", s.Ops, err)
	}
}

// TestWrongAnswers: whatever is wrong with an answer ends the run.
func TestWrongAnswers(t *testing.T) {
	t.Parallel()
	bind, search := bindStep("uid=alice,"+people, "right", 0), searchStep("uid=alice,"+people, "uid", "alice", 1)
	for name, x := range map[string]struct {
		step    step
		answer  func(m wire.Message) []byte
		message string
	}{
		"code":    {bind, func(m wire.Message) []byte { return wire.AppendResult(nil, m.ID, wire.OpBindResponse, 49, "") }, "result 49"},
		"id":      {bind, func(m wire.Message) []byte { return wire.AppendResult(nil, m.ID+1, wire.OpBindResponse, 0, "") }, "not under way"},
		"op":      {bind, func(m wire.Message) []byte { return wire.AppendResult(nil, m.ID, wire.OpCompareResponse, 0, "") }, "answered with operation"},
		"entries": {search, func(m wire.Message) []byte { return wire.AppendResult(nil, m.ID, wire.OpSearchResultDone, 0, "") }, "0 entries, want 1"},
		"notice":  {bind, func(wire.Message) []byte { return wire.AppendNotice(nil, 52, "") }, "not under way"},
	} {
		addr := directory(t, func(c *fakeldap.Conn, m wire.Message) {
			if m.Op != wire.OpUnbindRequest {
				c.Write(x.answer(m))
			}
		})
		l := &load{conns: 1, once: true, steps: []step{x.step}}
		_, err := l.measure(addr, self(t), 0)
		if err == nil || !strings.Contains(err.Error(), x.message) {
			t.Errorf("%s: %v, want %q", name, err, x.message)
		}
		if err != nil && strings.Contains(err.Error(), "right") {
			t.Errorf("%s: the message tells the password: %v", name, err)
		}
	}
}

// TestSecrets: what the users of the directory log in with is what it says.
func TestSecrets(t *testing.T) {
	t.Parallel()
	a := newAccount("alice")
	values, err := a.addSecrets(10)
	if err != nil || len(values) != 10 || len(a.apps) != 10 {
		t.Fatalf("%d values, %d passwords, %v", len(values), len(a.apps), err)
	}
	matches := func(password string) (ids, fit int) {
		_, selector, _ := secrets.ShapeOf([]byte(password))
		for _, raw := range values {
			v := secrets.Parse([]byte(raw))
			if v.ID == selector {
				ids++
			}
			if v.Verify([]byte(password)) {
				fit++
			}
		}
		return ids, fit
	}
	for name, x := range map[string]struct {
		password string
		ids, fit int
	}{"right": {a.apps[3], 1, 1}, "wrong": {a.wrong, 1, 0}, "revoked": {a.revoked, 0, 0}} {
		shape, _, _ := secrets.ShapeOf([]byte(x.password))
		if ids, fit := matches(x.password); shape != secrets.Ours || ids != x.ids || fit != x.fit {
			t.Errorf("%s: shape %v, %d selectors, %d fit", name, shape, ids, fit)
		}
	}
}

func TestWorks(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	all := works()
	for i := range all {
		w := &all[i]
		if names[w.name] {
			t.Errorf("two works are named %q", w.name)
		}
		names[w.name] = true
		if _, known := variants[w.variant]; !known {
			t.Errorf("%q: no variant %q", w.name, w.variant)
		}
	}
	peers := map[string]bool{}
	for i := range all {
		peers[all[i].name] = all[i].peers
	}
	for i := range all {
		if all[i].than != "" && !peers[all[i].than] {
			t.Errorf("%q is compared with %q, which the peers do not do", all[i].name, all[i].than)
		}
	}
	list := selected(all, regexp.MustCompile("row 11: "))
	if len(list) != 2 || list[0].name != refusedBind {
		t.Errorf("row 11 needs itself and what it is compared with, not %d works", len(list))
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	fast := sample{Rate: 300, CPU: 10, P50: time.Millisecond, P99: 20 * time.Millisecond}
	slow := sample{Rate: 100, CPU: 40}
	r := &report{rounds: 3, works: []work{{name: "a", peers: true, variant: "live"}, {name: "b", variant: "replica"}},
		results: &results{samples: map[cell][]sample{
			{"a", direct}: {{Rate: 150, CPU: 20}}, {"a", ours}: {slow, fast, fast},
		}, refused: map[cell]error{{"b", ours}: errNotAvailable}},
		idle: []idleResult{{Name: "x", Bytes: 2048}, {Name: "y", Err: errNotAvailable}}}
	var b bytes.Buffer
	r.write(&b)
	for _, want := range []string{"| a | appbind | 300 | 1000 us | 20.0 ms | 10.0 | 2.00x, CPU 0.50x |", "| b | appbind | not available |", "| x | 2.0 KiB |", "| y | not available |"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if err := r.failed(); err != nil {
		t.Errorf("what is not available is no failure: %v", err)
	}
	r.idle[1].Err = errors.New("lost")
	if r.failed() == nil {
		t.Error("a failure passed")
	}
}

func TestReplaceFigures(t *testing.T) {
	t.Parallel()
	out, err := replaceFigures([]byte("head\n"+beginMark+"old\n"+endMark+"tail\n"), []byte("new\n"))
	if want := "head\n" + beginMark + "\nnew\n\n" + endMark + "tail\n"; err != nil || string(out) != want {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := replaceFigures([]byte("no marks"), nil); err == nil {
		t.Error("a document without marks was taken")
	}
}

func TestProc(t *testing.T) {
	t.Parallel()
	got, err := cpuOf("12 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0")
	if err != nil || got != 2*time.Second {
		t.Errorf("cpu time %v, %v", got, err)
	}
	if _, err := cpuOf("12 (a) S 1"); err == nil {
		t.Error("a short line was taken")
	}
	if got := busy("cpu  100 20 30 9999 9999 6 7 8 50 0\ncpu0 1 1\n"); got != 171*tick {
		t.Errorf("busy: %v", got)
	}
	if _, err := self(t).resident(); err != nil {
		t.Error(err)
	}
}

// TestRefusedConfiguration: what appbind calls a mistake is not available; any other end is a failure.
func TestRefusedConfiguration(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]bool{"2": true, "1": false} {
		dir := t.TempDir()
		program := dir + "/appbind"
		if err := os.WriteFile(program, []byte("#!/bin/sh\nexit "+status+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		h := &house{dir: dir, program: program, peers: map[string]*server{direct: {addr: "127.0.0.1:1"}},
			proxies: map[string]*server{}, refused: map[string]error{}}
		_, err := h.proxy(ours, "replica", false)
		if err == nil || errors.Is(err, errNotAvailable) != want || (h.refused["appbind-replica"] != nil) != want {
			t.Errorf("exit status %s: %v", status, err)
		}
	}
}

// TestProfile: a profile is saved for appbind only, and an answer other than a profile is an error.
func TestProfile(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/profile", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "profile of "+r.FormValue("seconds"))
	})
	site := httptest.NewServer(mux)
	defer site.Close()
	h := &house{profile: t.TempDir() + "/new"}
	s := &server{seen: strings.TrimPrefix(site.URL, "http://")}
	if err := <-h.startProfile("bind, 1 of Them", direct, s, &load{}, time.Second); err != nil {
		t.Fatal(err)
	}
	if err := <-h.startProfile("bind, 1 of Them", ours, s, &load{}, 2500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(h.profile)
	if err != nil || len(files) != 1 || files[0].Name() != "bind-1-of-them.pprof" {
		t.Fatalf("%v %v", files, err)
	}
	if text, err := os.ReadFile(h.profile + "/bind-1-of-them.pprof"); err != nil || string(text) != "profile of 2" {
		t.Errorf("%q %v", text, err)
	}
	s.seen += "/elsewhere"
	if <-h.startProfile("x", ours, s, &load{}, time.Second) == nil {
		t.Error("an answer that is no profile is none of the errors")
	}
}

// TestLoaded: the line that says that the replica is there, and the one that says the opposite.
func TestLoaded(t *testing.T) {
	t.Parallel()
	if !isLoaded.MatchString(`time=2026-01-02T03:04:05Z level=INFO msg="replica is current" upstream=127.0.0.1:389 users=10000`) {
		t.Error("a replica that is current is not seen")
	}
	if isLoaded.MatchString(`level=WARN msg="replica is not current, binds are looked up live" error=x`) {
		t.Error("a replica that is not current counts")
	}
}

// TestAnswers: only a successful bind counts.
func TestAnswers(t *testing.T) {
	t.Parallel()
	if !answers(directory(t, nil)) {
		t.Error("a directory does not answer")
	}
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if answers(l.Addr().String()) {
		t.Error("a closed port answers")
	}
}
