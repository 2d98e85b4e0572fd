package config

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration that is written with the units of time.ParseDuration and d (24 hours).
type Duration time.Duration

const day = 24 * time.Hour

// errDuration is a fixed text, as all reasons are.
var errDuration = errors.New("must be a duration such as 10s, 15m, 24h or 365d")

// ParseDuration reads 90s, 1h30m, 365d or 1d12h: what time.ParseDuration takes,
// after an optional whole number of days. Negative durations are errors.
func ParseDuration(text string) (Duration, error) {
	var days time.Duration
	before, rest, found := strings.Cut(text, "d")
	if found {
		n, err := strconv.ParseUint(before, 10, 32)
		if err != nil || time.Duration(n) > (1<<63-1)/day {
			return 0, errDuration
		}
		days = time.Duration(n) * day
		text = rest
	}
	if found && rest == "" {
		return Duration(days), nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || days+d < 0 || strings.ContainsAny(text, "+-") {
		return 0, errDuration
	}
	return Duration(days + d), nil
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
