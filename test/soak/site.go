package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/go-ldap/ldap/v3"

	"appbind/test/loopback"
	"appbind/test/relay"
)

// site is the servers of a run: slapd, the relay before it, and appbind.
type site struct {
	dir     string
	slapd   *process
	addr    string // slapd's
	relay   *relay.Relay
	appbind *process
	listen  string // appbind's
	metrics string
}

const slapdConfig = `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include %[1]s/appbind.schema
pidfile %[1]s/slapd.pid
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload ppolicy
moduleload syncprov
loglevel none
threads 8
database mdb
suffix dc=example,dc=org
rootdn cn=admin,dc=example,dc=org
rootpw admin-secret
directory %[1]s/db
maxsize 2147483648
dbnosync
index objectClass,uid,mail,entryUUID eq
limits dn.exact="cn=appbind,ou=services,dc=example,dc=org" size=unlimited time=unlimited
overlay syncprov
overlay ppolicy
ppolicy_default cn=default,ou=policies,dc=example,dc=org
access to attrs=appPassword by dn.exact="cn=appbind,ou=services,dc=example,dc=org" read by * none
access to attrs=userPassword by anonymous auth by * none
access to attrs=employeeNumber by self read by * none
access to * by users read by anonymous auth by * none
`

const treeLDIF = `dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
o: example
dc: example

dn: ou=people,dc=example,dc=org
objectClass: organizationalUnit
ou: people

dn: ou=services,dc=example,dc=org
objectClass: organizationalUnit
ou: services

dn: ou=policies,dc=example,dc=org
objectClass: organizationalUnit
ou: policies

dn: cn=default,ou=policies,dc=example,dc=org
objectClass: device
objectClass: pwdPolicy
cn: default
pwdAttribute: userPassword
pwdLockout: TRUE
pwdMaxFailure: 5
pwdFailureCountInterval: 0
pwdLockoutDuration: 0

dn: cn=appbind,ou=services,dc=example,dc=org
objectClass: applicationProcess
objectClass: simpleSecurityObject
cn: appbind
userPassword: appbind-secret

`

const appbindConfig = `listeners: [{url: "ldap://%s"}]
upstream:
  urls: ["ldap://%s"]
  bind_dn: cn=appbind,ou=services,dc=example,dc=org
  bind_password: appbind-secret
users:
  bases: ["ou=people,dc=example,dc=org"]
  filter: (objectClass=inetOrgPerson)
  enabled_filter: (!(employeeType=disabled))
  name_filter: (|(uid=%%s)(mail=%%s))
app_passwords: {lookup: %s, max_stale: 0s}
observe: {listen: "%s"}
log: {level: %s}
`

// program builds appbind; root is that of the repository.
func build(root, dir string, race bool) (string, error) {
	args := []string{"build", "-o", filepath.Join(dir, "appbind")}
	if race {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "./cmd/appbind")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return filepath.Join(dir, "appbind"), nil
}

// openSite loads the plan's users into a new slapd, and starts it and the relay.
func openSite(root, dir string, p *plan) (*site, error) {
	s := &site{dir: dir}
	schema, err := os.ReadFile(filepath.Join(root, "contrib/schema/openldap/appbind.schema"))
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir+"/db", 0o700); err != nil {
		return nil, err
	}
	if err := errors.Join(os.WriteFile(dir+"/appbind.schema", schema, 0o600),
		os.WriteFile(dir+"/slapd.conf", fmt.Appendf(nil, slapdConfig, dir), 0o600),
		p.writeLDIF(dir+"/site.ldif")); err != nil {
		return nil, err
	}
	if out, err := exec.Command("slapadd", "-q", "-f", dir+"/slapd.conf", "-b", suffix, "-l", dir+"/site.ldif").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("slapadd: %w: %s", err, out)
	}
	if err := loopback.Free(&s.addr); err != nil {
		return nil, err
	}
	if err := s.startSlapd(); err != nil {
		return nil, err
	}
	s.relay, err = relay.New(s.addr)
	if err != nil {
		s.close()
	}
	return s, err
}

