package wire

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

// loop is a stream that repeats one message without end.
type loop struct {
	message []byte
	at      int
}

func (l *loop) Read(p []byte) (n int, err error) {
	for n < len(p) {
		c := copy(p[n:], l.message[l.at:])
		n += c
		l.at = (l.at + c) % len(l.message)
	}
	return n, nil
}

// hot is what runs for every message that is forwarded.
func hot(t testing.TB) map[string]func() {
	var search SearchRequest
	search.Base = []byte("ou=people,dc=example,dc=org")
	search.Filter = filter(t, "(&(objectClass=inetOrgPerson)(|(uid=alice)(mail=alice@example.org))(!(loginShell=*nologin)))")
	search.Attributes = AppendStrings(nil, "uid", "mail", "homeDirectory", "uidNumber", "gidNumber")
	controls := AppendControl(nil, "1.2.840.113556.1.4.319", true, []byte("0\x05\x02\x01\x64\x04\x00"))
	request := parsed(t, message(300, OpSearchRequest, search.Append(nil), controls))
	bind := parsed(t, message(301, OpBindRequest, AppendSimpleBind(nil, "uid=alice,ou=people,dc=example,dc=org", []byte("secret")), nil))
	var list []byte
	for i := range 12 {
		list = AppendAttribute(list, fmt.Sprint("attribute", i), []byte("value"), bytes.Repeat([]byte("v"), 20))
	}
	e := SearchEntry{DN: []byte("uid=alice,ou=people,dc=example,dc=org"), Attributes: list}
	entry := parsed(t, message(300, OpSearchResultEntry, e.Append(nil), nil))
	done := parsed(t, AppendResult(nil, 300, OpSearchResultDone, 0, ""))

	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	r := NewReader(&loop{message: request.Raw}, MaxBeforeBind)
	dst := make([]byte, 0, 64<<10)
	return map[string]func(){
		"Next":                    func() { _, err := r.Next(); must(err) },
		"AppendTo":                func() { dst = request.AppendTo(dst[:0], 70000) },
		"AppendResult":            func() { dst = AppendResult(dst[:0], 300, OpBindResponse, ResultInvalidCredentials, "") },
		"ValidateRequest/search":  func() { must(request.ValidateRequest()) },
		"ValidateRequest/bind":    func() { must(bind.ValidateRequest()) },
		"ValidateResponse/entry":  func() { must(entry.ValidateResponse()) },
		"ValidateResponse/result": func() { must(done.ValidateResponse()) },
	}
}

func parsed(t testing.TB, raw []byte) Message {
	t.Helper()
	m, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// What runs for every forwarded message does not allocate.
func TestNoAllocations(t *testing.T) {
	for name, f := range hot(t) {
		for range 1000 { // the reader's buffer finds its size
			f()
		}
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	w := NewWriter(discard{}, 1000, 0)
	m := parsed(t, AppendResult(nil, 300, OpSearchResultDone, 0, ""))
	send := func() {
		if err := w.Write(func(dst []byte) []byte { return m.AppendTo(dst, 7) }); err != nil {
			t.Fatal(err)
		}
	}
	// A collection may empty the pool of buffers in between.
	if n := testing.AllocsPerRun(10000, send); n > 0.1 {
		t.Errorf("Writer.Write: %v allocations", n)
	}
}

// discard is a connection that takes everything.
type discard struct{ *gateConn }

func (discard) Write(b []byte) (int, error) { return len(b), nil }

func BenchmarkHot(b *testing.B) {
	for name, f := range hot(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}

// A group of 100,000 members is checked without looking at them.
func BenchmarkLargeEntry(b *testing.B) {
	values := make([][]byte, 100000)
	for i := range values {
		values[i] = fmt.Appendf(nil, "uid=user%d,ou=people,dc=example,dc=org", i)
	}
	e := SearchEntry{DN: []byte("cn=all,dc=example,dc=org"), Attributes: AppendAttribute(nil, "member", values...)}
	raw := message(3, OpSearchResultEntry, e.Append(nil), nil)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		r := NewReader(bytes.NewReader(raw), MaxFromUpstream)
		m, err := r.Next()
		if err != nil || m.ValidateResponse() != nil {
			b.Fatal(err)
		}
		if _, err := r.Next(); err != io.EOF {
			b.Fatal(err)
		}
	}
}

func BenchmarkDN(b *testing.B) {
	base, err := ParseDN("ou=people,dc=example,dc=org")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		dn, err := ParseDN("uid=alice,ou=people,dc=example,dc=org")
		if err != nil || !dn.HasSuffix(base) || dn.Key() == "" {
			b.Fatal(dn, err)
		}
	}
}
