package config

import "testing"

// TestMailSecurity: how the server is reached, by its address and mail.tls.
func TestMailSecurity(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ server, tls, want string }{
		{"127.0.0.1:25", "auto", "none"},
		{"[::1]:587", "auto", "none"},
		{"localhost:25", "auto", "none"},
		{"127.0.0.1:465", "auto", "implicit"},
		{"192.0.2.1:25", "auto", "starttls"},
		{"mail.example.org:587", "auto", "starttls"},
		{"localhost.example.org:25", "auto", "starttls"},
		{"127.0.0.1:25", "starttls", "starttls"},
		{"mail.example.org:25", "none", "none"},
		{"mail.example.org:25", "implicit", "implicit"},
	} {
		if got := (&Mail{Server: c.server, TLS: c.tls}).Security(); got != c.want {
			t.Errorf("%s, %s: %s, want %s", c.server, c.tls, got, c.want)
		}
	}
}
