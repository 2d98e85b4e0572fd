package secrets

import (
	"fmt"
	"testing"
	"time"
)

// The secrets of RFC 6238, appendix B, in base32.
const (
	rfcSHA1   = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
	rfcSHA256 = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZA"
	rfcSHA512 = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNA"
)

// TestTOTPVectors has the vectors of RFC 6238, appendix B.
func TestTOTPVectors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		algorithm, secret string
		unix              int64
		code              string
	}{
		{"SHA1", rfcSHA1, 59, "94287082"}, {"SHA256", rfcSHA256, 59, "46119246"}, {"SHA512", rfcSHA512, 59, "90693936"},
		{"SHA1", rfcSHA1, 1111111109, "07081804"}, {"sha256", rfcSHA256, 1111111109, "68084774"}, {"SHA512", rfcSHA512, 1111111109, "25091201"},
		{"SHA1", rfcSHA1, 20000000000, "65353130"}, {"SHA256", rfcSHA256, 20000000000, "77737706"}, {"SHA512", rfcSHA512, 20000000000, "47863826"},
	} {
		v := Parse(fmt.Appendf(nil, "otpauth://totp/x:y?secret=%s&digits=8&period=30&algorithm=%s", c.secret, c.algorithm))
		if v.Kind != TOTP || v.Err != nil {
			t.Fatalf("kind %d, Err %v", v.Kind, v.Err)
		}
		step, ok := v.VerifyTOTP(c.code, time.Unix(c.unix, 0))
		if !ok || step != c.unix/30 {
			t.Errorf("%s at %d: step %d, %v", c.algorithm, c.unix, step, ok)
		}
		if _, ok := v.VerifyTOTP(c.code[2:], time.Unix(c.unix, 0)); ok {
			t.Errorf("%s at %d: six of the eight digits are accepted", c.algorithm, c.unix)
		}
		if v.Verify([]byte(c.code)) || v.Verify([]byte(c.secret)) || v.Verify([]byte(v.Raw)) {
			t.Error("a TOTP value matches as a password")
		}
	}
}

func TestTOTPSkew(t *testing.T) {
	t.Parallel()
	v := Parse([]byte("otpauth://totp/x?secret=" + rfcSHA1 + "&digits=8"))
	const code, step = "94287082", 1 // seconds 30 to 59
	for _, c := range []struct {
		unix int64
		want bool
	}{{0, true}, {29, true}, {30, true}, {59, true}, {60, true}, {89, true}, {90, false}, {-31, false}, {1000, false}} {
		got, ok := v.VerifyTOTP(code, time.Unix(c.unix, 0))
		if ok != c.want || ok && got != step {
			t.Errorf("at %d: step %d, %v, want %v", c.unix, got, ok, c.want)
		}
	}
	for _, wrong := range []string{"", "94287083", " 4287082", "94287082 ", "9428708", "942870820", "９４２87082"} {
		if _, ok := v.VerifyTOTP(wrong, time.Unix(59, 0)); ok {
			t.Errorf("%q is accepted", wrong)
		}
	}
	if _, ok := Parse([]byte("$app$x$"+testHash)).VerifyTOTP(code, time.Unix(59, 0)); ok {
		t.Error("an app password has a code")
	}
}

func TestTOTPRules(t *testing.T) {
	t.Parallel()
	const secret = "secret=JBSWY3DPEHPK3PXPJBSWY3DPEH" // 16 bytes
	for _, c := range []struct {
		url  string
		want error
	}{
		{"otpauth://totp/x?" + secret, nil},
		{"otpauth://totp/x?secret=jbswy3dpehpk3pxpjbswy3dpeh", nil},
		{"otpauth://totp/ACME:alice@example.org?" + secret + "&issuer=ACME", nil},
		{"otpauth://totp/ACME%20Co:alice?issuer=ACME%20Co&" + secret + "&image=x", nil},
		{"otpauth://totp/?" + secret, nil},
		{"otpauth://totp/x?" + secret + "&digits=7&period=60&algorithm=Sha512", nil},
		{"otpauth://bad", errOTPType},
		{"otpauth://", errOTPType},
		{"otpauth://hotp/x?" + secret + "&counter=1", errOTPType},
		{"otpauth://TOTP/x?" + secret, errOTPType},
		{"otpauth://totp/x", errOTPSecret},
		{"otpauth://totp/x?secret=S", errOTPSecret},
		{"otpauth://totp/x?secret=JBSWY3DPEHPK3PXP", errOTPSecret},
		{"otpauth://totp/x?" + secret + "======", errOTPSecret},
		{"otpauth://totp/x?secret=JBSWY3DPEHPK3PXPJBSWY3DP1H", errOTPSecret},
		{"otpauth://totp/x?secret=JBSWY3DPEHPK3PXPJBSWY3DPE", errOTPSecret},
		{"otpauth://totp/x?secret=JBSWY3DPEHPK3PXP%0AJBSWY3DPEH", errOTPSecret},
		{"otpauth://totp/x?" + secret + "&digits=5", errOTPDigits},
		{"otpauth://totp/x?" + secret + "&digits=9", errOTPDigits},
		{"otpauth://totp/x?" + secret + "&digits=", errOTPDigits},
		{"otpauth://totp/x?" + secret + "&digits=06", errOTPDigits},
		{"otpauth://totp/x?" + secret + "&period=0", errOTPPeriod},
		{"otpauth://totp/x?" + secret + "&period=x", errOTPPeriod},
		{"otpauth://totp/x?" + secret + "&period=3601", errOTPPeriod},
		{"otpauth://totp/x?" + secret + "&algorithm=MD5", errOTPAlgorithm},
		{"otpauth://totp/x?" + secret + "&algorithm=", errOTPAlgorithm},
		{"otpauth://totp/x?" + secret + "&encoder=steam", errOTPEncoder},
		{"otpauth://totp/x?" + secret + "&" + secret, errOTPTwice},
		{"otpauth://totp/x?" + secret + "&digits=6&digits=8", errOTPTwice},
		{"otpauth://totp/A:x?" + secret + "&issuer=B", errOTPIssuer},
		{"otpauth://totp/A:x:y?" + secret, errOTPIssuer},
		{"otpauth://totp/x?" + secret + "&issuer=A%3AB", errOTPIssuer},
		{"otpauth://totp/x?" + secret + "&a=%zz", errOTPURL},
		{"otpauth://totp/x?" + secret + ";a=b", errOTPURL},
		{"otpauth://totp/x?" + secret + " ", errOTPURL},
		{"otpauth://totp/\x00?" + secret, errOTPURL},
		{"otpauth://[totp/?" + secret, errOTPURL},
	} {
		v := Parse([]byte(c.url))
		if v.Kind != TOTP || v.Err != c.want {
			t.Errorf("%q: kind %d, Err %v, want %v", c.url, v.Kind, v.Err, c.want)
		}
		if _, ok := v.VerifyTOTP("000000", time.Unix(0, 0)); ok {
			t.Errorf("%q: 000000 is accepted", c.url)
		}
	}
}
