package secrets

import (
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
)

// Bounds of a TOTP secret.
const (
	minTOTPSecret = 16   // bytes: RFC 4226, 4, R6 wants 128 bits
	maxTOTPPeriod = 3600 // seconds; a code is good for three periods
	totpSkew      = 1    // steps before and after the current one
)

// What can be wrong with an otpauth:// value. The parser's own error would quote the secret.
var (
	errOTPURL       = errors.New("not a URL of the form otpauth://totp/LABEL?secret=SECRET")
	errOTPType      = errors.New("only otpauth://totp/ is supported")
	errOTPSecret    = errors.New("the TOTP secret is not base32 without padding of at least 128 bits")
	errOTPDigits    = errors.New("TOTP digits is not 6, 7 or 8")
	errOTPPeriod    = errors.New("TOTP period is not 1 to 3600 seconds")
	errOTPAlgorithm = errors.New("TOTP algorithm is not SHA1, SHA256 or SHA512")
	errOTPEncoder   = errors.New("a TOTP encoder is not supported")
	errOTPIssuer    = errors.New("the issuer of the TOTP label is not the issuer parameter, or contains a colon")
	errOTPTwice     = errors.New("a TOTP parameter stands twice")
)

// totpKey is a usable otpauth:// value.
type totpKey struct {
	secret string // base32
	period int64  // seconds
	opts   hotp.ValidateOpts
}

// parseTOTP reads the URL. The library reads it leniently (what does not parse is the default), so each
// parameter is looked at here first.
func (v *Value) parseTOTP() error {
	if len(v.Raw) > MaxValue {
		return errTooLong
	}
	u, err := url.Parse(v.Raw)
	if err != nil || strings.TrimSpace(v.Raw) != v.Raw {
		return errOTPURL
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return errOTPURL
	}
	if err := checkTOTP(u, query); err != nil {
		return err
	}
	key, err := otp.NewKeyFromURL(v.Raw)
	if err != nil {
		return errOTPURL // unreachable: it is parsed above
	}
	v.totp = &totpKey{
		secret: key.Secret(),
		period: int64(key.Period()),
		opts:   hotp.ValidateOpts{Digits: key.Digits(), Algorithm: key.Algorithm()},
	}
	return nil
}

// checkTOTP applies Stalwart's rules. Parameters that it does not know, such as image, are ignored as there;
// a value is malformed where ignoring would lead to other codes.
func checkTOTP(u *url.URL, query url.Values) error {
	for _, list := range query {
		if len(list) > 1 {
			return errOTPTwice
		}
	}
	switch {
	case u.Host != "totp":
		return errOTPType
	case !isTOTPSecret(query.Get("secret")):
		return errOTPSecret
	case query.Has("digits") && !isOneOf(query.Get("digits"), "6", "7", "8"):
		return errOTPDigits
	case query.Has("period") && !isTOTPPeriod(query.Get("period")):
		return errOTPPeriod
	case query.Has("algorithm") && !isOneOf(strings.ToUpper(query.Get("algorithm")), "SHA1", "SHA256", "SHA512"):
		return errOTPAlgorithm
	case query.Has("encoder"):
		return errOTPEncoder
	}
	label := strings.TrimPrefix(u.Path, "/")
	issuer, account, both := strings.Cut(label, ":")
	param := query.Get("issuer")
	if strings.Contains(account, ":") || strings.Contains(param, ":") || both && param != "" && issuer != param {
		return errOTPIssuer
	}
	return nil
}

func isOneOf(s string, list ...string) bool {
	for _, x := range list {
		if s == x {
			return true
		}
	}
	return false
}

// base32Set are the characters of base32 in either case: authenticator apps show lower case.
var base32Set = setOf("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz234567")

func isTOTPSecret(s string) bool {
	if !isOf(s, base32Set, 1, MaxValue) {
		return false
	}
	bin, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(s))
	return err == nil && len(bin) >= minTOTPSecret
}

func isTOTPPeriod(s string) bool {
	n, ok, _ := decimal(s, maxTOTPPeriod)
	return ok && n > 0
}

// VerifyTOTP reports whether code is the one of now, of the step before or of the one after, and of which
// step it is (RFC 6238, 4: seconds since 1970 over the period). The caller refuses a step that is
// not greater than the last one accepted (RFC 6238, 5.2). It takes the same time for every code of
// the right length. A value that is unusable or no TOTP value has no code.
func (v *Value) VerifyTOTP(code string, now time.Time) (step int64, ok bool) {
	if v.Err != nil || v.totp == nil || len(code) != v.totp.opts.Digits.Length() {
		return 0, false
	}
	current := now.Unix() / v.totp.period
	for s := current - totpSkew; s <= current+totpSkew; s++ {
		if s < 0 {
			continue
		}
		want, err := hotp.GenerateCodeCustom(v.totp.secret, uint64(s), v.totp.opts)
		// Should two steps have the same code, the later one counts: it uses up both.
		if err == nil && subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 {
			step, ok = s, true
		}
	}
	return step, ok
}
