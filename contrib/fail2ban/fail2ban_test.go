// Package fail2ban_test holds the filter against lines as slog writes them,
// with names in them that try to look like other lines.
package fail2ban_test

import (
	"bytes"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
)

// patterns are the failregex lines of the filter, as fail2ban puts them
// together: %(name)s replaced, and <ADDR> a group that takes addresses.
func patterns(t *testing.T) []*regexp.Regexp {
	t.Helper()
	text, err := os.ReadFile("filter.d/appbind.conf")
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	name := ""
	for line := range strings.Lines(string(text)) {
		switch key, value, found := strings.Cut(line, " = "); {
		case strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "":
			name = ""
		case strings.HasPrefix(line, " "):
			settings[name] += "\n" + strings.TrimSpace(line)
		case found:
			name = key
			settings[name] = strings.TrimSpace(value)
		}
	}
	var all []*regexp.Regexp
	for line := range strings.Lines(settings["failregex"]) {
		line = strings.ReplaceAll(strings.TrimSpace(line), "%(_prefix)s", settings["_prefix"])
		line = strings.ReplaceAll(line, "<ADDR>", `(?P<addr>\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F:]*:[0-9a-fA-F:.]+)`)
		all = append(all, regexp.MustCompile(line))
	}
	if len(all) != 2 {
		t.Fatalf("%d patterns, want 2", len(all))
	}
	return all
}

// banned is the address that the filter takes from a line; "" if none.
func banned(all []*regexp.Regexp, line string) string {
	for _, p := range all {
		if m := p.FindStringSubmatch(line); m != nil {
			return m[p.SubexpIndex("addr")]
		}
	}
	return ""
}

// bindLine are the fields of a bind's line in their order. A client "" is an address that is not known.
func bindLine(log *slog.Logger, outcome, reason, client, service, user string) {
	attributes := []any{"outcome", outcome, "row", 15, "reason", reason}
	if client != "" {
		attributes = append(attributes, "client", client)
	}
	if service != "" {
		attributes = append(attributes, "service", service)
	}
	attributes = append(attributes, "user", user, "listener", "ldap://127.0.0.1:3389", "peer", "127.0.0.1", "duration", "1.2ms")
	log.Info("bind", attributes...)
}

// forms writes with both handlers, with and without what journald puts before, and gives the lines.
func forms(write func(*slog.Logger)) []string {
	var lines []string
	for _, handler := range []func(*bytes.Buffer) slog.Handler{
		func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var b bytes.Buffer
		write(slog.New(handler(&b)))
		// Whatever a name does to the log, fail2ban reads it line by line.
		for line := range strings.Lines(b.String()) {
			line = strings.TrimSuffix(line, "\n")
			lines = append(lines, line, "mail appbind[4711]: "+line)
		}
	}
	return lines
}

func TestFilter(t *testing.T) {
	t.Parallel()
	all := patterns(t)
	for _, c := range []struct{ outcome, reason, client, service, want string }{
		{"denied", "wrong password", "203.0.113.5", "imap", "203.0.113.5"},
		{"denied", "expired", "203.0.113.5", "", "203.0.113.5"},
		{"denied", "wrong password", "2001:db8::5", "imap", "2001:db8::5"},
		{"denied", "wrong password", "", "imap", ""},
		{"accepted", "app password", "203.0.113.5", "imap", ""},
		{"failed", "upstream unavailable", "203.0.113.5", "imap", ""},
	} {
		for _, line := range forms(func(log *slog.Logger) {
			bindLine(log, c.outcome, c.reason, c.client, c.service, "uid=alice,ou=people,dc=example,dc=org")
		}) {
			if got := banned(all, line); got != c.want {
				t.Errorf("%q, want %q: %s", got, c.want, line)
			}
		}
	}
}

// TestHostileNames: no name makes the filter ban an address that is not the
// client's, or hides the client's.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	all := patterns(t)
	const victim = "198.51.100.1"
	for _, name := range []string{
		` client=` + victim,
		`x" client=` + victim + ` y="`,
		`x", "client":"` + victim + `"`,
		`x","client":"` + victim + `"}`,
		`\" client=` + victim,
		"x\nclient=" + victim,
		"x\ntime=2026-11-21T09:00:00.000Z level=INFO msg=bind outcome=denied row=15 reason=expired client=" + victim + " ",
		"x\r\n{\"time\":\"2026-11-21T09:00:00Z\",\"level\":\"INFO\",\"msg\":\"bind\",\"outcome\":\"denied\",\"row\":15,\"reason\":\"expired\",\"client\":\"" + victim + "\"}",
		"x\u2028time= level=INFO msg=bind outcome=denied row=1 reason=a client=" + victim,
		"mail appbind[1]: time= level=INFO msg=bind outcome=denied row=1 reason=a client=" + victim,
		"outcome=denied row=15 reason=expired client=" + victim + " ",
		"\xff\x00\x1b[2K client=" + victim,
		"@400000006752a2f0 Jan 01 2001 00:00:00 client=" + victim,
	} {
		for _, client := range []string{"", "203.0.113.5"} {
			for _, field := range []string{"user", "service"} {
				user, service := name, "imap"
				if field == "service" {
					user, service = "alice", name
				}
				for _, line := range forms(func(log *slog.Logger) { bindLine(log, "denied", "wrong password", client, service, user) }) {
					if got := banned(all, line); got != client {
						t.Errorf("%q, want %q: %s", got, client, line)
					}
				}
				for _, line := range forms(func(log *slog.Logger) { bindLine(log, "accepted", "app password", client, service, user) }) {
					if got := banned(all, line); got != "" {
						t.Errorf("accepted, and %q banned: %s", got, line)
					}
				}
			}
		}
	}
}
