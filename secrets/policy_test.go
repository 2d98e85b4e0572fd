package secrets

import (
	"net/netip"
	"testing"
	"time"
)

func TestAllows(t *testing.T) {
	t.Parallel()
	exp := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	before := exp.Add(-time.Nanosecond)
	berlin := time.FixedZone("CET", 3600)
	addr := func(s string) netip.Addr {
		if s == "" {
			return netip.Addr{}
		}
		return netip.MustParseAddr(s)
	}
	for _, c := range []struct {
		params  string
		now     time.Time
		service string
		addr    string
		want    error
	}{
		{"", exp, "", "", nil},
		{"", time.Time{}, "imap", "192.0.2.1", nil},
		{";exp=20270101000000Z", before, "", "", nil},
		{";exp=20270101000000Z", exp, "", "", ErrExpired},
		{";exp=20270101000000Z", exp.In(berlin), "", "", ErrExpired},
		{";exp=20270101000000Z", exp.Add(time.Hour), "", "", ErrExpired},
		{";exp=20270101000000Z", before.In(berlin), "", "", nil},

		{";svc=imap,smtp", exp, "imap", "", nil},
		{";svc=imap,smtp", exp, "IMAP", "", nil},
		{";svc=imap,smtp", exp, "imaps", "", nil},
		{";svc=imap,smtp", exp, "submission", "", nil},
		{";svc=imap,smtp", exp, "pop3", "", ErrService},
		{";svc=imap,smtp", exp, "", "", ErrService},
		{";svc=imap,smtp", exp, "ima", "", ErrService},
		{";svc=submission", exp, "smtp", "", nil},
		{";svc=submissions", exp, "smtps", "", nil},
		{";svc=managesieve", exp, "sieve", "", nil},
		{";svc=sieve", exp, "managesieve", "", nil},
		{";svc=sieve", exp, "imap", "", ErrService},
		{";svc=doveadm", exp, "doveadm", "", nil},

		{";net=192.0.2.0/24,2001:db8::/48", exp, "", "192.0.2.255", nil},
		{";net=192.0.2.0/24,2001:db8::/48", exp, "", "192.0.3.0", ErrNetwork},
		{";net=192.0.2.0/24,2001:db8::/48", exp, "", "::ffff:192.0.2.7", nil},
		{";net=192.0.2.0/24,2001:db8::/48", exp, "", "::ffff:192.0.3.7", ErrNetwork},
		{";net=192.0.2.0/24,2001:db8::/48", exp, "", "2001:db8:0:ffff::1", nil},
		{";net=192.0.2.0/24,2001:db8::/48", exp, "", "2001:db8:1::1", ErrNetwork},
		{";net=192.0.2.0/24,2001:db8::/48", exp, "", "", ErrNetwork},
		{";net=192.0.2.7/32", exp, "", "192.0.2.7", nil},
		{";net=192.0.2.7/32", exp, "", "192.0.2.8", ErrNetwork},
		{";net=0.0.0.0/0", exp, "", "::ffff:8.8.8.8", nil},
		{";net=0.0.0.0/0", exp, "", "2001:db8::1", ErrNetwork},
		{";net=0.0.0.0/0,::/0", exp, "", "", ErrNetwork},

		{";exp=20270101000000Z;svc=imap;net=10.0.0.0/8", before, "imap", "10.1.2.3", nil},
		{";exp=20270101000000Z;svc=imap;net=10.0.0.0/8", exp, "imap", "10.1.2.3", ErrExpired},
		{";exp=20270101000000Z;svc=imap;net=10.0.0.0/8", before, "smtp", "10.1.2.3", ErrService},
		{";exp=20270101000000Z;svc=imap;net=10.0.0.0/8", before, "imap", "11.1.2.3", ErrNetwork},
	} {
		v := Parse([]byte("$app$x" + c.params + "$" + testHash))
		if v.Err != nil {
			t.Errorf("%q: %v", c.params, v.Err)
		}
		if got := v.Allows(c.now, c.service, addr(c.addr)); got != c.want {
			t.Errorf("%q: Allows(%v, %q, %q) = %v, want %v", c.params, c.now, c.service, c.addr, got, c.want)
		}
	}
}

// TestCanonicalServiceIsStable says that a canonical name is its own canonical name, and that no two protocols meet.
func TestCanonicalServiceIsStable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, want string }{
		{"smtp", "smtp"}, {"submission", "smtp"}, {"submissions", "smtp"}, {"smtps", "smtp"}, {"SMTP", "smtp"},
		{"imap", "imap"}, {"imaps", "imap"}, {"pop3", "pop3"}, {"pop3s", "pop3"}, {"sieve", "sieve"}, {"managesieve", "sieve"},
		{"lmtp", "lmtp"}, {"http", "http"}, {"jmap", "jmap"}, {"", ""},
	} {
		got := CanonicalService(c.name)
		if got != c.want || CanonicalService(got) != got {
			t.Errorf("CanonicalService(%q) = %q, want %q", c.name, got, c.want)
		}
	}
}
