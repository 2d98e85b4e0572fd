package config

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestWebhookKey: the key of the signatures is long enough, wherever it comes from, and no mistake shows it.
func TestWebhookKey(t *testing.T) {
	t.Parallel()
	const long = "0123456789abcdef01234567"
	for _, c := range []struct{ secret, mistake string }{
		{long, ""},
		{"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3", ""}, // long
		{"canary-too-short", "must be a key of at least 24 bytes; openssl rand -hex 32 makes one"},
		{"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY", "begins with whsec_, and what follows is not base64"},
		{"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NQ==", "must be a key of at least 24 bytes; openssl rand -hex 32 makes one"},
	} {
		for _, inline := range []bool{true, false} {
			dir := t.TempDir()
			write(t, dir, "key", c.secret+"\n", 0o600)
			key, value := "webhook.secret", c.secret
			if !inline {
				key, value = "webhook.secret_file", "key"
			}
			file := write(t, dir, "appbind.yaml", minimal+"webhook: {url: 'https://a/', "+strings.TrimPrefix(key, "webhook.")+": '"+value+"'}\n", 0o600)
			cfg, err := Load(file)
			switch {
			case c.mistake == "":
				if err != nil || string(cfg.Webhook.Secret) != c.secret {
					t.Errorf("%s: %v", c.secret, err)
				}
			case err == nil || err.Error() != file+":4: "+key+": "+c.mistake:
				t.Errorf("%s: %v", c.secret, err)
			}
		}
	}
}

// TestWebhookSecretMode: a configuration that holds the key is for one user alone.
func TestWebhookSecretMode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "bind", "x\n", 0o600)
	file := write(t, dir, "appbind.yaml", byFile+"webhook: {url: 'https://a/', secret: 0123456789abcdef01234567}\n", 0o644)
	if _, err := Load(file); err == nil || !strings.Contains(err.Error(), "webhook.secret: stands in a file that is open to group or others") {
		t.Errorf("got %v", err)
	}
}

// TestAuditFile: stdout is a word, any other text a file beside the configuration.
func TestAuditFile(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"stdout": "stdout", "stdouts": "DIR/stdouts", "/var/log/audit": "/var/log/audit", "''": ""} {
		dir := t.TempDir()
		cfg, err := Load(write(t, dir, "appbind.yaml", minimal+"audit: {file: "+text+"}\n", 0o600))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Replace(cfg.Audit.File, filepath.Dir(cfg.File), "DIR", 1); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
