package portal

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestPlain: names that directories change before they compare them are not believed.
func TestPlain(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"alice": true, "Alice Example": true, "älice@example.org": true, "O'Neill*(x)\\": true, strings.Repeat("a", maxClaim): true,
		strings.Repeat("a", maxClaim+1): false, " alice": false, "alice ": false, "Alice  Example": false, "alice\x00": false, "alice\n": false,
		"alice\u00a0x": false, "al\u00adice": false, "al\u200bice": false, "\ufeffalice": false, "\uff41lice": false, "\u212aelvin": false, "a\u0308lice": false,
		"alice\x7f": false, "\xff": false, "alice\u202eecila": false, "ſam": false,
	} {
		if plain(text) != want {
			t.Errorf("%q: %t", text, !want)
		}
	}
}

func TestSpelled(t *testing.T) {
	t.Parallel()
	values := []string{"alice@example.org", "Ä"}
	for text, want := range map[string]bool{"alice@example.org": true, "ALICE@example.org": true, "ä": true, "alice@example.or": false, "": false, "alice\ufe0f@example.org": false, "a": false} {
		if spelled(values, text) != want {
			t.Errorf("%q: %t", text, !want)
		}
	}
}

// TestClaims: what has another type than it must have counts as absent.
func TestClaims(t *testing.T) {
	t.Parallel()
	c := claims{"text": "x", "number": 5.0, "list": []any{"a", 1, "b"}, "yes": true, "huge": 1e300, "past": -1.0}
	if c.text("number") != "" || c.text("absent") != "" || c.text("text") != "x" || len(c.list("number")) != 0 || strings.Join(c.list("list"), "") != "ab" || c.list("text")[0] != "x" {
		t.Error(c)
	}
	if !c.time("number").Equal(time.Unix(5, 0)) || !c.time("huge").IsZero() || !c.time("past").IsZero() || !c.time("text").IsZero() || !c.time("absent").IsZero() {
		t.Error(c)
	}
	// The word on a mail address counts for the mail address, and no other claim needs one.
	if value, err := (claims{"upn": "alice"}).who("upn"); value != "alice" || err != nil {
		t.Error(value, err)
	}
	for _, verified := range []any{nil, false, "false", "True", 1.0, []any{true}} {
		if value, err := (claims{"email": "a@example.org", "email_verified": verified}).who("email"); value != "" || !errors.Is(err, errClaims) {
			t.Errorf("%v: %q %v", verified, value, err)
		}
	}
}
