package integration

import (
	"fmt"
	"testing"
	"time"

	"appbind/backend/fakeldap"
	"appbind/wire"
)

// TestHangingAtStart: a directory that takes the bind and answers no search, from the beginning. appbind
// becomes ready all the same, and tells its clients 52 in time; and serves when the directory does.
func TestHangingAtStart(t *testing.T) {
	t.Parallel()
	for _, lookup := range []string{"live", "replica"} {
		t.Run(lookup, func(t *testing.T) {
			t.Parallel()
			testHangingAtStart(t, lookup)
		})
	}
}

func testHangingAtStart(t *testing.T, lookup string) {
	dir := fakeldap.NewDirectory()
	dir.Add(userDN("alice"), "alice-main", "objectClass", "inetOrgPerson", "uid", "alice")
	dir.Add(serviceDN, servicePW, "objectClass", "applicationProcess", "cn", "appbind")
	s, err := fakeldap.Start(fakeldap.Options{Handler: func(c *fakeldap.Conn, m wire.Message) {
		if m.Op == wire.OpBindRequest {
			c.Answer(m, 0)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	began := time.Now()
	a := startAppbind(t, fmt.Sprintf(`listeners:
  - url: ldap://127.0.0.1:0
upstream: {urls: ["ldap://%s"], bind_dn: "%s", bind_password: %s, bind_timeout: 1s, connect_timeout: 500ms}
users: {bases: ["%s"], filter: (objectClass=inetOrgPerson), enabled_filter: none}
app_passwords: {lookup: %s}
`, s.Addr(), serviceDN, servicePW, people, lookup))
	// A second or two, and room for a machine that is busy; without a bound it is for ever.
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("ready after %v", took)
	}
	for range 3 {
		asked := time.Now()
		if got := simpleBind(t, a.uri(), userDN("alice"), "alice-main"); got != 52 {
			t.Errorf("code %d, want 52", got)
		}
		if took := time.Since(asked); took > 20*time.Second {
			t.Errorf("answered after %v", took)
		}
	}
	s.SetHandler(dir.Handle)
	eventually(t, "it serves when the directory does", func() bool { return bindOnce(a.uri(), userDN("alice"), "alice-main") == 0 })
}
