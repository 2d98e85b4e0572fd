package integration

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// bcryptOf is a bcrypt hash.
func bcryptOf(t testing.TB, password string, cost int) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

// alien is a bcrypt hash that fits nothing, made without the work of one.
func alien(t testing.TB, cost int) string {
	t.Helper()
	random := make([]byte, 40)
	if _, err := rand.Read(random); err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("+", ".", "=", ".").Replace(base64.StdEncoding.EncodeToString(random))
	// The last characters of salt and digest have few bits.
	return fmt.Sprintf("$2b$%02d$%su%su", cost, text[:21], text[21:51])
}

// TestUnusableValues: a value that cannot be used takes nothing from the others
// of the entry, is logged once, and what stands in it in clear is no password.
func TestUnusableValues(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone, tablet := newPassword(t, "phone"), newPassword(t, "tablet", "--algorithm", "argon2id")
	good := bcryptOf(t, "chosen by a person", 4)
	values := []struct{ label, value, password string }{
		{"date", "$app$date;exp=tomorrow$" + good, "chosen by a person"},
		{"net", "$app$net;net=somewhere$" + good, "chosen by a person"},
		{"word", "$app$word;later=1$" + good, "chosen by a person"},
		{"short", "$app$short$" + good[:len(good)-1], "chosen by a person"},
		{"cost", "$app$cost$$2b$20" + alien(t, 10)[6:], "cost"},
		{"memory", "$app$memory$$argon2id$v=19$m=4194304,t=3,p=1$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b4dWRWJTmaaJObGRdescudvJCs", "memory"},
		{"time", "$app$time$$argon2id$v=19$m=65536,t=100000,p=1$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b4dWRWJTmaaJObGRdescudvJCs", "time"},
		{"rounds", "$app$rounds$$6$rounds=999999999$saltsalt$" + strings.Repeat("a", 86), "rounds"},
		{"pbkdf", "$app$pbkdf$$pbkdf2-sha256$i=99999999,l=32$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b4dWRWJTmaaJObGRdescudvJCs", "pbkdf"},
		{"scheme", "$app$scheme${WHIRLPOOL}AAAA", "AAAA"},
		{"clear", "$app$clear$canary-in-clear", "canary-in-clear"},
		{"plain", "$app$plain${PLAIN}canary-plain", "canary-plain"},
		{"braces", "$app$braces${CLEAR}canary-braces", "canary-braces"},
		{"empty", "$app$empty$", "empty"},
		{"", "$app$canary-without-hash", "canary-without-hash"},
	}
	for _, v := range values {
		s.addSecret("alice", v.value)
	}
	s.addSecret("alice", "{SSHA}canaryforeign")
	for _, value := range []string{phone.Value, tablet.Value, "$app$old$" + good} {
		s.addSecret("alice", value)
	}
	a := startAppbind(t, baseConfig(s, "", ""))
	for range 3 {
		for _, password := range []string{phone.Password, tablet.Password, "chosen by a person", "alice-main"} {
			expectBind(t, a.uri(), userDN("alice"), password, 0)
		}
	}
	before := s.bindsOf(userDN("alice"))
	stored := []string{"{SSHA}canaryforeign"}
	for i, v := range values {
		stored = append(stored, v.value)
		if v.password != "chosen by a person" && i%2 == 0 { // ten guesses a minute are looked at
			expectBind(t, a.uri(), userDN("alice"), v.password, 49)
		}
	}
	forwarded := s.bindsOf(userDN("alice")) - before
	for _, value := range stored {
		expectBind(t, a.uri(), userDN("alice"), value, 49)
	}
	if n := s.bindsOf(userDN("alice")) - before; n != forwarded {
		t.Errorf("%d stored values reach the directory", n-forwarded)
	}
	log := a.output()
	for _, v := range values {
		line := regexp.MustCompile(`msg="unusable value in the secrets attribute" user="` + userDN("alice") + `" label=` + regexp.QuoteMeta(strconv.Quote(v.label)) + ` `)
		if v.label != "" {
			line = regexp.MustCompile(`msg="unusable value in the secrets attribute" user="` + userDN("alice") + `" label=` + v.label + ` `)
		}
		if n := len(line.FindAllString(log, -1)); n != 1 {
			t.Errorf("value %q: %d lines, want one", v.label, n)
		}
	}
	if n := strings.Count(log, "unusable value"); n != len(values) {
		t.Errorf("%d lines on unusable values, want %d", n, len(values))
	}
	canaryFree(t, log, "canary-in-clear", "canary-plain", "canary-braces", "canary-without-hash", "canaryforeign", good[7:])
}