// startSlapd starts slapd on its data, as after a stop.
func (s *site) startSlapd() (err error) {
	s.slapd, err = start(s.dir, "slapd", "slapd", "-f", s.dir+"/slapd.conf", "-h", "ldap://"+s.addr+"/", "-d", "0")
	if err != nil {
		return err
	}
	return s.slapd.await("an answer", func() bool { return answers(s.addr) })
}

// startAppbind starts appbind behind the relay and waits until it serves and, where
// it is to hold the users in memory, holds them.
func (s *site) startAppbind(program, lookup, level string) error {
	if err := loopback.Free(&s.listen, &s.metrics); err != nil {
		return err
	}
	file := s.dir + "/appbind.yaml"
	if err := os.WriteFile(file, fmt.Appendf(nil, appbindConfig, s.listen, s.relay.Addr(), lookup, s.metrics, level), 0o600); err != nil {
		return err
	}
	var err error
	if s.appbind, err = start(s.dir, "appbind", program, "serve", "-c", file); err != nil {
		return err
	}
	return s.appbind.await("being ready", func() bool { return s.ready() })
}

func (s *site) ready() bool {
	r, err := http.Get("http://" + s.metrics + "/readyz")
	if err != nil {
		return false
	}
	r.Body.Close()
	return r.StatusCode == http.StatusOK
}

// gauges are the metrics of appbind that have no labels, and the sums of those that have.
func (s *site) gauges() (map[string]float64, error) {
	r, err := http.Get("http://" + s.metrics + "/metrics")
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	sums := map[string]float64{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		name, _, _ := strings.Cut(line[:at], "{")
		if v, err := strconv.ParseFloat(line[at+1:], 64); err == nil {
			sums[name] += v
		}
	}
	return sums, nil
}

// close stops everything.
func (s *site) close() {
	if s.appbind != nil {
		s.appbind.stop(syscall.SIGTERM)
	}
	if s.relay != nil {
		s.relay.Close()
	}
	if s.slapd != nil {
		s.slapd.stop(syscall.SIGTERM)
	}
}

// admin is a connection to the directory itself, as its rootdn.
func (s *site) admin() (*ldap.Conn, error) {
	c, err := ldap.DialURL("ldap://" + s.addr)
	if err != nil {
		return nil, err
	}
	c.SetTimeout(patience)
	if err := c.Bind(adminDN, adminPW); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// writeLDIF writes the whole directory.
func (p *plan) writeLDIF(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	fmt.Fprint(w, treeLDIF)
	for i := range p.Users {
		p.Users[i].write(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

func (u *user) write(w io.Writer) {
	fmt.Fprintf(w, "dn: %s\nobjectClass: inetOrgPerson\nobjectClass: appPasswordAccount\nuid: %s\ncn: User %s\nsn: Example\nmail: %s@example.org\nemployeeNumber: %s\nuserPassword: %s\n",
		u.DN, u.UID, u.UID, u.UID, u.number(), ssha(u.Main))
	if u.Kind == ordinary && u.Index%10 == 3 && len(u.Apps) > 0 { // as on sites that keep app passwords there: to slapd it is a password in clear
		fmt.Fprintf(w, "userPassword: %s\n", u.Apps[0].Value)
	}
	if u.Kind == disabled {
		fmt.Fprintln(w, "employeeType: disabled")
	}
	if u.Since { // slapadd does not set it, slapd would
		fmt.Fprintln(w, "pwdChangedTime: 20260101000000Z")
	}
	for _, a := range u.Apps {
		fmt.Fprintf(w, "appPassword: %s\n", a.Value)
	}
	if u.TOTP != "" {
		fmt.Fprintf(w, "appPassword: otpauth://totp/%s?secret=%s\n", u.UID, u.TOTP)
	}
	fmt.Fprintln(w)
}

// ssha hashes as slapd does by default: salted SHA-1. The salt is the text's own: it need not be secret here.
func ssha(text string) string {
	salt := sha1.Sum([]byte("salt of " + text))
	sum := sha1.Sum(append([]byte(text), salt[:8]...))
	return "{SSHA}" + base64.StdEncoding.EncodeToString(append(sum[:], salt[:8]...))
}
