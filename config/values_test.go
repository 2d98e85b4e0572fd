package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, network, address, host string
		loopback                     bool
		err                          error
	}{
		{text: "ldap://127.0.0.1:3389", network: "tcp", address: "127.0.0.1:3389", host: "127.0.0.1", loopback: true},
		{text: "LDAP://ldap.example.org", network: "tcp", address: "ldap.example.org:389", host: "ldap.example.org"},
		{text: "ldaps://ldap.example.org.", network: "tcp", address: "ldap.example.org.:636", host: "ldap.example.org."},
		{text: "ldaps://[2001:db8::1]:6636/", network: "tcp", address: "[2001:db8::1]:6636", host: "2001:db8::1"},
		{text: "ldap://[::1]", network: "tcp", address: "[::1]:389", host: "::1", loopback: true},
		{text: "ldap://127.9.9.9", network: "tcp", address: "127.9.9.9:389", host: "127.9.9.9", loopback: true},
		{text: "ldap://[::ffff:127.0.0.1]", network: "tcp", address: "[::ffff:127.0.0.1]:389", host: "::ffff:127.0.0.1", loopback: true},
		{text: "ldap://LocalHost", network: "tcp", address: "LocalHost:389", host: "LocalHost", loopback: true},
		{text: "ldap://localhost.example.org", network: "tcp", address: "localhost.example.org:389", host: "localhost.example.org"},
		{text: "ldap://:389", network: "tcp", address: ":389"},
		{text: "ldap://", network: "tcp", address: ":389"},
		{text: "ldap://a:65535", network: "tcp", address: "a:65535", host: "a"},
		{text: "ldapi://%2Frun%2Fslapd%2Fldapi", network: "unix", address: "/run/slapd/ldapi", loopback: true},
		{text: "ldapi://%2frun%2fa%20b/", network: "unix", address: "/run/a b", loopback: true},
		{text: "ldapi:///run/slapd/ldapi", network: "unix", address: "/run/slapd/ldapi", loopback: true},
		{text: "ldapi://%2F" + strings.Repeat("a", 106), network: "unix", address: "/" + strings.Repeat("a", 106), loopback: true},
		{text: "ldapi://%2F" + strings.Repeat("a", 107), err: errURLSocket},
		{text: "ldapi://", err: errURLSocket},
		{text: "ldapi:///", err: errURLSocket},
		{text: "ldapi://run%2Fldapi", err: errURLSocket},
		{text: "ldapi://%2", err: errURLSocket},
		{text: "ldapi://%2Frun%00", err: errURLSocket},
		{text: "", err: errURLScheme},
		{text: "ldap:a", err: errURLScheme},
		{text: "http://a", err: errURLScheme},
		{text: "127.0.0.1:389", err: errURLScheme},
		{text: "ldap://u:secret@a", err: errURLUser},
		{text: "ldap://a/dc=example", err: errURLRest},
		{text: "ldap://a??sub", err: errURLRest},
		{text: "ldap://a:65536", err: errURLPort},
		{text: "ldap://a:0389", err: errURLPort},
		{text: "ldap://a:", err: errURLPort},
		{text: "ldap://::1", err: errURLHost},
		{text: "ldap://[127.0.0.1]", err: errURLHost},
		{text: "ldap://[::1", err: errURLHost},
		{text: "ldap://a b", err: errURLHost},
		{text: "ldap://-a", err: errURLHost},
		{text: "ldap://a..b", err: errURLHost},
		{text: "ldap://" + strings.Repeat("a", 64), err: errURLHost},
	} {
		u, err := ParseURL(c.text)
		if err != c.err {
			t.Errorf("%s: error %v, want %v", c.text, err, c.err)
			continue
		}
		if err != nil {
			continue
		}
		if u.Network() != c.network || u.Address != c.address || u.Host != c.host || u.Loopback() != c.loopback || u.String() != c.text {
			t.Errorf("%s: %s %q %q %v", c.text, u.Network(), u.Address, u.Host, u.Loopback())
		}
		u.text = ""
		if again, err := ParseURL(u.String()); err != nil || again.Address != u.Address {
			t.Errorf("%s: written as %s: %v", c.text, u, err)
		}
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"0s": 0, "1.5s": 1500 * time.Millisecond, "15m": 15 * time.Minute, "1h30m": 90 * time.Minute,
		"365d": 365 * day, "2d": 48 * time.Hour, "36h": 36 * time.Hour, "1d12h": 36 * time.Hour, "106751d": 106751 * day,
		"1y": 365 * day, "12mo": 360 * day, "2w": 14 * day, "1y1mo1w1d1h1m": 403*day + 61*time.Minute, "1mo1m": 30*day + time.Minute, "0y": 0, "292y": 292 * 365 * day,
	} {
		d, err := ParseDuration(text)
		if err != nil || time.Duration(d) != want {
			t.Errorf("%s: %v, %v", text, d, err)
		}
		if again, err := ParseDuration(d.String()); err != nil || again != d {
			t.Errorf("%s: written as %s", text, d)
		}
		if !strings.ContainsAny(text, "yow") && !strings.Contains(text, "d1") && d.String() != text && text != "1h30m" {
			t.Errorf("%s: written as %s", text, d)
		}
	}
	for _, text := range []string{"", "5", "d", "-1s", "-1d", "1d-1h", "1d+1h", "+1s", "1.5d", "106752d", "106751d24h", "1 d", "99999999999d",
		"y", "mo", "1.5y", "-1y", "1y-1d", "1d1y", "1w1mo", "1y1y", "1Y", "1M", "1month", "12 months", "293y", "292y365d", "0y1", "1yd", "4294967296w"} {
		if d, err := ParseDuration(text); err == nil {
			t.Errorf("%q: %v, want an error", text, d)
		}
	}
}

// TestSecretNeverPrints: no verb, no encoder, alone and in a Config.
func TestSecretNeverPrints(t *testing.T) {
	t.Parallel()
	const canary = "secret-canary"
	cfg := Default()
	cfg.Upstream.BindPassword, cfg.Upstream.ManagePassword = canary, canary
	cfg.External = []External{{Password: canary}}
	var out bytes.Buffer
	for _, value := range []any{Secret(canary), cfg, *cfg, cfg.Upstream, []Secret{canary}, map[string]Secret{"a": canary}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%U", "%#q", "% x"} {
			fmt.Fprintf(&out, verb, value)
		}
		fmt.Fprintln(&out, value, fmt.Errorf("error: %v", value))
		for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(handler).Info("x", "value", value, slog.Group("g", "inner", value))
		}
		text, err := yaml.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(text)
		if text, err = json.Marshal(value); err != nil {
			t.Fatal(err)
		}
		out.Write(text)
	}
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), fmt.Sprintf("% x", canary)} {
		if strings.Contains(out.String(), form) {
			t.Errorf("printed as %s", form)
		}
	}
	if !strings.Contains(out.String(), hidden) {
		t.Error("nothing was printed at all")
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	words := []string{"cleartext", "anonymous", "url", "mode"}
	for word, want := range map[string]string{
		"clear_text": "cleartext", "cleartxet": "cleartext", "urls": "url", "Mode": "mode", "anonimous": "anonymous",
		"ca": "", "x": "", "": "", "service": "", "clearly": "",
	} {
		if got := nearest(word, words); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abc", "abd", 1}, {"abc", "xabc", 1}, {"ab", "ba", 1}, {"kitten", "sitting", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%s %s: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
