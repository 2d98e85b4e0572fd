package secrets

import (
	"errors"
	"strings"
	"testing"
)

// TestCryptVectors compares with crypt(3): every kind of hash, passwords short, long and with bytes above 127.
func TestCryptVectors(t *testing.T) {
	t.Parallel()
	for i, row := range readVectors(t, "crypt.tsv", 3) {
		v := asApp(row[0])
		if v.Err != nil {
			t.Errorf("row %d: %v", i, v.Err)
			continue
		}
		password := []byte(row[1])
		if got, want := v.Verify(password), row[2] == ""; got != want {
			t.Errorf("row %d (%d bytes): Verify = %v, want %v", i, len(password), got, want)
		}
		password[0] ^= 1
		if v.Verify(password) {
			t.Errorf("row %d: a wrong password matches", i)
		}
	}
}

// TestAmbiguousPasswords has pairs of different passwords that an algorithm takes for the same.
func TestAmbiguousPasswords(t *testing.T) {
	t.Parallel()
	const (
		bcryptABC = "$2y$04$abcdefghijklmnopqrstuuCi15uRb1eH7NAlJ/TgeJertyknQpYn2" // of abc
		pbkdf2    = "$pbkdf2-sha256$i=1000,l=32$AAECAwQFBgcICQoLDA0ODw$yRTMTwbMbo9G0VfjobWqerzuuxe7BETNTErBbKKumGQ"
		scrypt    = "$scrypt$ln=10,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$nfkj3u1fRTHCea+fVr03sWV770kp5wLOLoEakziKhqE"
		sha1crypt = "$sha1$1000$iVdJqfSE$DurOzg8xs4fkL8XZJY2lIsglfBwJ"
		bsdi      = "_Gl/.K0AydBDxTMX/ZFY"
		argon2    = "$argon2id$v=19$m=1024,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$KXoZ452qFeH3svUeRbhVSuUXSKVfCIOiHunjp7xcQo3ReWrGP88XxBpNt9Xhg3FoNYFejaywmvz04nyYHi/TWw"
		sha512    = "$6$saltsaltsaltsalt$GkzgkzVbauGAKXpOTbypQEKy/9yJWVjcvXvDw7CxoJjnJ1.w.g1rV8bhCVTpHrRrO/h6b3DAwPN3y5qmHXZ1R1"
		ssha      = "{SSHA}5pcxo13YdJml98eQSIlT3FMEBMMBAgME"
	)
	const right = "correct horse"
	for _, c := range []struct{ name, hash, right string }{
		{"bcrypt", bcryptABC, "abc"},
		{"pbkdf2", pbkdf2, right},
		{"scrypt", scrypt, right},
		{"sha1crypt", sha1crypt, right},
		{"bsdi", bsdi, right},
		{"argon2", argon2, right},
		{"sha512crypt", sha512, right},
		{"ssha", ssha, right},
	} {
		v := asApp(c.hash)
		if !v.Verify([]byte(c.right)) {
			t.Errorf("%s: the right password does not match (%v)", c.name, v.Err)
		}
		// Nothing is trimmed, folded, cut or padded.
		for _, wrong := range []string{
			c.right + "\x00", c.right + "\x00" + c.right, c.right + "\n", c.right + "\r\n", c.right + " ", " " + c.right,
			"\ufeff" + c.right, c.right + "\u00a0", "\x00" + c.right, strings.ToUpper(c.right), c.right[:len(c.right)-1],
		} {
			if v.Verify([]byte(wrong)) {
				t.Errorf("%s: %q matches the hash of %q", c.name, wrong, c.right)
			}
		}
	}
}

