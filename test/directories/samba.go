package directories

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"unicode/utf16"
)

// sambaConf is smb.conf: LDAP only, without TLS, so that simple binds in clear
// are allowed; every path is below the directory.
const sambaConf = `[global]
	netbios name = DC1
	realm = EXAMPLE.ORG
	workgroup = EXAMPLE
	server role = active directory domain controller
	server services = ldap
	interfaces = ADDRESS/8
	bind interfaces only = yes
	disable netbios = yes
	dns update command = /bin/true
	ldap server require strong auth = no
	tls enabled = no
	dsdb:schema update allowed = yes
	private dir = DIR/private
	lock directory = DIR/lock
	state directory = DIR/state
	cache directory = DIR/cache
	pid directory = DIR/run
	ncalrpc dir = DIR/run/ncalrpc
	winbindd socket directory = DIR/run/winbindd
	ntp signd socket directory = DIR/run/ntp_signd
	binddns dir = DIR/bind-dns
	logging = file
	log file = DIR/log/samba.log

[sysvol]
	path = DIR/state/sysvol
	read only = no

[netlogon]
	path = DIR/state/sysvol/example.org/scripts
	read only = no
`

// StartSamba makes a Samba domain controller that serves LDAP only in dir and
// starts it, which takes some seconds. DNs come back with upper-case types: DC=example,DC=org.
func StartSamba(dir string) (*Server, error) {
	err := prepare(dir, []string{"private", "lock", "state/sysvol/example.org/scripts", "cache", "run", "log", "bind-dns"}, "samba", "samba-tool", "ldapmodify")
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "smb.conf")
	if err := os.WriteFile(conf, []byte(strings.NewReplacer("DIR", dir, "ADDRESS", address).Replace(sambaConf)), 0o600); err != nil {
		return nil, err
	}
	s := &Server{Address: address + ":389", Root: "administrator@example.org", RootPW: "Root-Passw0rd", cleanup: func() {}}
	s.launch = func() *exec.Cmd { return exec.Command("samba", "-s", conf, "-F", "-M", "single") }
	if _, err := run("", "samba-tool", "domain", "provision", "-s", conf, "--realm=EXAMPLE.ORG", "--domain=EXAMPLE", "--host-name=dc1",
		"--host-ip="+address, "--server-role=dc", "--dns-backend=NONE", "--adminpass="+s.RootPW); err != nil {
		return nil, err
	}
	if err := s.Start(); err != nil {
		return nil, err
	}
	if err := s.fillSamba(conf, filepath.Join(dir, "private/sam.ldb")); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// freeAddress is an address of loopback whose LDAP port nobody has.
func freeAddress() (string, error) {
	for {
		var b [3]byte
		_, _ = rand.Read(b[:]) // never fails, see crypto/rand
		address := net.IPv4(127, b[0]|1, b[1], b[2]&0x7f+2).String()
		l, err := net.Listen("tcp", address+":389")
		if err == nil {
			return address, l.Close()
		}
		if os.IsPermission(err) {
			return "", err
		}
	}
}

// fillSamba adds the policy, the schema, the accounts and their rights.
func (s *Server) fillSamba(conf, sam string) error {
	policy := fmt.Sprintf(`dn: %[1]s
changetype: modify
replace: minPwdLength
minPwdLength: 4
-
replace: pwdHistoryLength
pwdHistoryLength: 0
-
replace: minPwdAge
minPwdAge: 0
-
replace: pwdProperties
pwdProperties: 0
-
replace: lockoutThreshold
lockoutThreshold: %[2]d
-
replace: lockoutDuration
lockoutDuration: -6000000000
-
replace: lockOutObservationWindow
lockOutObservationWindow: -6000000000

dn: %[3]s
changetype: add
objectClass: organizationalUnit

dn: ou=services,%[1]s
changetype: add
objectClass: organizationalUnit

`, Suffix, Failures, People)
	for _, name := range []string{"appbind", "appbind-manage"} {
		policy += SambaUser("cn="+name+",ou=services,"+Suffix, name, ServicePW) + "\n"
	}
	if err := s.Modify(policy); err != nil {
		return err
	}
	for _, f := range []string{"ad/schema-attribute.ldif", "ad/schema-class.ldif", "ad/attach.ldif"} {
		text, err := schemaFile(f)
		if err == nil {
			err = s.Modify(text)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
	}
	for name, rights := range map[string]string{"appbind": "RPCR", "appbind-manage": "RPWPCR"} { // as ad/access.md says
		out, err := run("", "samba-tool", "user", "show", name, "-s", conf, "-H", sam, "--attributes=objectSid")
		if err != nil {
			return err
		}
		_, sid, _ := strings.Cut(out, "objectSid: ")
		sid, _, _ = strings.Cut(sid, "\n")
		if _, err := run("", "samba-tool", "dsacl", "set", "-s", conf, "-H", sam, "--action=allow", "--objectdn="+People,
			"--sddl=(OA;CI;"+rights+";bfb9c956-cac4-4f5f-aa3b-52b7437eeac0;;"+sid+")"); err != nil {
			return err
		}
	}
	return nil
}

// SambaUser is the LDIF that adds a user; more are further lines of it.
func SambaUser(dn, account, password string, more ...string) string {
	return fmt.Sprintf("dn: %s\nchangetype: add\nobjectClass: user\nsAMAccountName: %s\nuserPrincipalName: %s@example.org\nunicodePwd:: %s\nuserAccountControl: 512\n%s\n",
		dn, account, account, unicodePwd(password), strings.Join(append(more, ""), "\n"))
}

// unicodePwd is a password as Active Directory takes it: in quotes, in UTF-16LE.
func unicodePwd(password string) string {
	var b []byte
	for _, c := range utf16.Encode([]rune(`"` + password + `"`)) {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	return base64.StdEncoding.EncodeToString(b)
}
