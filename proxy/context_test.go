package proxy

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"appbind/wire"

	"github.com/go-ldap/ldap/v3"
)

const aliceDN = "uid=alice,ou=people,dc=example,dc=org"

func TestSplitContextAccepts(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr
	for _, c := range []struct {
		rest, suffix string
		want         userContext
	}{
		{aliceDN, "svc=imap,rip=192.0.2.7,cn=appbind", userContext{Service: "imap", Addr: addr("192.0.2.7")}},
		// Dovecot 2.3, all variables, as seen on the wire.
		{aliceDN, "svc=imap,rip=2001:db8:0:1::77,lip=127.0.0.1,sec=secured,sid=sess-1,cn=appbind", userContext{
			Service: "imap", Session: "sess-1", Secured: "secured", Addr: addr("2001:db8:0:1::77"), Local: addr("127.0.0.1")}},
		// doveadm auth test, Postfix: empty values.
		{aliceDN, "svc=smtp,rip=,sid=,sec=,lip=,cn=appbind", userContext{Service: "smtp"}},
		{aliceDN, "cn=appbind", userContext{}},
		{aliceDN, "CN=AppBind", userContext{}},
		{aliceDN, "SVC=IMAP,cn=appbind", userContext{Service: "imap"}},
		// Any order.
		{aliceDN, "sid=x,svc=pop3,cn=appbind", userContext{Service: "pop3", Session: "x"}},
		// Escapes of Dovecot 2.3 (upper case), 2.4 (lower case), Exim.
		{aliceDN, `rip=2001\3Adb8\3a\3A1,sid=a\2Bb\2fc\3D\=,cn=appbind`, userContext{Session: "a+b/c==", Addr: addr("2001:db8::1")}},
		{aliceDN, `rip=192\2E0\2e2.7,cn=appbind`, userContext{Addr: addr("192.0.2.7")}},
		{aliceDN, "rip=::ffff:198.51.100.9,lip=::ffff:10.0.0.1,cn=appbind", userContext{Addr: addr("198.51.100.9"), Local: addr("10.0.0.1")}},
		{aliceDN, "sec=TLS,cn=appbind", userContext{Secured: "TLS"}},
		{aliceDN, "sid=aGVsbG8/d29ybGQ=,cn=appbind", userContext{Session: "aGVsbG8/d29ybGQ="}},
		{aliceDN, `sid=\ x\ ,cn=appbind`, userContext{Session: " x "}},
		{"ou=people,dc=example,dc=org", "svc=lmtp,rip=,cn=appbind", userContext{Service: "lmtp"}},
		// What the mail server has escaped is a value, not a part of the context.
		{`uid=a\,svc=imap,ou=people,dc=example,dc=org`, "svc=smtp,cn=appbind", userContext{Service: "smtp"}},
		{`uid=a\2Csvc\3Dimap,dc=org`, "svc=smtp,cn=appbind", userContext{Service: "smtp"}},
		{`uid=a\\,dc=org`, "svc=smtp,cn=appbind", userContext{Service: "smtp"}},
		{`uid=x\\`, "svc=smtp,cn=appbind", userContext{Service: "smtp"}},
		// A plain name.
		{"alice@example.org", "svc=smtp,cn=appbind", userContext{Service: "smtp"}},
		// appbind's own entry upstream.
		{"cn=appbind,dc=example,dc=org", "svc=smtp,cn=appbind", userContext{Service: "smtp"}},
		{aliceDN, "svc=" + strings.Repeat("a", 32) + ",sid=" + strings.Repeat("s", 64) + ",sec=" + strings.Repeat("t", 32) + ",cn=appbind", userContext{
			Service: strings.Repeat("a", 32), Session: strings.Repeat("s", 64), Secured: strings.Repeat("t", 32)}},
	} {
		rest, suffix, uc, found, err := splitContext([]byte(c.rest + "," + c.suffix))
		if !found || err != nil {
			t.Errorf("%s + %s: found %v, %v", c.rest, c.suffix, found, err)
			continue
		}
		if string(rest) != c.rest || string(suffix) != c.suffix {
			t.Errorf("%s + %s: split into %s and %s", c.rest, c.suffix, rest, suffix)
		}
		if uc != c.want {
			t.Errorf("%s: %+v, want %+v", c.suffix, uc, c.want)
		}
	}
}

