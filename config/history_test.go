package config

import "testing"

// TestHistoryFile: where the history is, by default, in another state_dir, and by its own key.
func TestHistoryFile(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                       "/var/lib/appbind/history.db",
		"state_dir: /srv/appbind":                "/srv/appbind/history.db",
		"state_dir: .":                           "/etc/appbind/history.db",
		"history: {path: h.db}":                  "/etc/appbind/h.db",
		"state_dir: x\nhistory: {path: /y/h.db}": "/y/h.db",
	} {
		d := newDecoder("c.yaml", "/etc/appbind")
		cfg := d.parse([]byte(with(text)))
		if got := cfg.HistoryFile(); got != want || len(d.mistakes) > 0 {
			t.Errorf("%q: %s, want %s; %v", text, got, want, d.mistakes)
		}
	}
}
