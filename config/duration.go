package config

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration that is written with the units of time.ParseDuration, and with y, mo, w and d.
type Duration time.Duration

const day = 24 * time.Hour

// longUnits are those that time.ParseDuration does not have, in the order in which they are written. A month and a
// year are numbers of days: the same lifetime, whenever it begins.
var longUnits = []struct {
	unit string
	is   time.Duration
}{{"y", 365 * day}, {"mo", 30 * day}, {"w", 7 * day}, {"d", day}}

// errDuration is a fixed text, as all reasons are.
var errDuration = errors.New("must be a duration such as 10s, 15m, 24h or 365d")

// ParseDuration reads 90s, 1h30m, 1y, 6mo, 2w, 365d or 1d12h: whole numbers of
// years (365 days), months (30), weeks and days in this order, each once at most,
// and then what time.ParseDuration takes. Negative durations are errors.
func ParseDuration(text string) (Duration, error) {
	var sum time.Duration
	rest := text
	for _, u := range longUnits {
		number, after, found := strings.Cut(rest, u.unit)
		if !found {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil || time.Duration(n) > (1<<63-1-sum)/u.is {
			return 0, errDuration
		}
		sum += time.Duration(n) * u.is
		rest = after
	}
	if rest == "" && text != "" {
		return Duration(sum), nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || sum+d < 0 || strings.ContainsAny(rest, "+-") {
		return 0, errDuration
	}
	return Duration(sum + d), nil
}

// String writes the duration as a person would: 15m, not 15m0s; whole days with d.
func (d Duration) String() string {
	t := time.Duration(d)
	if t >= day && t%day == 0 {
		return strconv.FormatInt(int64(t/day), 10) + "d"
	}
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
