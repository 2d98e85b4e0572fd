package secrets

import (
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// digestOf is the body of {SHA256}.
func digestOf(password string) string {
	sum := sha256.Sum256([]byte(password))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// testHash is a hash that is good, of "correct horse".
const testHash = "{SHA}L55TUjtiq8FBorTWAZ0jy6g129A="

func TestParseKinds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		raw  string
		kind Kind
		err  error
	}{
		{"", Foreign, nil},
		{testHash, Foreign, nil},
		{"mainpw", Foreign, nil},
		{"$6$salt$x", Foreign, nil},
		{"$App$x$" + testHash, Foreign, nil},
		{" $app$x$" + testHash, Foreign, nil},
		{"$app", Foreign, nil},
		{"$disabled$", Foreign, nil},
		{"OTPAUTH://totp/x", Foreign, nil},
		{"$app$", App, errNoHash},
		{"$app$nohash", App, errNoHash},
		{"$app$$", App, errNoHash},
		{"$app$x$", App, errNoHash},
		{"$app$8958830913002348890$", App, errNoHash},
		{"$app$x$plain", App, ErrClearText},
		{"$app$my$phone$plain", App, ErrClearText},
		{"$app$$" + testHash, App, nil},
		{"$app$x$" + testHash, App, nil},
		{"$app$" + string(make([]byte, MaxValue)) + "$" + testHash, App, errTooLong},
		{"otpauth://bad", TOTP, errOTPType},
	} {
		v := Parse([]byte(c.raw))
		if v.Kind != c.kind || v.Err != c.err || v.Raw != c.raw {
			t.Errorf("%.40q: kind %d, Err %v; want %d, %v", c.raw, v.Kind, v.Err, c.kind, c.err)
		}
		if c.kind != App || c.err != nil {
			for _, password := range []string{"", "plain", "x", "correct horse", "mainpw", c.raw, "phone$plain", "nohash"} {
				if v.Verify([]byte(password)) {
					t.Errorf("%q matches %q", c.raw, password)
				}
			}
		}
	}
	if v := Parse([]byte("$app$hunter2")); v.Name != "" || v.Label != "" {
		t.Error("what may be a password is shown as the name")
	}
}

func TestParseName(t *testing.T) {
	t.Parallel()
	v := Parse([]byte("$app$Mom's phone %2450%25;id=k7m2;exp=20271231235959Z;svc=imap,submission;" +
		"net=192.0.2.0/24,2001:db8::/48;crt=20261121080000Z;x-note=a,b%3D%C2%85;x-by=admin$" + testHash))
	if v.Err != nil {
		t.Fatal(v.Err)
	}
	if v.Label != "Mom's phone $50%" || v.ID != "k7m2" ||
		!v.Expires.Equal(time.Date(2027, 12, 31, 23, 59, 59, 0, time.UTC)) ||
		!v.Created.Equal(time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)) ||
		!slices.Equal(v.Services, []string{"imap", "submission"}) ||
		!slices.Equal(v.Networks, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/48")}) ||
		!slices.Equal(v.extensions, []string{"x-note=a,b%3D%C2%85", "x-by=admin"}) {
		t.Errorf("parsed as %q %q %v %v %v %v %v", v.Label, v.ID, v.Expires, v.Created, v.Services, v.Networks, v.extensions)
	}
}

func TestOpaqueNames(t *testing.T) {
	t.Parallel()
	created := time.Date(2024, 7, 1, 10, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, label string
		created     time.Time
	}{
		{"", "", time.Time{}},
		{"phone", "phone", time.Time{}},
		{"iPhone; work", "iPhone; work", time.Time{}},
		{"a=b", "a=b", time.Time{}},
		{"a=b;c", "a=b;c", time.Time{}},
		{"100%", "100%", time.Time{}},
		{"%3B", "%3B", time.Time{}},
		{"tab\there", "tab\there", time.Time{}},
		{"VGh1bmRlcmJpcmQkMjAyNC0wNy0wMVQxMDowMDowMC4wMDArMDA6MDA=", "Thunderbird", created},
		{base64.StdEncoding.EncodeToString([]byte("a$b$2024-07-01T12:00:00+02:00")), "a$b", created},
		{base64.StdEncoding.EncodeToString([]byte("Thunderbird")), "VGh1bmRlcmJpcmQ=", time.Time{}},
		{base64.StdEncoding.EncodeToString([]byte("x$yesterday")), "eCR5ZXN0ZXJkYXk=", time.Time{}},
		{"abcd", "abcd", time.Time{}},
	} {
		v := Parse([]byte("$app$" + c.name + "$" + testHash))
		if v.Err != nil || v.Name != c.name || v.Label != c.label || !v.Created.Equal(c.created) {
			t.Errorf("%q: label %q, created %v, Err %v", c.name, v.Label, v.Created, v.Err)
		}
		if !v.Verify([]byte("correct horse")) || v.ID != "" || v.Services != nil || v.Networks != nil || !v.Expires.IsZero() {
			t.Errorf("%q: an opaque name restricts", c.name)
		}
	}
}