// TestMalformedHashes has what must be unusable, and with which reason.
func TestMalformedHashes(t *testing.T) {
	t.Parallel()
	dots := func(n int) string { return strings.Repeat(".", n) }
	argon := func(params string) string {
		return "$argon2id$v=19$" + params + "$c2FsdHNhbHRzYWx0c2FsdA$AdweBLwcflnNX2HVW8i1Mtu7frrn4Ki7h/rYSGuU7Is"
	}
	pbkdf := func(params string) string {
		return "$pbkdf2-sha256$" + params + "$AAECAwQFBgcICQoLDA0ODw$yRTMTwbMbo9G0VfjobWqerzuuxe7BETNTErBbKKumGQ"
	}
	scrypt := func(params string) string {
		return "$scrypt$" + params + "$AAECAwQFBgcICQoLDA0ODw$nfkj3u1fRTHCea+fVr03sWV770kp5wLOLoEakziKhqE"
	}
	for _, c := range []struct {
		hash string
		want error
	}{
		{"", errNoHash},
		{"*", ErrClearText}, {"!", ErrClearText}, {"x", ErrClearText}, {"aZnfQZ.reMbH2", ErrClearText}, {" {SHA}L55TUjtiq8FBorTWAZ0jy6g129A=", ErrClearText},
		{"{PLAIN}x", ErrClearText}, {"{CLEAR}", ErrClearText}, {"{cleartext}x", ErrClearText},
		{"$", ErrScheme}, {"$$", ErrScheme}, {"$6", ErrScheme}, {"$y$j9T$abc$def", ErrScheme}, {"$apr1$a$b", ErrScheme}, {"$app$x$y", ErrScheme},
		{"$2$05$" + dots(53), ErrScheme}, {"$2x$05$" + dots(53), ErrScheme}, {"$2z$05$" + dots(53), ErrScheme}, {"$argon2$x", ErrScheme}, {"$pbkdf2$i=1,l=20$AAECAwQFBgcICQoLDA0ODw$ndhWw3a4srcTtr4HQFTLiKRlVuA", ErrScheme},
		{"{", ErrScheme}, {"{}", ErrScheme}, {"{SSHA", ErrScheme}, {"{SMD5}Z/zaJ2M7Khrn3AWg16utq3NhbHRzYWx0", ErrScheme}, {"{SASL}alice", ErrScheme}, {"{SSHA384}x", ErrScheme},
		{"{CRYPT}", ErrMalformed}, {"{CRYPT}*", ErrMalformed}, {"{CRYPT}!!", ErrMalformed}, {"{CRYPT}aZnfQZ.reMbH2x", ErrMalformed}, {"{CRYPT}aZnfQZ.reMbH3", ErrMalformed},
		{"{CRYPT}{SHA}L55TUjtiq8FBorTWAZ0jy6g129A=", ErrMalformed}, {"{ARGON2}{SHA}L55TUjtiq8FBorTWAZ0jy6g129A=", ErrMalformed}, {"{PBKDF2}10000$x", ErrMalformed},
		{"{SHA}", ErrMalformed}, {"{SHA}L55TUjtiq8FBorTWAZ0jy6g129A", ErrMalformed}, {"{SHA}L55TUjtiq8FBorTWAZ0jy6g129B=", ErrMalformed}, {"{SHA}L55TUjtiq8FB\norTWAZ0jy6g129A=", ErrMalformed}, {"{SHA}5pcxo13YdJml98eQSIlT3FMEBMMBAgME", ErrMalformed},
		{"{SSHA512}L55TUjtiq8FBorTWAZ0jy6g129A=", ErrMalformed}, {"{SSHA}" + strings.Repeat("A", 20*4/3+maxDigestSalt*2), ErrMalformed},
		// bcrypt
		{"$2b$31$" + dots(53), ErrOverCap}, {"$2b$15$" + dots(53), ErrOverCap}, {"$2b$14$" + dots(53), nil}, {"$2b$04$" + dots(53), nil},
		{"$2b$03$" + dots(53), ErrMalformed}, {"$2b$32$" + dots(53), ErrMalformed}, {"$2b$5$" + dots(54), ErrMalformed}, {"$2b$+5$" + dots(53), ErrMalformed}, {"$2b$05$" + dots(52), ErrMalformed}, {"$2b$05$" + dots(54), ErrMalformed},
		{"$2b$05$" + dots(21) + "/" + dots(31), ErrMalformed}, {"$2b$05$" + dots(52) + "/", ErrMalformed}, {"$2b$05$" + dots(52) + "=", ErrMalformed}, {"$2b$05x" + dots(53), ErrMalformed},
		// crypt
		{"$6$rounds=1000000$a$" + dots(86), nil}, {"$6$rounds=1000001$a$" + dots(86), ErrOverCap}, {"$6$rounds=99999999999999999999$a$" + dots(86), ErrOverCap}, {"$6$rounds=999$a$" + dots(86), ErrMalformed},
		{"$6$rounds=01000$a$" + dots(86), ErrMalformed}, {"$6$rounds=-1$a$" + dots(86), ErrMalformed}, {"$6$rounds=$a$" + dots(86), ErrMalformed}, {"$6$a:b$" + dots(86), ErrMalformed}, {"$6$abcdefghijklmnopq$" + dots(86), ErrMalformed},
		{"$6$a$" + dots(85), ErrMalformed}, {"$6$a$" + dots(87), ErrMalformed}, {"$5$a$" + dots(86), ErrMalformed}, {"$5$a", ErrMalformed},
		{"$sha1$1000000$a$" + dots(28), nil}, {"$sha1$1000001$a$" + dots(28), ErrOverCap}, {"$sha1$0$a$" + dots(28), ErrMalformed}, {"$sha1$1$$" + dots(28), ErrMalformed}, {"$sha1$1", ErrMalformed},
		{"$1$abcdefghi$" + dots(22), ErrMalformed}, {"$1$a$" + dots(21), ErrMalformed}, {"$1x", ErrScheme},
		{"_", ErrMalformed}, {"_underscore", ErrMalformed}, {"_...." + dots(15), ErrMalformed}, {"_zzzz" + dots(15), ErrOverCap}, {"_UOM." + dots(15), nil}, {"_VOM." + dots(15), ErrOverCap},
		// PHC
		{argon("m=262144,t=4,p=16"), nil}, {argon("m=262145,t=1,p=1"), ErrOverCap}, {argon("m=262144,t=5,p=1"), ErrOverCap}, {argon("m=4194304,t=1,p=1"), ErrOverCap}, {argon("m=64,t=11,p=1"), ErrOverCap}, {argon("m=1024,t=1,p=17"), ErrOverCap},
		{argon("m=0,t=1,p=1"), ErrMalformed}, {argon("m=64,t=0,p=1"), ErrMalformed}, {argon("m=64,t=1,p=0"), ErrMalformed}, {argon("m=63,t=1,p=8"), ErrMalformed}, {argon("m=64,t=1,p=8"), nil},
		{argon("m=64,m=64,p=1"), ErrMalformed}, {argon("m=64,t=1,p=1,"), ErrMalformed}, {argon("m=64,t=1,p=1,data=AAAA"), ErrMalformed}, {argon("m=64,t=+1,p=1"), ErrMalformed}, {argon("m=,t=1"), ErrMalformed},
		{"$argon2id$v=16$m=64,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$AdweBLwcflnNX2HVW8i1Mtu7frrn4Ki7h/rYSGuU7Is", ErrScheme}, {"$argon2id$v=19$m=64,t=1,p=1$c2FsdA$AdweBLwcflnNX2HVW8i1Mtu7frrn4Ki7h/rYSGuU7Is", ErrMalformed},
		{"$argon2id$v=x$m=64,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$AdweBLwcflnNX2HVW8i1Mtu7frrn4Ki7h/rYSGuU7Is", ErrMalformed}, {"$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA", ErrMalformed}, {"$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$", ErrMalformed},
		{"$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$AdweBLwcflnNX2HVW8i1Mtu7frrn4Ki7h/rYSGuU7It", ErrMalformed}, {argon("m=64,t=1,p=1") + "$x", ErrMalformed}, {argon("m=64,t=1,p=1") + "=", ErrMalformed},
		{pbkdf("i=2000000"), nil}, {pbkdf("i=2000001"), ErrOverCap}, {pbkdf("i=0"), ErrMalformed}, {pbkdf("i=1,l=31"), ErrMalformed}, {pbkdf("v=19$i=1"), ErrMalformed}, {"$pbkdf2-sha256$29000$AAECAwQFBgcICQoLDA0ODw$yRTMTwbMbo9G0VfjobWqerzuuxe7BETNTErBbKKumGQ", ErrMalformed},
		{scrypt("ln=18,r=8,p=1"), nil}, {scrypt("ln=19,r=8,p=1"), ErrOverCap}, {scrypt("ln=17,r=8,p=3"), ErrOverCap}, {scrypt("ln=21,r=1,p=1"), ErrOverCap}, {scrypt("ln=64,r=1,p=1"), ErrOverCap}, {scrypt("ln=1,r=65,p=1"), ErrOverCap}, {scrypt("ln=1,r=1,p=17"), ErrOverCap},
		{scrypt("ln=0,r=8,p=1"), ErrMalformed}, {scrypt("ln=10,r=0,p=1"), ErrMalformed}, {scrypt("ln=10,r=8,p=0"), ErrMalformed}, {scrypt("n=1024,r=8,p=1"), ErrMalformed},
	} {
		v := Parse([]byte("$app$x$" + c.hash))
		if !errors.Is(v.Err, c.want) || (c.want == nil) != (v.Err == nil) {
			t.Errorf("%q: Err = %v, want %v", c.hash, v.Err, c.want)
		}
		if memory, slow := v.Cost(); c.want != nil && (memory != 0 || slow) {
			t.Errorf("%q: an unusable value costs %d, %v", c.hash, memory, slow)
		}
		if c.want == nil {
			continue
		}
		for _, password := range []string{"", "x", c.hash, "correct horse", "*"} {
			if v.Verify([]byte(password)) {
				t.Errorf("%q: %q matches", c.hash, password)
			}
		}
	}
}