// notContexts end in nothing that any directory takes for cn=appbind.
var notContexts = []string{
	"", aliceDN, "cn=appbind,dc=example,dc=org", "alice@example.org", "appbind", "=appbind", "cn", "cn=",
	aliceDN + ",svc=imap", aliceDN + ",cn=appbinder", aliceDN + ",sn=appbind", aliceDN + ",cn=#6e6f", aliceDN + ",cn=#zz",
	aliceDN + `\,cn=appbind`, aliceDN + ",cn=appbind,", aliceDN + `,cn=app\zbind`, ",", ";", `\`, `cn=\`, "cn=#", `cn="`,
	"cn=" + strings.Repeat("appbind", 100),
}

func TestSplitContextFindsNone(t *testing.T) {
	t.Parallel()
	for _, dn := range notContexts {
		rest, suffix, uc, found, err := splitContext([]byte(dn))
		if found || err != nil || string(rest) != dn || suffix != nil || uc != (userContext{}) {
			t.Errorf("%q: %q %q %+v %v %v", dn, rest, suffix, uc, found, err)
		}
	}
}

func TestSplitContextRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dn   string
		want error
	}{
		// Recognized, and not spelled as we tell people to.
		{aliceDN + `,svc=imap,cn=\61ppbind`, errContextSpelling},
		{aliceDN + `,svc=imap,cn=app\bind`, errContextSpelling},
		{aliceDN + `,svc=imap,cn="appbind"`, errContextSpelling},
		{aliceDN + `,svc=imap;cn=appbind`, errContextSpelling},
		{aliceDN + `;svc=imap,cn=appbind`, errContextSpelling},
		{aliceDN + `,svc=imap,2.5.4.3=appbind`, errContextSpelling},
		{aliceDN + `,svc=imap,OID.2.5.4.3=appbind`, errContextSpelling},
		{aliceDN + `,svc=imap,commonName=appbind`, errContextSpelling},
		{aliceDN + `,svc=imap,cn=#040761707062696e64`, errContextSpelling},
		{aliceDN + `,svc=imap, cn=appbind`, errContextSpelling},
		{aliceDN + `,svc=imap,cn=appbind `, errContextSpelling},
		{aliceDN + `,svc=imap,cn = appbind`, errContextSpelling},
		{aliceDN + `,svc=imap,cn=appbind+ou=x`, errContextSpelling},
		{aliceDN + `,svc=imap,ou=x+cn=appbind`, errContextSpelling},
		// No name before it.
		{"cn=appbind", errContextAlone},
		{"svc=imap,cn=appbind", errContextAlone},
		{",svc=imap,cn=appbind", errContextAlone},
		{",cn=appbind", errContextAlone},
		// Each once.
		{aliceDN + ",svc=imap,svc=imap,cn=appbind", errContextTwice},
		{aliceDN + ",rip=192.0.2.1,svc=imap,RIP=192.0.2.1,cn=appbind", errContextTwice},
		// Values.
		{aliceDN + ",svc=im ap,cn=appbind", errContextService},
		{aliceDN + ",svc=imap/x,cn=appbind", errContextService},
		{aliceDN + ",svc=" + strings.Repeat("a", 33) + ",cn=appbind", errContextService},
		{aliceDN + ",svc=\u212a,cn=appbind", errContextService}, // the Kelvin sign is k in lower case
		{aliceDN + ",rip=192.0.2,cn=appbind", errContextAddress},
		{aliceDN + ",rip=none,cn=appbind", errContextAddress},
		{aliceDN + ",rip=192.0.2.7/24,cn=appbind", errContextAddress},
		{aliceDN + ",rip=fe80::1%eth0,cn=appbind", errContextAddress},
		{aliceDN + ",lip=localhost,cn=appbind", errContextAddress},
		{aliceDN + `,sid=a\0Ab,cn=appbind`, errContextSession},
		{aliceDN + `,sid=a\7f,cn=appbind`, errContextSession},
		{aliceDN + ",sid=\u00fc,cn=appbind", errContextSession},
		{aliceDN + ",sid=" + strings.Repeat("s", 65) + ",cn=appbind", errContextSession},
		{aliceDN + `,sec=a\20b,cn=appbind`, errContextSecured},
		{aliceDN + ",sec=" + strings.Repeat("s", 33) + ",cn=appbind", errContextSecured},
		{aliceDN + ",svc=imap+rip=192.0.2.1,cn=appbind", errContextValue},
		{aliceDN + `,svc="imap",cn=appbind`, errContextValue},
		{aliceDN + `,svc=#0404696d6170,cn=appbind`, errContextValue},
		{aliceDN + `,svc= imap,cn=appbind`, errContextValue},
		{aliceDN + `,svc=imap ,cn=appbind`, errContextValue},
		{aliceDN + `,svc=im\zap,cn=appbind`, errContextValue},
		{aliceDN + `,sid=<,cn=appbind`, errContextValue},
		{aliceDN + ",sid=a\x00,cn=appbind", errContextValue},
		// saslauthd does not escape commas: the user name is a,svc=imap,rip=10.0.0.1.
		{"uid=a,svc=imap,rip=10.0.0.1,ou=people,dc=example,dc=org,svc=smtp,cn=appbind", errContextUserPart},
		{"uid=a,SID=,ou=people,dc=example,dc=org,cn=appbind", errContextUserPart},
		{"uid=a+lip=::1,dc=org,svc=smtp,cn=appbind", errContextUserPart},
		{"uid=a, sec =x,dc=org,svc=smtp,cn=appbind", errContextUserPart},
		{`uid="a";svc=x;dc=org,svc=smtp,cn=appbind`, errContextUserPart},
		{aliceDN + ",cn=appbind,cn=appbind", errContextUserPart},
		{aliceDN + ",svc=imap,cn=appbind,svc=smtp,cn=appbind", errContextUserPart},
		{aliceDN + `,cn=\61ppbind,svc=smtp,cn=appbind`, errContextUserPart},
		// What stands before it is no name.
		{"uid=a,svc,dc=org,svc=smtp,cn=appbind", errContextUserPart},
		{`uid="a,dc=org,svc=smtp,cn=appbind`, errContextUserPart},
		{"a,svc=smtp,cn=appbind,dc=org,svc=smtp,cn=appbind", errContextUserPart},
	} {
		_, suffix, uc, found, err := splitContext([]byte(c.dn))
		if found || !errors.Is(err, c.want) || suffix != nil || uc != (userContext{}) {
			t.Errorf("%q: found %v, %v, want %v", c.dn, found, err, c.want)
		}
	}
}

