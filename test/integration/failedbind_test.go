package integration

import "testing"

// TestSearchAfterFailedBind: Stalwart before 0.9 takes no notice of the bind's
// code and logs in whoever finds an entry on that connection. Whatever the
// directory shows to everybody, there must be none.
func TestSearchAfterFailedBind(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{AnonymousRead: true})
	phone, revoked := newPassword(t, "phone"), newPassword(t, "revoked")
	s.addSecret("alice", phone.Value)
	a := startAppbind(t, baseConfig(s, "", ""))
	mail := newStalwart(t, a.uri())
	for _, password := range []string{revoked.Password, "wrong", phone.Value} {
		for _, uid := range []string{"alice", "nobody", "carol"} {
			bind, found, entries := mail.template(uid, password)
			if bind != 49 || found != 50 || len(entries) != 0 {
				t.Errorf("%s with %.8q: bind %d, want 49; search %d, want 50; %d entries", uid, password, bind, found, len(entries))
			}
		}
	}
	// After a good bind, a failed one on the same connection takes it all away.
	c := bound(t, a.uri(), userDN("alice"), phone.Password)
	if got := codeOf(c.Bind(userDN("alice"), "wrong")); got != 49 {
		t.Errorf("second bind: code %d", got)
	}
	if entries, err := mail.find(c, "alice"); codeOf(err) != 50 || len(entries) != 0 {
		t.Errorf("search after a failed second bind: %v, %d entries", err, len(entries))
	}
	// Who never tried to bind is anonymous, and sees what the directory shows to everybody.
	if entries, err := mail.find(dial(t, a.uri()), "alice"); err != nil || len(entries) != 1 {
		t.Errorf("anonymous search: %v, %d entries", err, len(entries))
	}
}
