package integration

import "testing"

// TestReloadOften: one SIGHUP after the other under load. What began with the
// earlier configuration is answered all the same.
func TestReloadOften(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	config := baseConfig(s, "", "")
	a := startAppbind(t, config)
	l := startLoad(t, 8, a.uri(), phone.Password)
	for range 60 {
		a.hangup(config, reloaded)
	}
	l.stop()
}
