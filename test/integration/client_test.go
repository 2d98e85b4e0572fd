package integration

import (
	"errors"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// dial connects a client that is closed with the test.
func dial(t testing.TB, uri string) *ldap.Conn {
	t.Helper()
	c, err := ldap.DialURL(uri)
	if err != nil {
		t.Fatal(err)
	}
	c.SetTimeout(patience)
	t.Cleanup(func() { c.Close() })
	return c
}

// simpleBind is one bind on a connection of its own, with whatever name and
// password, which the command line tools would refuse to send.
func simpleBind(t testing.TB, uri, name, password string) int {
	t.Helper()
	c := dial(t, uri)
	defer c.Close()
	_, err := c.SimpleBind(&ldap.SimpleBindRequest{Username: name, Password: password, AllowEmptyPassword: true})
	return code(t, err)
}

// code is the LDAP result code of an error; an error that is none fails the test.
func code(t testing.TB, err error) int {
	t.Helper()
	if err == nil {
		return 0
	}
	var e *ldap.Error
	if !errors.As(err, &e) || e.ResultCode >= ldap.ErrorNetwork {
		t.Errorf("no result code: %v", err)
		return -1
	}
	return int(e.ResultCode)
}

// codeOf is the LDAP result code of an error, or -1 when the connection failed.
func codeOf(err error) int {
	var e *ldap.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e) && e.ResultCode < ldap.ErrorNetwork:
		return int(e.ResultCode)
	}
	return -1
}

// bound is a client bound as dn.
func bound(t testing.TB, uri, dn, password string) *ldap.Conn {
	t.Helper()
	c := dial(t, uri)
	if err := c.Bind(dn, password); err != nil {
		t.Fatalf("bind as %s: %v", dn, err)
	}
	return c
}

// search is a subtree search below base.
func search(c *ldap.Conn, base, filter string, attributes []string, controls ...ldap.Control) (*ldap.SearchResult, error) {
	return c.Search(ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, filter, attributes, controls))
}
