package backend

import (
	"net"
	"testing"

	"appbind/config"
	"appbind/wire"
)

// Forwarding a request and delivering its response costs no allocation.
func TestForwardAllocations(t *testing.T) {
	u := unstarted(t, testConfig(config.URL{Scheme: "ldap", Address: "127.0.0.1:1"}))
	ours, theirs := net.Pipe()
	go answerAll(theirs)
	l := newLink(u.servers[0], ours, ours, false, false)
	m, err := wire.Parse(wire.AppendMessage(nil, 5, wire.OpSearchRequest, searchFor("dc=x"), nil))
	if err != nil {
		t.Fatal(err)
	}
	sink := make(signalSink)
	n := testing.AllocsPerRun(1000, func() {
		if _, err := l.Forward(m, sink, true); err != nil {
			t.Fatal(err)
		}
		<-sink
	})
	// net.Pipe itself takes a timer for each write deadline.
	if n > 4 {
		t.Errorf("%v allocations", n)
	}
	t.Logf("%v allocations, those of net.Pipe's deadlines included", n)
	l.Close()
	u.Close()
}

// answerAll answers every request with success, from buffers of its own.
func answerAll(c net.Conn) {
	defer c.Close()
	r := wire.NewReader(c, wire.MaxFromUpstream)
	var buf []byte
	for {
		m, err := r.Next()
		if err != nil || m.Op == wire.OpUnbindRequest {
			return
		}
		buf = wire.AppendResult(buf[:0], m.ID, wire.ResponseTo(m.Op), wire.ResultSuccess, "")
		if _, err := c.Write(buf); err != nil {
			return
		}
	}
}

// The values of an entry are copied together, and appending to one changes no other.
func TestAppendValues(t *testing.T) {
	var list []byte
	for range 50 {
		list = wire.AppendStrings(list, "$app$phone$hash")
	}
	var values [][]byte
	n := testing.AllocsPerRun(100, func() { values = appendValues(nil, list) })
	if n > 2+raceAllocations {
		t.Errorf("%v allocations for 50 values", n)
	}
	clear(list) // the reader's buffer, used again
	_ = append(values[0], "and more"...)
	for i, v := range values {
		if string(v) != "$app$phone$hash" {
			t.Fatalf("value %d is %q", i, v)
		}
	}
	if values = appendValues(values, wire.AppendStrings(nil, "one more")); len(values) != 51 {
		t.Errorf("%d values", len(values))
	}
}