// TestUnusableNames has names whose restrictions are not understood. All are unusable: none may become unrestricted.
func TestUnusableNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		err  error
	}{
		{"x;ip=192.0.2.1", errUnknown},
		{"x;ID=k7m2", errUnknown},
		{"x; exp=20270101000000Z", errUnknown},
		{"x;exp =20270101000000Z", errUnknown},
		{"x;=y", errUnknown},
		{"Mail;home=office", errUnknown},
		{"x;X-note=a", errUnknown},
		{"x;id=k7m2;", errSection},
		{"x;;id=k7m2", errSection},
		{"x;work;id=k7m2", errSection},
		{"x;x-=a", errSection},
		{"x;x-A=a", errSection},
		{"x;x-a b=a", errSection},
		{"x;x-a=1;x-a=2", errDuplicate},
		{"x;x-a=b=c", errSpelling},
		{"x;x-a=%41", errSpelling},
		{"x;id=k7m2;id=k7m2", errDuplicate},
		{"x;exp=20270101000000Z;exp=20280101000000Z", errDuplicate},
		{"x;svc=imap;id=k7m2;svc=smtp", errDuplicate},
		{"x;id=", errID}, {"x;id=k7m", errID}, {"x;id=k7m2x", errID}, {"x;id=K7M2", errID}, {"x;id=k7mu", errID}, {"x;id=k7mo", errID}, {"x;id=%6B7m2", errID},
		{"x;exp=", errExp}, {"x;exp=2027", errExp}, {"x;exp=20270101", errExp}, {"x;exp=20270101000000", errExp}, {"x;exp=20270101000000+0100", errExp},
		{"x;exp=20270101000000.5Z", errExp}, {"x;exp=20270101000000,5Z", errExp}, {"x;exp=20270230000000Z", errExp}, {"x;exp=20270101000000z", errExp}, {"x;exp= 20270101000000Z", errExp},
		{"x;exp=00010101000000Z", errExp}, {"x;exp=19691231235959Z", errExp}, {"x;exp=never", errExp},
		{"x;crt=today", errCrt}, {"x;crt=", errCrt},
		{"x;svc=", errSvc}, {"x;svc=IMAP", errSvc}, {"x;svc=imap,", errSvc}, {"x;svc=,imap", errSvc}, {"x;svc=imap, smtp", errSvc}, {"x;svc=imap,imap", errSvc}, {"x;svc=*", errSvc}, {"x;svc=-a", errSvc},
		{"x;net=", errNet}, {"x;net=192.0.2.1", errNet}, {"x;net=192.0.2.1/24", errNet}, {"x;net=192.0.2.0/33", errNet}, {"x;net=192.0.2.0/024", errNet}, {"x;net=192.0.2.0/24,", errNet},
		{"x;net=192.0.2.0/24, 10.0.0.0/8", errNet}, {"x;net=192.0.2.0/24,192.0.2.0/24", errNet}, {"x;net=2001:DB8::/32", errNet}, {"x;net=2001:db8:0::/48", errNet}, {"x;net=::ffff:192.0.2.0/120", errNet},
		{"x;net=fe80::%25eth0/64", errNet}, {"x;net=any", errNet},
		{"100%;id=k7m2", errSpelling}, {"%;id=k7m2", errSpelling}, {"%2;id=k7m2", errSpelling}, {"a%41;id=k7m2", errSpelling}, {"a%3b;id=k7m2", errSpelling}, {"a%3g;id=k7m2", errSpelling},
		{"a,b;id=k7m2", errSpelling}, {"a=b;id=k7m2", errSpelling}, {"a\x00;id=k7m2", errSpelling}, {"a\x7f;id=k7m2", errSpelling}, {"a\u0085;id=k7m2", errSpelling}, {"a\xff;id=k7m2", errSpelling}, {"%C2;id=k7m2", errSpelling},
	} {
		v := Parse([]byte("$app$" + c.name + "$" + testHash))
		if v.Err != c.err {
			t.Errorf("%q: Err = %v, want %v", c.name, v.Err, c.err)
		}
		if v.Verify([]byte("correct horse")) {
			t.Errorf("%q: matches", c.name)
		}
		if v.Allows(time.Unix(0, 0), "imap", netip.MustParseAddr("192.0.2.1")) == nil {
			t.Errorf("%q: allows", c.name)
		}
	}
}
