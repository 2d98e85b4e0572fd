package backend

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"appbind/auth"
	"appbind/config"
)

const slapdConf = `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
pidfile DIR/slapd.pid
modulepath /usr/lib/ldap
moduleload back_mdb
MODULES
attributetype ( 1.3.6.1.4.1.55555.1.1 NAME ( 'appPassword' 'mailSecret' )
  EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )
objectclass ( 1.3.6.1.4.1.55555.2.1 NAME 'appPasswordAccount' SUP top AUXILIARY MAY appPassword )
database mdb
suffix dc=example,dc=org
rootdn cn=admin,dc=example,dc=org
rootpw adminpw
directory DIR/db
OVERLAYS
access to attrs=userPassword,appPassword
  by dn.exact="cn=appbind,dc=example,dc=org" read
  by anonymous auth
access to *
  by dn.exact="cn=appbind,dc=example,dc=org" read
  by anonymous auth
`

const slapdTree = `dn: dc=example,dc=org
objectClass: domain
dc: example

dn: ou=people,dc=example,dc=org
objectClass: organizationalUnit
ou: people

dn: cn=appbind,dc=example,dc=org
objectClass: applicationProcess
objectClass: simpleSecurityObject
cn: appbind
userPassword: servicepw

dn: cn=policy,dc=example,dc=org
objectClass: device
POLICY
cn: policy

dn: uid=alice,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
objectClass: appPasswordAccount
uid: alice
cn: Alice
sn: Alice
userPassword: alicepw
appPassword: $app$phone$hash

dn: uid=bob,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: bob
cn: Bob
sn: Bob
userPassword: bobpw
`

// slapd starts a real slapd of its own on a loopback port, with or without
// ppolicy. With ldif, which is added to the tree, it has syncprov.
func slapd(t *testing.T, ppolicy bool, ldif ...string) config.URL {
	t.Helper()
	before := holding(t)
	dir := t.TempDir()
	conf, tree := strings.ReplaceAll(slapdConf, "DIR", dir), slapdTree+"\n"+strings.Join(ldif, "")
	if len(ldif) > 0 {
		conf = strings.NewReplacer("MODULES", "MODULES\nmoduleload syncprov", "OVERLAYS", "overlay syncprov\nOVERLAYS").Replace(conf)
	}
	if ppolicy {
		conf = strings.ReplaceAll(conf, "MODULES", "moduleload ppolicy")
		conf = strings.ReplaceAll(conf, "OVERLAYS", "overlay ppolicy\nppolicy_default cn=policy,dc=example,dc=org")
		tree = strings.ReplaceAll(tree, "POLICY", "objectClass: pwdPolicy\npwdAttribute: userPassword\npwdLockout: TRUE\npwdMaxFailure: 3\npwdFailureCountInterval: 600")
	}
	conf = strings.NewReplacer("MODULES", "", "OVERLAYS", "").Replace(conf)
	tree = strings.ReplaceAll(tree, "POLICY\n", "")
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	confFile := filepath.Join(dir, "slapd.conf")
	for name, content := range map[string]string{confFile: conf, filepath.Join(dir, "tree.ldif"): tree} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("slapadd", "-f", confFile, "-l", filepath.Join(dir, "tree.ldif")).CombinedOutput(); err != nil {
		t.Fatalf("slapadd: %v\n%s", err, out)
	}
	addr := freeAddress(t)
	cmd := exec.Command("slapd", "-d", "0", "-f", confFile, "-h", "ldap://"+addr+"/")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		settle(t, before) // what uses it is closed already
	})
	for deadline := time.Now().Add(10 * time.Second); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("slapd does not listen: %v\n%s", err, out.String())
		}
	}
	return config.URL{Scheme: "ldap", Address: addr, Host: "127.0.0.1"}
}

// freeAddress is a loopback address that nobody listens on now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func slapdConfig(url config.URL) *config.Config {
	cfg := testConfig(url)
	cfg.Users.Filter, cfg.Users.EnabledFilter = "(objectClass=inetOrgPerson)", "auto"
	cfg.Users.NameFilter = "(|(uid=%s)(mail=%s))"
	return cfg
}

// bindCode binds through the pool and returns the result code.
func bindCode(t *testing.T, u *Upstream, dn, password string) int32 {
	t.Helper()
	answer, l, err := u.Bind(testContext(t, 5*time.Second), dn, auth.Password(password), nil)
	if err != nil {
		t.Fatal(err)
	}
	u.Release(l)
	return answer.Code
}

