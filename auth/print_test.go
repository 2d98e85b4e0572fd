package auth

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"appbind/secrets"
)

// TestNothingPrints: neither a password nor what an entry stores comes out of fmt, slog or json.
func TestNothingPrints(t *testing.T) {
	t.Parallel()
	const canary = "hunter2"
	b := request("alice", canary)
	b.External = &ServiceLogin{DN: "cn=x", Password: Password(canary)}
	e := &Entry{DN: aliceDN, Values: [][]byte{[]byte(canary)}}
	d := Decision{Entry: e, App: secrets.Parse([]byte("$app$x$" + canary))}
	things := []any{b, &b, b.Password, *b.External, b.External, e, *e, d, &d}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, thing := range things {
			text := fmt.Sprintf(verb, thing)
			for _, leak := range []string{canary, fmt.Sprintf("%x", canary), "104 117 110", fmt.Sprint([]byte(canary))[1:9]} {
				if strings.Contains(text, leak) {
					t.Errorf("%s of %T: %s", verb, thing, text)
				}
			}
		}
	}
	var log strings.Builder
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		for _, thing := range things {
			slog.New(h).Info("x", "thing", thing)
		}
	}
	for _, thing := range things {
		text, err := json.Marshal(thing)
		if err != nil {
			t.Error(err)
		}
		log.Write(text)
	}
	for _, leak := range []string{canary, "aHVudGVyMg"} {
		if strings.Contains(log.String(), leak) {
			t.Errorf("logged: %s", log.String())
		}
	}
	if !strings.Contains(log.String(), hidden) || !strings.Contains(log.String(), aliceDN) {
		t.Error("nothing was logged at all")
	}
}