func TestSplitContextDoesNotAllocateWithoutOne(t *testing.T) {
	for _, dn := range []string{aliceDN, "cn=appbind,dc=example,dc=org", "alice@example.org", aliceDN + ",cn=other"} {
		b := []byte(dn)
		if n := testing.AllocsPerRun(100, func() { splitContext(b) }); n != 0 {
			t.Errorf("%s: %v allocations", dn, n)
		}
	}
}

func FuzzContext(f *testing.F) {
	for _, dn := range notContexts {
		f.Add([]byte(dn))
	}
	f.Add([]byte(aliceDN + `,svc=imap,rip=2001\3adb8::1,lip=::ffff:1.2.3.4,sid=\2b,sec=TLS,cn=appbind`))
	f.Add([]byte(`uid=a\,svc=x,rip=,cn="appbind"`))
	f.Add([]byte(`a+cn=\61ppbind;cn=#040761707062696e64,CN=APPBIND`))
	f.Fuzz(func(t *testing.T, dn []byte) {
		rest, suffix, uc, found, err := splitContext(dn)
		if !found {
			if suffix != nil || uc != (userContext{}) || !bytes.Equal(rest, dn) {
				t.Fatalf("%q: not found, and split into %q %q %+v", dn, rest, suffix, uc)
			}
			return
		}
		if err != nil {
			t.Fatalf("%q: found, and %v", dn, err)
		}
		if joined := string(rest) + "," + string(suffix); joined != string(dn) {
			t.Fatalf("%q: joins to %q", dn, joined)
		}
		if _, _, _, again, err := splitContext(rest); again || err != nil || len(rest) == 0 {
			t.Fatalf("%q: the name %q has a context", dn, rest)
		}
		if !printable(uc.Service+uc.Session+uc.Secured) || uc.Addr.Is4In6() || uc.Local.Is4In6() || uc.Addr.Zone()+uc.Local.Zone() != "" {
			t.Fatalf("%q: %+v", dn, uc)
		}
		if parsed, err := wire.ParseDN(string(rest)); err == nil {
			for _, rdn := range parsed {
				for _, a := range rdn {
					if contextType(a.Type) >= 0 {
						t.Fatalf("%q: the name has %s", dn, a.Type)
					}
				}
			}
		}
		// The suffix alone, behind another name, says the same.
		_, _, again, found, err := splitContext([]byte("uid=x," + string(suffix)))
		if !found || err != nil || again != uc {
			t.Fatalf("%q behind another name: %v %v %+v", suffix, found, err, again)
		}
	})
}

