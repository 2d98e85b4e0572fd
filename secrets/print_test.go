package secrets

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/netip"
	"testing"
	"time"
)

var (
	timeZero time.Time
	addrNone netip.Addr
)

// logAndJSON is x as a text log, a JSON log and JSON.
func logAndJSON(t *testing.T, x any) string {
	t.Helper()
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("text", "x", x)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "x", x)
	if err := json.NewEncoder(&out).Encode(x); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestString(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ raw, want string }{
		{"$app$a%3B;id=k7m2$" + testHash, `app password "a;"`},
		{"$app$tab\t$" + testHash, `app password "tab\t"`},
		{"otpauth://totp/x?secret=" + rfcSHA1, "TOTP secret"},
		{testHash, "foreign value"},
	} {
		if got := Parse([]byte(c.raw)).String(); got != c.want {
			t.Errorf("String = %s, want %s", got, c.want)
		}
	}
	if got := (Generated{Password: "x", ID: "k7m2"}).String(); got != "generated password k7m2" {
		t.Errorf("String = %s", got)
	}
}