func TestSlapdPpolicy(t *testing.T) {
	url := slapd(t, true)
	u := upstream(t, slapdConfig(url))
	info := u.Info()
	if info.Kind != KindOpenLDAP || info.Lockout != (auth.Lockout{MaxFailures: 3, Interval: 10 * time.Minute}) ||
		info.EnabledFilter != "(!(pwdAccountLockedTime=000001010000Z))" || info.Fingerprint != "attributes" {
		t.Fatalf("%+v", info)
	}
	if want := []string{"apppassword", ownOID, "1.3.6.1.4.1.55555.1.1", "mailsecret"}; !slices.Equal(info.SecretsNames, want) {
		t.Errorf("names %q, want %q", info.SecretsNames, want)
	}
	ctx := testContext(t, 20*time.Second)
	for _, name := range []string{alice, "alice", "userid=ALICE,organizationalUnitName=people,dc=example,dc=org",
		"0.9.2342.19200300.100.1.1=alice," + people, `uid=\61lice,` + people} {
		e, err := u.Find(ctx, name)
		if err != nil || e.DN != alice || !e.User || !e.Eligible || !strings.HasPrefix(e.Key, "entryuuid:") ||
			len(e.Values) != 1 || string(e.Values[0]) != "$app$phone$hash" {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
	// Setting the password gives it a time; a failed bind leaves the fingerprint, a lock does not.
	modify(t, url, "replace: userPassword\nuserPassword: newpw")
	e, err := u.Find(ctx, alice)
	if err != nil || e.State.Fingerprint == "" {
		t.Fatalf("%+v, %v", e, err)
	}
	before := e.State
	for i := range 3 {
		if code := bindCode(t, u, alice, fmt.Sprint("wrong", i)); code != 49 {
			t.Fatalf("code %d", code)
		}
		st, err := u.State(ctx, e)
		if err != nil || st.Fingerprint != before.Fingerprint || (st.Lock != before.Lock) != (i == 2) || st.Locked != (i == 2) || st.Failures != i+1 {
			t.Errorf("after %d failures: %+v, %v; before %+v", i+1, st, err, before)
		}
	}
	modify(t, url, "delete: pwdAccountLockedTime")
	if st, err := u.State(ctx, e); err != nil || st.Locked {
		t.Errorf("after the unlock: %+v, %v", st, err)
	}
	modify(t, url, "add: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z")
	if e, err := u.Find(ctx, alice); err != nil || e.Eligible || !e.User {
		t.Errorf("locked by an administrator: %+v, %v", e, err)
	}
	if got, err := u.Count(ctx); err != nil || got != (Counts{Users: 2, Eligible: 1}) {
		t.Errorf("counts %+v, %v", got, err)
	}
}

func TestSlapdWithoutPpolicy(t *testing.T) {
	u := upstream(t, slapdConfig(slapd(t, false)))
	info := u.Info()
	if info.Kind != KindOpenLDAP || info.EnabledFilter != "none" || info.Lockout.MaxFailures != 0 || info.Fingerprint != "entryCSN and attributes" {
		t.Fatalf("%+v", info)
	}
	ctx := testContext(t, 20*time.Second)
	e, err := u.Find(ctx, alice)
	if err != nil || e.State.Fingerprint == "" {
		t.Fatalf("%+v, %v", e, err)
	}
	for i := range 5 {
		if code := bindCode(t, u, alice, fmt.Sprint("wrong", i)); code != 49 {
			t.Fatalf("code %d", code)
		}
	}
	if code := bindCode(t, u, alice, "alicepw"); code != 0 {
		t.Fatalf("code %d", code)
	}
	if st, err := u.State(ctx, e); err != nil || st != e.State {
		t.Errorf("binds changed the state: %+v, %v", st, err)
	}
	if code := bindCode(t, u, u.AbsentDN(), "x"); code != 49 {
		t.Errorf("bind as the absent DN: %d", code)
	}
	for _, name := range []string{"uid=nobody," + people, "uid=alice,ou=nowhere,dc=example,dc=org", "nonsense=x", "dc=other"} {
		if e, err := u.Find(ctx, name); err != auth.ErrNotFound {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
	if e, err := u.Find(ctx, serviceDN); err != nil || e.User {
		t.Errorf("an entry that is no user: %+v, %v", e, err)
	}
}

// modify changes alice as the rootdn, with the relax control for operational attributes.
func modify(t *testing.T, url config.URL, change string) {
	t.Helper()
	cmd := exec.Command("ldapmodify", "-x", "-H", "ldap://"+url.Address, "-D", "cn=admin,dc=example,dc=org", "-w", "adminpw", "-e", "relax")
	cmd.Stdin = strings.NewReader("dn: " + alice + "\nchangetype: modify\n" + change + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ldapmodify: %v\n%s", err, out)
	}
}
