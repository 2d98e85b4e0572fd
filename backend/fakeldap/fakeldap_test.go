package fakeldap

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"appbind/wire"
)

func start(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func dial(t *testing.T, s *Server, opts ...ldap.DialOpt) *ldap.Conn {
	t.Helper()
	c, err := ldap.DialURL(s.Scheme()+"://"+s.Addr(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	c.SetTimeout(5 * time.Second)
	t.Cleanup(func() { c.Close() })
	return c
}

func tree() *Directory {
	d := NewDirectory()
	d.Add("dc=x", "", "objectClass", "domain")
	d.Add("ou=p,dc=x", "", "objectClass", "organizationalUnit")
	d.Add("uid=a,ou=p,dc=x", "apw", "objectClass", "person", "uid", "a", "mail", "a@x", "mail", "b@x")
	d.Add("uid=b,ou=p,dc=x", "", "objectClass", "person", "uid", "b")
	return d
}

func TestDirectory(t *testing.T) {
	s := start(t, Options{Handler: tree().Handle})
	c := dial(t, s)
	for _, b := range []struct {
		dn, password string
		code         uint16
	}{{"uid=a,ou=p,dc=x", "apw", 0}, {"UID=A, OU=p,dc=x", "apw", 0}, {"uid=a,ou=p,dc=x", "no", 49}, {"uid=b,ou=p,dc=x", "x", 49}, {"uid=c,dc=x", "x", 49}} {
		err := c.Bind(b.dn, b.password)
		if b.code == 0 && err != nil || b.code != 0 && !ldap.IsErrorWithCode(err, b.code) {
			t.Errorf("%s %s: %v, want %d", b.dn, b.password, err, b.code)
		}
	}
	if err := c.Bind("uid=a,ou=p,dc=x", "apw"); err != nil {
		t.Fatal(err)
	}
	if w, err := c.WhoAmI(nil); err != nil || w.AuthzID != "dn:uid=a,ou=p,dc=x" {
		t.Errorf("who am I: %v, %v", w, err)
	}
	for _, q := range []struct {
		base   string
		scope  int
		filter string
		want   string
	}{
		{"dc=x", 2, "(objectClass=person)", "uid=a,ou=p,dc=x uid=b,ou=p,dc=x"},
		{"dc=x", 1, "(objectClass=*)", "ou=p,dc=x"},
		{"dc=x", 0, "(objectClass=*)", "dc=x"},
		{"dc=x", 2, "(&(uid=A)(!(mail=c@x)))", "uid=a,ou=p,dc=x"},
		{"dc=x", 2, "(|(mail=b*)(uid=B))", "uid=a,ou=p,dc=x uid=b,ou=p,dc=x"},
		{"dc=x", 2, "(mail=*@*x)", "uid=a,ou=p,dc=x"},
		{"dc=x", 2, "(mail=b*z)", ""},
		{"dc=x", 2, "(uid>=b)", "uid=b,ou=p,dc=x"}, {"dc=x", 2, "(uid<=a)", ""},
	} {
		r, err := c.Search(ldap.NewSearchRequest(q.base, q.scope, 0, 0, 0, false, q.filter, []string{"1.1"}, nil))
		if err != nil {
			t.Errorf("%+v: %v", q, err)
			continue
		}
		var got []string
		for _, e := range r.Entries {
			got = append(got, e.DN)
		}
		if strings.Join(got, " ") != q.want {
			t.Errorf("%+v: %q", q, got)
		}
	}
	r, err := c.Search(ldap.NewSearchRequest("uid=a,ou=p,dc=x", 0, 0, 0, 0, false, "(uid=a)", []string{"mail"}, nil))
	if err != nil || len(r.Entries) != 1 || !slices.Equal(r.Entries[0].GetAttributeValues("mail"), []string{"a@x", "b@x"}) || len(r.Entries[0].Attributes) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := c.Search(ldap.NewSearchRequest("dc=x", 2, 0, 1, 0, false, "(uid=*)", nil, nil)); !ldap.IsErrorWithCode(err, 4) {
		t.Errorf("size limit: %v", err)
	}
	if _, err := c.Search(ldap.NewSearchRequest("dc=y", 0, 0, 0, 0, false, "(uid=*)", nil, nil)); !ldap.IsErrorWithCode(err, 32) {
		t.Errorf("no such base: %v", err)
	}
}

func TestRecords(t *testing.T) {
	s := start(t, Options{Handler: tree().Handle})
	for i := range 3 {
		c := dial(t, s)
		if err := c.Bind("uid=a,ou=p,dc=x", "apw"); err != nil {
			t.Fatal(err)
		}
		if n := len(s.Received(wire.OpBindRequest)); n != i+1 {
			t.Errorf("%d binds recorded, want %d", n, i+1)
		}
	}
	if f := s.Frames(); s.Accepted() != 3 || f[len(f)-1].Conn != 3 {
		t.Errorf("accepted %d", s.Accepted())
	}
}

func TestPauseResume(t *testing.T) {
	s := start(t, Options{Handler: tree().Handle})
	c := dial(t, s)
	if err := c.Bind("uid=a,ou=p,dc=x", "apw"); err != nil {
		t.Fatal(err)
	}
	s.Pause()
	if err := c.Bind("uid=a,ou=p,dc=x", "apw"); err == nil {
		t.Error("a paused server answers")
	}
	if _, err := ldap.DialURL("ldap://" + s.Addr()); err == nil {
		t.Error("a paused server accepts")
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := dial(t, s).Bind("uid=a,ou=p,dc=x", "apw"); err != nil {
		t.Error(err)
	}
}

func TestTLS(t *testing.T) {
	a, err := NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := a.Issue(Leaf{})
	if err != nil {
		t.Fatal(err)
	}
	serverTLS := &tls.Config{Certificates: []tls.Certificate{cert}}
	clientTLS := &tls.Config{RootCAs: a.Pool(), ServerName: "localhost"}
	s := start(t, Options{Handler: tree().Handle, TLS: serverTLS})
	if err := dial(t, s, ldap.DialWithTLSConfig(clientTLS)).Bind("uid=a,ou=p,dc=x", "apw"); err != nil {
		t.Error(err)
	}
	d := tree()
	s = start(t, Options{Handler: func(c *Conn, m wire.Message) {
		if IsStartTLS(m) {
			c.StartTLS(m, serverTLS, nil)
			return
		}
		d.Handle(c, m)
	}})
	c := dial(t, s)
	if err := c.StartTLS(clientTLS); err != nil {
		t.Fatal(err)
	}
	if err := c.Bind("uid=a,ou=p,dc=x", "apw"); err != nil {
		t.Error(err)
	}
	if _, _, err := PEMs(cert); err != nil {
		t.Error(err)
	}
}

func ExampleServer() {
	dir := NewDirectory()
	dir.Add("uid=alice,dc=example,dc=org", "alicepw", "uid", "alice")
	s, err := Start(Options{Handler: func(c *Conn, m wire.Message) {
		if m.Op == wire.OpBindRequest {
			c.Answer(m, wire.ResultBusy)
			return
		}
		dir.Handle(c, m)
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	c, err := ldap.DialURL("ldap://" + s.Addr())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	fmt.Println(ldap.IsErrorWithCode(c.Bind("uid=alice,dc=example,dc=org", "alicepw"), wire.ResultBusy))
	fmt.Println(len(s.Received(wire.OpBindRequest)))
	// Output:
	// true
	// 1
}
