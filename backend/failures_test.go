package backend

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"appbind/wire"
)

// TestFailureCount: what each kind of server counts, and when it is forgotten.
func TestFailureCount(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	file := func(at time.Time) string { return fmt.Sprint((at.Unix() + 11644473600) * 1e7) }
	zulu := func(at time.Time) string { return at.Format("20060102150405Z") }
	minute, hour := now.Add(-time.Minute), now.Add(-time.Hour)
	for _, tt := range []struct {
		attributes []string
		interval   time.Duration
		want       int
	}{
		{nil, time.Minute, 0},
		{[]string{"pwdFailureTime " + zulu(minute) + " " + zulu(hour)}, 10 * time.Minute, 1},
		{[]string{"PWDFAILURETIME " + zulu(minute) + " " + zulu(hour) + " odd"}, 0, 3},
		{[]string{"badPwdCount 2", "badPasswordTime " + file(minute)}, 10 * time.Minute, 2},
		{[]string{"badPwdCount 2", "badPasswordTime " + file(hour)}, 10 * time.Minute, 0},
		{[]string{"badPwdCount 2", "badPasswordTime " + file(hour)}, 0, 2},
		{[]string{"badPwdCount 2"}, 10 * time.Minute, 2},
		{[]string{"badPwdCount 0", "badPasswordTime 0"}, 0, 0},
		{[]string{"badPwdCount -1"}, 0, 0},
		{[]string{"passwordRetryCount 2", "retryCountResetTime " + zulu(now.Add(time.Minute))}, 10 * time.Minute, 2},
		{[]string{"passwordRetryCount 2", "retryCountResetTime " + zulu(minute)}, 10 * time.Minute, 0},
		{[]string{"passwordRetryCount 2"}, 10 * time.Minute, 2},
		{[]string{"krbLoginFailedCount 3", "krbLastFailedAuth " + zulu(minute)}, 10 * time.Minute, 3},
		{[]string{"krbLoginFailedCount 3", "krbLastFailedAuth " + zulu(hour)}, 10 * time.Minute, 0},
		{[]string{"krbLoginFailedCount 3", "krbLastFailedAuth " + zulu(hour)}, 0, 3},
		{[]string{"krbLoginFailedCount many"}, 0, 0},
		{[]string{"somethingElse 7"}, 0, 0},
	} {
		var f failureValues
		for _, text := range tt.attributes {
			words := strings.Fields(text)
			f.take(wire.Attribute{Type: []byte(words[0]), Values: wire.AppendStrings(nil, words[1:]...)})
		}
		if got := f.count(tt.interval, now); got != tt.want {
			t.Errorf("%v within %v: %d, want %d", tt.attributes, tt.interval, got, tt.want)
		}
	}
}
