package backend

import (
	"slices"
	"strings"
)

// passwordAttributes are attributes that hold passwords, hashes, keys or seeds and do
// not tell so by the end of their names.
var passwordAttributes = []string{
	"2.5.4.35",                       // userPassword
	"1.3.6.1.4.1.4203.1.3.4",         // authPassword
	"1.2.840.113556.1.4.90",          // unicodePwd
	"1.2.840.113556.1.6.18.1.227",    // unixUserPassword
	"1.3.6.1.4.1.7165.2.1.24",        // sambaLMPassword
	"1.3.6.1.4.1.7165.2.1.25",        // sambaNTPassword
	"1.3.6.1.4.1.42.2.27.8.1.20",     // pwdHistory
	"2.16.840.1.113719.1.301.4.39.1", // krbPrincipalKey
	"2.16.840.1.113730.3.1.216",      // userPKCS12
	"pwdhistory", "passwordhistory", "ntpwdhistory", "lmpwdhistory", "sambapasswordhistory",
	"krbprincipalkey", "krbmkey", "krbpwdhistory", "krb5key", "krbextradata",
	"supplementalcredentials", "initialauthincoming", "initialauthoutgoing",
	"trustauthincoming", "trustauthoutgoing", "currentvalue", "priorvalue",
	"msds-managedpasswordpreviousid", "mslaps-encryptedpasswordhistory", "mslaps-encrypteddsrmpasswordhistory",
	"ipatokenotpkey", "ipatokenradiussecret", "oathsecret", "oathencsecret", "userpkcs12", "olcrootpw", "nsslapd-rootpw",
}

// PasswordLike reports whether an attribute (base type, lower case) holds something to log in with.
func PasswordLike(name string) bool {
	for _, end := range [...]string{"password", "passwd", "pwd", "secret", "hash", "privatekey"} {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return slices.Contains(passwordAttributes, name)
}
