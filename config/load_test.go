package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// minimal is the least that is a configuration.
const minimal = `listeners: [{url: "ldap://127.0.0.1:3389"}]
upstream: {urls: ["ldap://127.0.0.1"], bind_dn: "cn=appbind,dc=example,dc=org", bind_password: secret-canary}
users: {bases: ["ou=people,dc=example,dc=org"]}
`

// mistakesOf parses text, named c.yaml, without looking at files.
func mistakesOf(text string) []string {
	d := newDecoder("c.yaml", "/etc/appbind")
	d.parse([]byte(text))
	var lines []string
	for _, m := range d.mistakes.sorted() {
		lines = append(lines, m.String())
	}
	return lines
}

// write puts a file of the given mode below dir and returns its name.
func write(t testing.TB, dir, name, text string, mode os.FileMode) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestLoadMinimal(t *testing.T) {
	t.Parallel()
	file := write(t, t.TempDir(), "appbind.yaml", minimal, 0o600)
	cfg, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.File = file
	l := DefaultListener()
	l.URL = URL{Scheme: "ldap", Address: "127.0.0.1:3389", Host: "127.0.0.1", text: "ldap://127.0.0.1:3389"}
	want.Listeners = []Listener{l}
	want.Upstream.URLs = []URL{{Scheme: "ldap", Address: "127.0.0.1:389", Host: "127.0.0.1", text: "ldap://127.0.0.1"}}
	want.Upstream.BindDN, want.Upstream.BindPassword = "cn=appbind,dc=example,dc=org", "secret-canary"
	want.Upstream.ManageDN, want.Upstream.ManagePassword = "cn=appbind,dc=example,dc=org", "secret-canary"
	want.Users.Bases = []string{"ou=people,dc=example,dc=org"}
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("got\n%+v\nwant\n%+v", cfg, want)
	}
}

// TestLoadAllKinds reads one value of each kind, in the spellings that people use.
func TestLoadAllKinds(t *testing.T) {
	t.Parallel()
	d := newDecoder("c.yaml", "/etc/appbind")
	cfg := d.parse([]byte(minimal + `
tls: {certificate: tls/cert.pem, key: /run/key.pem}
app_passwords: {default_lifetime: 1d12h, hash_memory: 512}
fallback: {max_failures: 7, by_service: {smtp: deny, imap: allow}}
external:
limits:
own_entry_attributes: [mail]
`[1:]))
	d2 := newDecoder("c.yaml", "/etc/appbind")
	cfg2 := d2.parse([]byte(strings.Replace(minimal, `[{url: "ldap://127.0.0.1:3389"}]`, `
  - url: ldapi://%2Frun%2Fappbind%2Fldapi
    mode: 0600
    proxy_protocol_from: []
  - url: LDAP://[::1]/
    service: imap
    proxy_protocol_from: [192.0.2.0/24, 2001:db8::1, 2001:db8::/32]
`, 1)))
	if got := d.mistakes.Error(); got != "c.yaml:7: external: has no value; write [] for an empty list, or leave the key out for the default" {
		t.Errorf("mistakes: %s", got)
	}
	if len(d2.mistakes) > 0 {
		t.Errorf("mistakes: %s", d2.mistakes)
	}
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"relative file", cfg.TLS.Certificate, "/etc/appbind/tls/cert.pem"},
		{"absolute file", cfg.TLS.Key, "/run/key.pem"},
		{"days", time.Duration(cfg.AppPasswords.DefaultLifetime), 36 * time.Hour},
		{"number", cfg.AppPasswords.HashMemory, 512},
		{"number in a text", cfg.Fallback.MaxFailures, "7"},
		{"map", cfg.Fallback.ByService, map[string]string{"smtp": "deny", "imap": "allow"}},
		{"list instead of the default", cfg.OwnEntryAttributes, []string{"mail"}},
		{"section with nothing in it", cfg.Limits, Default().Limits},
		{"socket", cfg2.Listeners[0].URL.Address, "/run/appbind/ldapi"},
		{"network of a socket", cfg2.Listeners[0].URL.Network(), "unix"},
		{"mode without quotes", cfg2.Listeners[0].Mode, "0600"},
		{"default beside a key", cfg2.Listeners[1].Cleartext, "loopback"},
		{"IPv6", cfg2.Listeners[1].URL.Address, "[::1]:389"},
		{"networks", len(cfg2.Listeners[1].ProxyProtocolFrom), 3},
		{"one address", cfg2.Listeners[1].ProxyProtocolFrom[1].String(), "2001:db8::1/128"},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}
}

