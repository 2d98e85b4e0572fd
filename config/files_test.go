package config

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const byFile = `listeners: [{url: "ldapi://%2Frun%2Fa"}]
upstream: {urls: ["ldap://127.0.0.1"], bind_dn: "cn=appbind,dc=example,dc=org", bind_password_file: bind}
users: {bases: ["ou=people,dc=example,dc=org"]}
`

// TestInlinePasswordMode: a configuration that holds a password is for one user alone.
func TestInlinePasswordMode(t *testing.T) {
	t.Parallel()
	for mode, refused := range map[os.FileMode]bool{
		0o600: false, 0o400: false, 0o700: false, 0o640: true, 0o604: true, 0o644: true, 0o620: true, 0o610: true, 0o601: true,
	} {
		dir := t.TempDir()
		file := write(t, dir, "my config.yaml", minimal, mode)
		_, err := Load(file)
		want := file + ":2: upstream.bind_password: stands in a file that is open to group or others (mode 0" +
			octal(mode) + "); run: chmod 600 '" + file + "' (or use bind_password_file)"
		if refused && (err == nil || err.Error() != want) {
			t.Errorf("%o: got %v\nwant %s", mode, err, want)
		}
		if !refused && err != nil {
			t.Errorf("%o: %v", mode, err)
		}
	}
}

func octal(mode os.FileMode) string {
	return string([]byte{'0' + byte(mode>>6&7), '0' + byte(mode>>3&7), '0' + byte(mode&7)})
}

// TestPasswordFiles: which modes and which contents are taken.
func TestPasswordFiles(t *testing.T) {
	t.Parallel()
	const one = "the file must hold the password alone, on one line (with a Unix line end)"
	for _, c := range []struct {
		name, text string
		mode       os.FileMode
		want       Secret
		mistake    string
	}{
		{"newline", "s3cret\n", 0o600, "s3cret", ""},
		{"no newline", "s3cret", 0o400, "s3cret", ""},
		{"spaces kept", " s3 cret \n", 0o600, " s3 cret ", ""},
		{"longest", strings.Repeat("x", 1024) + "\n", 0o600, Secret(strings.Repeat("x", 1024)), ""},
		{"too long", strings.Repeat("x", 1025) + "\n", 0o600, "", "is longer than 1025 bytes; is it the right file?"},
		{"empty", "", 0o600, "", "the file is empty"},
		{"newline only", "\n", 0o600, "", "the file is empty"},
		{"two lines", "a\nb\n", 0o600, "", one},
		{"two newlines", "a\n\n", 0o600, "", one},
		{"Windows", "a\r\n", 0o600, "", one},
		{"NUL", "a\x00b\n", 0o600, "", one},
		{"group", "s3cret\n", 0o640, "", "is open to group or others (mode 0640); run: chmod 600 DIR/bind"},
		{"others", "s3cret\n", 0o604, "", "is open to group or others (mode 0604); run: chmod 600 DIR/bind"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, dir, "bind", c.text, c.mode)
			// Without a password in it, the configuration itself may be read by all.
			file := write(t, dir, "appbind.yaml", byFile, 0o644)
			cfg, err := Load(file)
			if c.mistake == "" {
				if err != nil || cfg.Upstream.BindPassword != c.want || cfg.Upstream.ManagePassword != c.want {
					t.Errorf("%v", err)
				}
				return
			}
			want := file + ":2: upstream.bind_password_file: " + strings.ReplaceAll(c.mistake, "DIR", dir)
			if err == nil || err.Error() != want {
				t.Errorf("got %v\nwant %s", err, want)
			}
		})
	}
}

// TestNamedFiles: what the configuration names must be there, readable, and private where it is a key.
func TestNamedFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "bind", "s3cret\n", 0o600)
	write(t, dir, "manage", "m4nage\n", 0o600)
	write(t, dir, "dovecot", "d0vecot\n", 0o600)
	write(t, dir, "public.pem", "x", 0o644)
	write(t, dir, "private.pem", "x", 0o600)
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := strings.Replace(byFile, "bind_password_file: bind", "bind_password_file: hunter2", 1)
	for _, c := range []struct{ text, want string }{
		{byFile + "tls: {certificate: public.pem, key: private.pem, client_ca: public.pem}\n", ""},
		{byFile + "tls: {certificate: public.pem, key: public.pem}\n",
			"F:4: tls.key: is open to group or others (mode 0644); run: chmod 600 " + dir + "/public.pem"},
		{byFile + "tls:\n  certificate: none.pem\n  key: " + dir + "/none.key\n",
			"F:5: tls.certificate: there is no such file; relative names start in " + dir +
				"\nF:6: tls.key: there is no such file; relative names start in " + dir},
		{byFile + "tls: {certificate: ., key: private.pem}\n", "F:4: tls.certificate: cannot be read: not a regular file"},
		{byFile + "tls: {certificate: fifo, key: private.pem}\n", "F:4: tls.certificate: cannot be read: not a regular file"},
		// The name may be the password itself, so it is not repeated.
		{bad, "F:2: upstream.bind_password_file: there is no such file; relative names start in " + dir},
		// A contradiction and a file are told in one go.
		{bad + "limits: {idle: 1}\n", "F:2: upstream.bind_password_file: there is no such file; relative names start in " + dir +
			"\nF:4: limits.idle: must be a duration such as 10s, 15m, 24h or 365d, from 1s to 30d"},
	} {
		file := write(t, dir, "c.yaml", c.text, 0o600)
		_, err := Load(file)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if want := strings.ReplaceAll(c.want, "F:", file+":"); got != want {
			t.Errorf("%s\n got %s\nwant %s", c.text, got, want)
		}
	}
}

// TestResolvedPasswords: each identity gets its own.
func TestResolvedPasswords(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "bind", "s3cret\n", 0o600)
	write(t, dir, "manage", "m4nage\n", 0o600)
	write(t, dir, "dovecot", "d0vecot\n", 0o600)
	text := strings.Replace(byFile, "bind_password_file: bind", "bind_password_file: bind, manage_dn: cn=m, manage_password_file: manage", 1) +
		"service_accounts: [cn=dovecot]\nexternal: [{uid: 107, dn: cn=dovecot, password_file: dovecot}]\n"
	cfg, err := Load(write(t, dir, "c.yaml", text, 0o644))
	if err != nil {
		t.Fatal(err)
	}
	u := cfg.Upstream
	if u.BindPassword != "s3cret" || u.ManagePassword != "m4nage" || u.ManageDN != "cn=m" || cfg.External[0].Password != "d0vecot" || *cfg.External[0].UID != 107 {
		t.Errorf("bind %q, manage %q as %s, external %q", string(u.BindPassword), string(u.ManagePassword), u.ManageDN, string(cfg.External[0].Password))
	}
}