func TestCost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		hash   string
		memory int64
		slow   bool
	}{
		{"{SSHA256}YflVcOMs6k7tbGkQbQNVn6/ehAnUAVltiLPKHBWGi2tzYWx0c2FsdA==", 0, false},
		{"{MD5}PLTnMmMfR+brlh80VUt83g==", 0, false},
		{"$2b$05$bvIG6Nmid91Mu9RcmmWZfO5M1k.HZUmCKVaN2yPaVjRjLFNxDfQ1O", 0, true},
		{"$5$saltstring$vc6YOOogU4kWVvwga8e9zTFgKcy4tb5LaPxIiPJzqEC", 0, true},
		{"$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$AdweBLwcflnNX2HVW8i1Mtu7frrn4Ki7h/rYSGuU7Is", 19456 << 10, true},
		{"$scrypt$ln=10,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$nfkj3u1fRTHCea+fVr03sWV770kp5wLOLoEakziKhqE", 128 * 8 * 1025, true},
		{"_Gl/.K0AydBDxTMX/ZFY", 0, true},
	} {
		v := asApp(c.hash)
		if memory, slow := v.Cost(); memory != c.memory || slow != c.slow {
			t.Errorf("%s: Cost = %d, %v, want %d, %v", c.hash[:8], memory, slow, c.memory, c.slow)
		}
	}
	for _, raw := range []string{"", "{SSHA}5pcxo13YdJml98eQSIlT3FMEBMMBAgME", "otpauth://totp/x?secret=JBSWY3DPEHPK3PXPJBSWY3DPEH"} {
		if memory, slow := Parse([]byte(raw)).Cost(); memory != 0 || slow {
			t.Errorf("%q costs %d, %v", raw, memory, slow)
		}
	}
}
