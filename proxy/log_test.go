package proxy

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"appbind/auth"
	"appbind/config"
	"appbind/secrets"
	"appbind/wire"
)

// lineConn is a connection that only logs.
func lineConn(h slog.Handler) *conn {
	s := New(Core{}, slog.New(h))
	lc := config.DefaultListener()
	lc.URL = config.URL{Scheme: "ldap", Address: "127.0.0.1:389"}
	return &conn{srv: s, lis: newListener(s, lc, nil), peer: netip.MustParseAddr("192.0.2.1")}
}

// keys are the attributes of a text line, in order.
func keys(line string) string {
	var list []string
	for _, m := range regexp.MustCompile(`(?:^| )([a-z]+)=(?:"(?:[^"\\]|\\.)*"|[^ ]*)`).FindAllStringSubmatch(line, -1) {
		list = append(list, m[1])
	}
	return strings.Join(list, " ")
}

func TestBindLine(t *testing.T) {
	app := secrets.Parse([]byte(phoneValue()))
	for _, tc := range []struct {
		name     string
		bind     auth.Bind
		decision auth.Decision
		keys     string
		has      []string
	}{
		{"app password", auth.Bind{Name: "alice", Client: auth.Client{Service: "imap", Addr: netip.MustParseAddr("192.0.2.7"), Session: "s1"}},
			auth.Decision{Row: 10, Kind: auth.Accepted, Reason: "app password", DN: aliceUser, App: app},
			"outcome row reason client service user label id peer listener session upstream duration",
			[]string{"outcome=accepted row=10 ", "client=192.0.2.7 service=imap ", "label=phone "}},
		{"denied", auth.Bind{Name: "alice"}, auth.Decision{Row: 6, Kind: auth.InvalidCredentials, Reason: "no such user"},
			"outcome row reason service user peer listener session upstream duration", []string{"level=INFO", "outcome=denied row=6 ", "user=alice "}},
		{"failed", auth.Bind{Name: "alice"}, auth.Decision{Row: 5, Kind: auth.Unavailable, Err: &serviceBindError{49}},
			"outcome row reason service user peer listener session upstream duration err", []string{"level=WARN", "outcome=failed", "result 49"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var buf bytes.Buffer
			c := lineConn(slog.NewTextHandler(&buf, nil))
			c.logBind(&tc.bind, &tc.decision, &upstreamBinder{}, false, time.Now(), time.Millisecond)
			line := buf.String()
			if got := keys(line); got != "time level msg "+tc.keys {
				t.Errorf("keys %q", got)
			}
			for _, want := range tc.has {
				if !strings.Contains(line, want) {
					t.Errorf("no %q in %s", want, line)
				}
			}
		})
	}
}

// TestLogInjection: whatever the name is, one bind is one line, and no attribute is made up.
func TestLogInjection(t *testing.T) {
	for _, name := range []string{
		"a\nmsg=bind outcome=accepted", "a\r\nb", "a\x1b[2Jb", "a\x00b", `a" outcome="accepted`, "a outcome=accepted",
		"a\u2028b\u0085c", "\xff\xfe", strings.Repeat("x", 300<<10), strings.Repeat("ü", 300<<10),
	} {
		for _, format := range []string{"text", "json"} {
			var buf bytes.Buffer
			var h slog.Handler = slog.NewTextHandler(&buf, nil)
			if format == "json" {
				h = slog.NewJSONHandler(&buf, nil)
			}
			c := lineConn(h)
			c.logBind(&auth.Bind{Name: name}, &auth.Decision{Kind: auth.InvalidCredentials}, &upstreamBinder{}, false, time.Now(), 0)
			out := buf.String()
			if strings.Count(out, "\n") != 1 || strings.ContainsFunc(out[:len(out)-1], func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("%s of %.20q: %.200q", format, name, out)
			}
			if len(out) > 4096 {
				t.Errorf("%s: a line of %d bytes", format, len(out))
			}
			if format == "json" {
				var fields map[string]any
				if err := json.Unmarshal(buf.Bytes(), &fields); err != nil || fields["outcome"] != "denied" {
					t.Errorf("%v, %v", err, fields)
				}
			} else if got := keys(out); strings.Count(got, "outcome") != 1 {
				t.Errorf("keys %q", got)
			}
		}
	}
}

// TestNoPasswordInTheLog: at the most talkative level, whatever becomes of the bind.
func TestNoPasswordInTheLog(t *testing.T) {
	const canary = "canary-7Jq2-password"
	r := newRig(t)
	for _, dn := range []string{aliceUser, serviceDN, "nobody", "uid=nobody,ou=people,dc=example,dc=org", aliceUser + ",svc=imap,cn=appbind"} {
		r.dial().bind(1, dn, canary, wire.ResultInvalidCredentials)
	}
	c := r.dial()
	c.write(saslBind(1, "PLAIN", "\x00alice\x00"+canary))
	c.want(1, wire.OpBindResponse, wire.ResultAuthMethodNotSupported)
	r.up.Pause()
	r.dial().bind(1, aliceUser, canary, wire.ResultUnavailable)
	for _, secret := range []string{canary, "reader-password", "$app$", "SSHA256"} {
		if strings.Contains(r.log.String(), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
	if n := strings.Count(r.log.String(), "msg=bind "); n != 7 {
		t.Errorf("%d lines for 7 binds", n)
	}
}
