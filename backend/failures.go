package backend

import (
	"strconv"
	"strings"
	"time"

	"appbind/wire"
)

// The attributes in which servers count the failed binds of an entry since the last good one.
const (
	// A value for each failure (draft-behera-ldap-password-policy 5.3.4).
	failPwdTime = iota
	// Active Directory: a count, which starts anew when the last failure is older than the policy's window. Each domain
	// controller has its own; the one that emulates the PDC has all.
	failADCount
	failADLast
	// 389 DS: a count, and when it starts anew.
	fail389Count
	fail389Reset
	// FreeIPA: a count, which starts anew when the last failure is older than the policy's interval.
	failIPACount
	failIPALast
)

var failureAttributes = [...]string{
	failPwdTime:  "pwdFailureTime",
	failADCount:  "badPwdCount",
	failADLast:   "badPasswordTime",
	fail389Count: "passwordRetryCount",
	fail389Reset: "retryCountResetTime",
	failIPACount: "krbLoginFailedCount",
	failIPALast:  "krbLastFailedAuth",
}

// failureValues are the values of failureAttributes of one entry; "" when absent.
type failureValues struct {
	values [len(failureAttributes)]string
	times  wire.Attribute // pwdFailureTime, which has several values
}

// take notes an attribute if it is one of them.
func (f *failureValues) take(a wire.Attribute) {
	for i, name := range failureAttributes {
		switch {
		case len(a.Type) != len(name) || !strings.EqualFold(name, string(a.Type)):
		case i == failPwdTime:
			f.times = a
		default:
			f.values[i] = firstValue(a)
		}
	}
}

// count is how many failures still count: those of an entry that shows no time do. interval is the policy's; 0: they are never forgotten.
func (f *failureValues) count(interval time.Duration, now time.Time) int {
	n := 0
	_ = wire.EachString(f.times.Values, func(v []byte) bool { // checked by ValidateResponse
		if t, err := generalizedTime(string(v)); err != nil || recent(t, interval, now) {
			n++
		}
		return true
	})
	// The count comes first: an attribute that is absent costs no error.
	if c := counter(f.values[failADCount]); c > n {
		if at, ok := number(f.values[failADLast]); !ok || recent(fileTime(at), interval, now) {
			n = c
		}
	}
	if c := counter(f.values[fail389Count]); c > n {
		if t, err := generalizedTime(f.values[fail389Reset]); err != nil || t.After(now) {
			n = c
		}
	}
	if c := counter(f.values[failIPACount]); c > n {
		if t, err := generalizedTime(f.values[failIPALast]); err != nil || recent(t, interval, now) {
			n = c
		}
	}
	return n
}

// recent reports whether a failure of that time is not forgotten yet.
func recent(t time.Time, interval time.Duration, now time.Time) bool {
	return interval <= 0 || now.Sub(t) < interval
}

// counter reads a count; 0 for what is none.
func counter(text string) int {
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}

// fileTime reads a time of Active Directory: units of 100 ns since 1601 (MS-DTYP 2.3.3).
func fileTime(n int64) time.Time {
	const toUnix = 11644473600 // seconds from 1601 to 1970
	return time.Unix(n/1e7-toUnix, n%1e7*100)
}

// isFailure reports whether a name, in lower case, is one of failureAttributes.
func isFailure(name string) bool {
	for _, f := range failureAttributes {
		if strings.EqualFold(f, name) {
			return true
		}
	}
	return false
}