// TestWholeFile has what is wrong with the file as such: one clear line each.
func TestWholeFile(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                    "c.yaml:1: the file is empty; config.example.yaml shows what it needs",
		"# nothing\n":                         "c.yaml:1: the file is empty; config.example.yaml shows what it needs",
		"---\n":                               "c.yaml:1: the file is empty; config.example.yaml shows what it needs",
		"log: {}\n---\nlog: {}\n":             "c.yaml:2: a second YAML document begins here; a configuration is one",
		"- log\n":                             "c.yaml:1: must be keys with values (listeners: ...), one a line",
		"log\n":                               "c.yaml:1: must be keys with values (listeners: ...), one a line",
		"log:\n  format: text\n\tlevel: x\n":  "c.yaml:3: a tab in the indentation; YAML takes spaces only",
		"\tlog: 1\n":                          "c.yaml:1: a tab in the indentation; YAML takes spaces only",
		"log:\n  format: \xfftext\n":          "c.yaml:2: is not UTF-8 text",
		"\xff\xfel\x00o\x00g\x00":             "c.yaml:1: is not UTF-8 text",
		"l\x00o\x00g\x00":                     "c.yaml:1: holds a control character",
		"log:\n  format: \x01\n":              "c.yaml:2: holds a control character",
		"log: {level: info\n":                 "c.yaml:1: is not YAML here or a little below: did not find expected ',' or '}'",
		"log:\n  level: a: b\n":               "c.yaml:2: is not YAML here or a little below: mapping values are not allowed in this context",
		"upstream: {bind_password: *hunter}":  "c.yaml:1: is not YAML here or a little below: a value that begins with * needs quotes",
		"upstream:\n  bind_password: @hunter": "c.yaml:2: is not YAML here or a little below: a value that begins with @, % or ` needs quotes",
	} {
		if got := strings.Join(mistakesOf(text), "\n"); got != want {
			t.Errorf("%q:\n got %s\nwant %s", text, got, want)
		}
	}
}

// TestAllAtOnce: everything that is wrong, in the order of the lines, and one error type.
func TestAllAtOnce(t *testing.T) {
	t.Parallel()
	file := write(t, t.TempDir(), "c.yaml", `log: {level: inf}
listeners:
  - url: http://127.0.0.1
    clear_text: allow
  - cleartext: alow
user:
  bases: []
limits: {idle: 15}
limits: {idle: 15m}
`, 0o600)
	_, err := Load(file)
	var mistakes Mistakes
	if !errors.As(err, &mistakes) {
		t.Fatalf("%T: %v", err, err)
	}
	want := strings.ReplaceAll(`F:1: log.level: must be debug, info, warn or error; did you mean info?
F:1: upstream.urls: is required: the directory's servers, such as [ldaps://ldap.example.org] (or upstream.embedded)
F:1: users.bases: is required: the DNs below which users stand, such as ["ou=people,dc=example,dc=org"]
F:3: listeners[0].url: must be ldap://HOST:PORT, ldaps://HOST:PORT or ldapi://PATH
F:4: listeners[0].clear_text: unknown key; did you mean cleartext?
F:5: listeners[1].cleartext: must be loopback, allow or refuse; did you mean allow?
F:5: listeners[1].url: is required: the address to serve, such as ldap://127.0.0.1:3389
F:6: user: unknown key; did you mean users?
F:8: limits.idle: must be a duration such as 10s, 15m, 24h or 365d, from 1s to 30d
F:9: limits: was given on line 8 already`, "F", file)
	if err.Error() != want {
		t.Errorf("got\n%s\nwant\n%s", err, want)
	}
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, want := range map[string]string{
		filepath.Join(dir, "missing"): ": cannot be read: no such file or directory",
		dir:                           ": cannot be read: not a regular file",
		os.DevNull:                    ": cannot be read: not a regular file",
		write(t, dir, "long", strings.Repeat("#", maxFile+1), 0o600): ": is longer than 1048576 bytes; is it the right file?",
		write(t, dir, "full", strings.Repeat("#", maxFile), 0o600):   ":1: the file is empty; config.example.yaml shows what it needs",
	} {
		_, err := Load(name)
		if err == nil || err.Error() != name+want {
			t.Errorf("%v, want %s", err, name+want)
		}
	}
}

// FuzzLoad: no text makes the decoder panic, and what it accepts is complete.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte("listeners: [{url: ldapi://%2Fa, external: 1}]\nexternal: [{uid: 1, dn: 'cn=a'}]\n"))
	f.Add([]byte("fallback: {by_service: {smtp: deny}, max_failures: 3}\nusers: {name_filter: (uid=%s)}\n"))
	f.Add([]byte("a: &a [*a]\n? [x]\n: y\n<<: *a\n"))
	if example, err := os.ReadFile("../config.example.yaml"); err == nil {
		f.Add(example)
		f.Add([]byte(uncommented(string(example))))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d := newDecoder("c.yaml", "/etc/appbind")
		cfg := d.parse(data)
		if (cfg == nil) && len(d.mistakes) == 0 {
			t.Fatal("nothing, and no mistake")
		}
		for _, m := range d.mistakes {
			if m.Line < 1 || m.Reason == "" || strings.ContainsAny(m.String(), "\n\x00") {
				t.Fatalf("%q", m.String())
			}
		}
		if len(d.mistakes) == 0 && (len(cfg.Listeners) == 0 || len(cfg.Users.Bases) == 0 || cfg.Listeners[0].URL.Address == "") {
			t.Fatal("accepted without what is required")
		}
	})
}
