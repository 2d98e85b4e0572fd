package integration

import (
	"sync"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// stalwart speaks LDAP as Stalwart does: a pool of service connections, each
// asked Who am I before it is used again, a new connection for each user's bind, and never an unbind.
type stalwart struct {
	t    testing.TB
	uri  string
	pool *ldap.Conn
}

// stalwartAttributes are what Stalwart up to 0.15 asks for, in its order and with its repetitions.
var stalwartAttributes = []string{"objectClass", "uid", "objectClass", "cn", "description", "pwdChangedTime", "memberOf", "mail", "mailAlias"}

func newStalwart(t testing.TB, uri string) *stalwart {
	t.Helper()
	return &stalwart{t: t, uri: uri, pool: bound(t, uri, mailDN, mailPW)}
}

// reuse takes the connection of the pool.
func (s *stalwart) reuse() *ldap.Conn {
	s.t.Helper()
	if _, err := s.pool.WhoAmI(nil); err != nil {
		s.t.Fatalf("Who am I on the pool's connection: %v", err)
	}
	return s.pool
}

// find is the search for a login name on c.
func (s *stalwart) find(c *ldap.Conn, name string) ([]*ldap.Entry, error) {
	filter := "(&(objectClass=inetOrgPerson)(|(uid=" + ldap.EscapeFilter(name) + ")(mail=" + ldap.EscapeFilter(name) + ")))"
	r, err := search(c, people, filter, stalwartAttributes)
	if err != nil {
		return nil, err
	}
	return r.Entries, nil
}

// bind is a user's bind on a connection of its own, which stays open.
func (s *stalwart) bind(dn, password string) (*ldap.Conn, int) {
	s.t.Helper()
	c := dial(s.t, s.uri)
	return c, codeOf(c.Bind(dn, password))
}

// lookup is a login in lookup mode: found, bound, and the groups read.
func (s *stalwart) lookup(name, password string) int {
	s.t.Helper()
	entries, err := s.find(s.reuse(), name)
	if err != nil || len(entries) != 1 {
		s.t.Fatalf("lookup of %s: %v, %d entries", name, err, len(entries))
	}
	_, code := s.bind(entries[0].DN, password)
	groups, err := s.reuse().Search(ldap.NewSearchRequest("cn=staff,ou=groups,"+suffix, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", []string{"cn"}, nil))
	if err != nil || len(groups.Entries) != 1 {
		s.t.Fatalf("group: %v", err)
	}
	return code
}

// template is a login in template mode: the user's bind, and then the search
// on the same connection, which is made whatever the bind said. It returns the
// bind's code, the search's and the entries.
func (s *stalwart) template(uid, password string) (bind, found int, entries []*ldap.Entry) {
	s.t.Helper()
	s.reuse()
	c, bind := s.bind(userDN(uid), password)
	entries, err := s.find(c, uid)
	return bind, codeOf(err), entries
}

// TestStalwart: logins as Stalwart makes them, with the directory up and down.
func TestStalwart(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{AnonymousRead: true})
	phone, revoked := newPassword(t, "phone"), newPassword(t, "revoked")
	s.addSecret("alice", phone.Value)
	a := startAppbind(t, baseConfig(s, "  - url: ldap://127.0.0.1:0\n  - url: ldap://127.0.0.1:0\n    on_unavailable: disconnect\n", ""))

	passwords := []struct {
		password string
		code     int
	}{{phone.Password, 0}, {"alice-main", 0}, {revoked.Password, 49}, {"wrong", 49}, {phone.Value, 49}}
	for _, uri := range a.urls {
		mail := newStalwart(t, uri)
		for _, test := range passwords {
			if got := mail.lookup("alice@example.org", test.password); got != test.code {
				t.Errorf("lookup mode with %.8q: code %d, want %d", test.password, got, test.code)
			}
			bind, found, entries := mail.template("alice", test.password)
			if bind != test.code {
				t.Errorf("template mode with %.8q: code %d, want %d", test.password, bind, test.code)
			}
			if test.code == 0 {
				if found != 0 || len(entries) != 1 || entries[0].DN != userDN("alice") || entries[0].GetAttributeValue("mail") != "alice@example.org" {
					t.Errorf("template mode with %.8q finds %v, code %d", test.password, entries, found)
				}
			}
		}
	}

	mails := []*stalwart{newStalwart(t, a.urls[0]), newStalwart(t, a.urls[1])}
	s.kill()
	for i, want := range []int{52, -1} {
		for _, password := range []string{phone.Password, "alice-main", "wrong"} {
			if _, got := mails[i].bind(userDN("alice"), password); got != want {
				t.Errorf("directory down, listener %d: code %d, want %d (-1: closed)", i, got, want)
			}
		}
	}
	s.run()
	eventually(t, "logins work again", func() bool { return bindOnce(a.urls[1], userDN("alice"), phone.Password) == 0 })
	mail := newStalwart(t, a.urls[1])
	if got := mail.lookup("alice", phone.Password); got != 0 {
		t.Errorf("after the outage: code %d", got)
	}
}

// TestStalwartPool: ten connections of the pool and logins over all of them at once.
func TestStalwartPool(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	a := startAppbind(t, baseConfig(s, "", ""))
	var wg sync.WaitGroup
	for range 10 {
		mail := newStalwart(t, a.uri())
		wg.Go(func() {
			for i := range 20 {
				password := []string{phone.Password, "alice-main"}[i%2]
				entries, err := mail.find(mail.pool, "alice")
				if err != nil || len(entries) != 1 {
					t.Errorf("search: %v, %d entries", err, len(entries))
					return
				}
				if got := bindOnce(a.uri(), entries[0].DN, password); got != 0 {
					t.Errorf("bind: code %d", got)
				}
				if _, err := mail.pool.WhoAmI(nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
