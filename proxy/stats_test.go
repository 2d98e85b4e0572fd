package proxy

import (
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"appbind/auth"
	"appbind/config"
	"appbind/wire"
)

func TestHistogram(t *testing.T) {
	t.Parallel()
	var h histogram
	for _, d := range []time.Duration{0, 100 * time.Microsecond, 100*time.Microsecond + 1, 10 * time.Second, 10*time.Second + 1} {
		h.add(d)
	}
	s := h.snapshot()
	last := len(s.Counts) - 1
	if s.Counts[0] != 2 || s.Counts[1] != 1 || s.Counts[last-1] != 1 || s.Counts[last] != 1 || s.Total() != 5 || s.Sum != 20*time.Second+200*time.Microsecond+2 {
		t.Errorf("%+v", s)
	}
	for i := 1; i < len(DurationBounds); i++ {
		if DurationBounds[i] <= DurationBounds[i-1] {
			t.Errorf("bound %d is not above the one before", i)
		}
	}
}

// TestCountBind: every text of a counter is of a fixed list, whatever clients send.
func TestCountBind(t *testing.T) {
	var c counts
	l := c.listener("a")
	if c.listener("a") != l {
		t.Error("one name, two counters")
	}
	for _, b := range []struct{ reason, service, wantReason, wantService string }{
		{auth.ReasonAppPassword, "", auth.ReasonAppPassword, ""},
		{auth.ReasonAppPassword, "imap", auth.ReasonAppPassword, "imap"},
		{auth.ReasonAppPassword, "submission", auth.ReasonAppPassword, "smtp"},
		{auth.ReasonAppPassword, "x-canary", auth.ReasonAppPassword, "other"},
		{reasonControl, "", reasonControl, ""},
		{"no word of ours", "", "other", ""},
	} {
		before := map[BindCount]bool{}
		for _, n := range l.counted() {
			before[n] = true
		}
		c.bind(l, outcomeDenied, b.reason, b.service, time.Millisecond)
		for _, n := range l.counted() {
			if !before[n] && (n.Outcome != outcomeDenied || n.Reason != b.wantReason || n.Service != b.wantService || n.N != 1) {
				t.Errorf("%q %q: %+v", b.reason, b.service, n)
			}
		}
	}
	if n := c.binds[1].snapshot(); n.Total() != 6 {
		t.Errorf("%d durations", n.Total())
	}
	if n := testing.AllocsPerRun(100, func() {
		c.bind(l, outcomeAccepted, auth.ReasonAppPassword, "imap", time.Millisecond)
		c.answered(wire.OpSearchRequest, time.Millisecond)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestStats: what a server counts of its clients.
func TestStats(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) {
		cfg.Listeners[0].Service = "imap"
		cfg.Limits.Connections = 2
	})
	if !r.server.Serving() {
		t.Error("not serving")
	}
	c := r.dial()
	c.bind(1, aliceUser, phonePW, 0)
	c.bind(2, aliceUser, "wrong", 49)
	c.bind(3, serviceDN, servicePW, 0)
	c.search(4, aliceUser, wire.ScopeBase, anyEntry)
	r.dial().bind(1, serviceDN, servicePW, 0)
	r.dial().wantEnd()
	st := r.server.Stats()
	want := map[BindCount]bool{
		{outcomeAccepted, auth.ReasonAppPassword, "imap", 1}:   true,
		{outcomeDenied, auth.ReasonUpstreamRefused, "imap", 1}: true,
		{outcomeAccepted, auth.ReasonListed, "imap", 2}:        true,
	}
	if len(st.Listeners) != 1 || st.Listeners[0].Open != 2 || st.Listeners[0].Accepted != 2 || len(st.Listeners[0].Binds) != 3 {
		t.Fatalf("%+v", st.Listeners)
	}
	for _, b := range st.Listeners[0].Binds {
		if !want[b] {
			t.Errorf("%+v", b)
		}
	}
	done, decided := st.Operations["search"], st.Binds[outcomeAccepted]
	if done.Total() != 1 || done.Sum <= 0 || decided.Total() != 3 || st.Refused["connections"] != 1 || st.Panics != 0 {
		t.Errorf("%+v", st)
	}
	// A name that a reload leaves keeps its counts.
	before := r.core(r.config())
	before.Config.Listeners[0].URL.Address = "127.0.0.2:0"
	if err := r.server.Reload(before); err != nil {
		t.Fatal(err)
	}
	if st := r.server.Stats(); len(st.Listeners) != 2 || st.Listeners[0].Open != 2 {
		t.Errorf("%+v", st.Listeners)
	}
}

// TestCountStall: a client that takes nothing is counted once, one that leaves is not.
func TestCountStall(t *testing.T) {
	for _, tc := range []struct {
		reads bool
		want  uint64
	}{{true, 0}, {false, 1}} {
		s := New(Core{}, slog.New(slog.DiscardHandler))
		near, far := net.Pipe()
		c := &conn{srv: s, raw: near, w: wire.NewWriter(near, writeBacklog, 20*time.Millisecond)}
		if tc.reads {
			go func() { _, _ = io.Copy(io.Discard, far) }()
		}
		_ = c.w.Write(func(dst []byte) []byte { return append(dst, 1) })
		near.Close()
		c.countStall()
		far.Close()
		if n := s.Stats().Stalled; n != tc.want {
			t.Errorf("reads %v: %d stalls counted", tc.reads, n)
		}
	}
}

// BenchmarkCountBind is what counting adds to a bind.
func BenchmarkCountBind(b *testing.B) {
	var c counts
	l := c.listener("a")
	b.ReportAllocs()
	for b.Loop() {
		c.bind(l, outcomeAccepted, auth.ReasonAppPassword, "imap", 300*time.Microsecond)
	}
}

// BenchmarkCountForwarded is what counting adds to a forwarded request: the time of its receipt and of its end.
func BenchmarkCountForwarded(b *testing.B) {
	var c counts
	b.ReportAllocs()
	for b.Loop() {
		at := time.Now()
		c.answered(wire.OpSearchRequest, time.Since(at))
	}
}
