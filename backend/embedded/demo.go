package embedded

import _ "embed" // demo.ldif

// DemoLDIF is a small directory, dc=example,dc=org, with three users and their
// app passwords. Its comments list the passwords in clear.
//
//go:embed demo.ldif
var DemoLDIF []byte

// Passwords of DemoLDIF, for the commands that a demonstration prints.
const (
	DemoMain    = "alicepw"                       // userPassword of uid=alice,ou=people
	DemoPhone   = "ena3-7gwj-av3h-bgwj-t71p-r1ra" // an app password of alice
	DemoExpired = "7zfm-r81x-hd5h-p12m-gd75-59j2" // another one, expired
	DemoSMTP    = "f988-293f-95hh-e125-rr14-yak4" // another one, for sending mail only
	DemoBob     = "yfsc-vqa5-ez1g-n3dj-jfp9-pfvw" // an app password of bob, whose main password is bobpw
	DemoAdmin   = "adminpw"                       // cn=admin, who may write
	DemoService = "appbindpw"                     // cn=appbind,ou=services: upstream.bind_dn
	DemoDovecot = "dovecotpw"                     // cn=dovecot,ou=services: a mail server
)