// compile encodes a filter of RFC 4515.
func compile(t testing.TB, filter string) []byte {
	t.Helper()
	p, err := ldap.CompileFilter(filter)
	if err != nil {
		t.Fatalf("%s: %v", filter, err)
	}
	return p.Bytes()
}

func TestStripFilterContext(t *testing.T) {
	t.Parallel()
	const ctx = ",svc=imap,rip=192.0.2.7,cn=appbind"
	for _, c := range []struct{ filter, want string }{
		{"(member=" + aliceDN + ctx + ")", "(member=" + aliceDN + ")"},
		{"(&(objectClass=groupOfNames)(|(member=" + aliceDN + ctx + ")(!(uniqueMember=" + aliceDN + ctx + "))))",
			"(&(objectClass=groupOfNames)(|(member=" + aliceDN + ")(!(uniqueMember=" + aliceDN + "))))"},
		{"(member:1.2.840.113556.1.4.1941:=" + aliceDN + ctx + ")", "(member:1.2.840.113556.1.4.1941:=" + aliceDN + ")"},
		{"(member:dn:distinguishedNameMatch:=" + aliceDN + ctx + ")", "(member:dn:distinguishedNameMatch:=" + aliceDN + ")"},
		// No context, or none of the strict shape, or not a place for a DN: as it is.
		{"(member=" + aliceDN + ")", ""},
		{"(cn=appbind)", ""},
		{"(seeAlso=cn=appbind)", ""},
		{"(member=" + aliceDN + ",svc=imap,svc=imap,cn=appbind)", ""},
		{"(description=*x,svc=imap,cn=appbind)", ""},
		{"(member>=" + aliceDN + ctx + ")", ""},
		{"(objectClass=*)", ""},
	} {
		prefix := []byte("prefix")
		out, changed, err := stripFilterContext(prefix, compile(t, c.filter))
		want := prefix
		if c.want != "" {
			want = append(bytes.Clone(prefix), compile(t, c.want)...)
		}
		if err != nil || changed != (c.want != "") || !bytes.Equal(out, want) {
			t.Errorf("%s: %q %v %v, want %q", c.filter, out, changed, err, want)
		}
	}
}

func TestStripFilterContextRefusesMalformed(t *testing.T) {
	t.Parallel()
	good := compile(t, "(&(member="+aliceDN+",cn=appbind)(cn=x))")
	for i := range good {
		if _, _, err := stripFilterContext(nil, good[:i]); err == nil {
			t.Errorf("%d of %d octets: no error", i, len(good))
		}
	}
	deep := compile(t, "(cn=x)")
	for range wire.MaxNesting + 10 {
		deep = wire.AppendElement(nil, filterNot, deep)
	}
	if _, _, err := stripFilterContext(nil, deep); err == nil {
		t.Error("nested too deep: no error")
	}
}
