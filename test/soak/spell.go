package main

import (
	"fmt"
	"strings"
)

// form is one way to write a user's name.
type form struct {
	name  string
	same  bool // OpenLDAP takes it for the user; else it is nobody's
	write func(u *user) string
}

// plainForm is the DN as the directory has it.
const plainForm = 0

// forms are the spellings of the run.
var forms = []form{
	{"as it stands", true, func(u *user) string { return u.DN }},
	{"capitals", true, func(u *user) string { return strings.ToUpper(u.DN) }},
	{"long type names", true, func(u *user) string {
		return "userid=" + u.UID + ",organizationalUnitName=people,domainComponent=example,dc=org"
	}},
	{"object identifiers", true, func(u *user) string { return "0.9.2342.19200300.100.1.1=" + u.UID + ",2.5.4.11=people," + suffix }},
	{"a hex pair", true, func(u *user) string { return fmt.Sprintf(`uid=\%02x%s,%s`, u.UID[0], u.UID[1:], people) }},
	{"quotes", true, func(u *user) string { return `uid="` + u.UID + `",` + people }},
	{"semicolons", true, func(u *user) string { return strings.ReplaceAll(u.DN, ",", ";") }},
	{"spaces", true, func(u *user) string { return "uid= " + u.UID + " , ou = people , " + suffix }},
	{"full-width letters", true, func(u *user) string { return "uid=" + u.UID + ",ou=\uff50\uff45\uff4f\uff50\uff4c\uff45," + suffix }},
	{"the uid", true, func(u *user) string { return u.UID }},
	{"the mail address", true, func(u *user) string { return u.UID + "@example.org" }},
	{"the mail address in capitals", true, func(u *user) string { return strings.ToUpper(u.UID) + "@Example.ORG" }},

	{"another container", false, func(u *user) string { return "uid=" + u.UID + ",ou=services," + suffix }},
	{"an absent user", false, func(u *user) string { return "uid=nobody-" + u.UID + "," + people }},
	{"another suffix", false, func(u *user) string { return "uid=" + u.UID + ",ou=people,dc=example,dc=net" }},
	{"an escaped comma", false, func(u *user) string { return "uid=" + u.UID + `\,ou=people,` + suffix }},
	{"two values", false, func(u *user) string { return "uid=" + u.UID + "+cn=nobody," + people }},
	{"an option", false, func(u *user) string { return "uid;lang-de=" + u.UID + "," + people }},
	{"a context that is not believed", false, func(u *user) string { return u.DN + ",svc=imap,rip=192.0.2.1,cn=appbind" }},
	{"an absent address", false, func(u *user) string { return "nobody-" + u.UID + "@example.org" }},
	{"a star", false, func(u *user) string { return u.UID[:len(u.UID)-1] + "*" }},
	{"a filter", false, func(u *user) string { return u.UID + ")(uid=*" }},
	{"spaces only", false, func(*user) string { return "  " }},
}
