package auth

import (
	"os"
	"strings"
	"testing"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"
)

// TestAccounts runs testdata/accounts.tsv, which lists the deliberate differences from Stalwart.
func TestAccounts(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("testdata/accounts.tsv")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(file)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		n++
		fields := strings.Split(line, "\t")
		if len(fields) != 5 {
			t.Fatalf("%d fields: %s", len(fields), line)
		}
		runAccount(t, fields[0], fields[1], fields[2], fields[3], fields[4])
	}
	if n != 30 {
		t.Errorf("%d rows", n)
	}
}

func runAccount(t *testing.T, values, presented, stalwart, want, note string) {
	s := newSite(t, nil)
	code8, err := totp.GenerateCodeCustom(totpSecret, s.clock.now(), totp.ValidateOpts{Period: 30, Digits: otp.DigitsEight})
	if err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("<H:apppw>", ssha("apppw"), "<TOTP>", totpValue, "<TOTP8>", totpValue+"&digits=8",
		"<TOTP2>", strings.Replace(totpValue, totpSecret, "KRSXG5CTMVRXEZLUKRSXG5CTMVRXEZLU", 1),
		"<6>", s.code(t), "<8>", code8, "<0>", s.wrongCode(t))
	var stored, passwords []string
	for _, v := range strings.Split(values, " || ") {
		if v = fill.Replace(v); looksStored([]byte(v)) {
			stored = append(stored, v)
		} else {
			passwords = append(passwords, v)
		}
	}
	s.user("alice", "", stored...)
	s.answer = func(_, password string) *Answer {
		for _, p := range passwords {
			if p == password {
				return &Answer{}
			}
		}
		return &Answer{Code: 49}
	}
	d := s.bind("alice", fill.Replace(presented))
	if (d.Kind == Accepted) != (want == "true") || d.Kind == Busy || d.Kind == Unavailable {
		t.Errorf("%s: %s with %q: row %d, kind %d, %q", note, values, presented, d.Row, d.Kind, d.Reason)
	}
	same := (stalwart == "true") == (want == "true") && stalwart != "error"
	if different := strings.HasPrefix(note, "DIFFERENT"); different == same && !strings.HasPrefix(note, "a directory with two") {
		t.Errorf("%s: %s for Stalwart, %s here", note, stalwart, want)
	}
	// The clock stands still: what was accepted with a code is not accepted again with it.
	if again := s.bind("alice", fill.Replace(presented)); d.Kind == Accepted && strings.Contains(presented, "$<") && again.Kind == Accepted {
		t.Errorf("%s: twice with one code", note)
	}
}
