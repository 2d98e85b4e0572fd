// Package schema_test loads the files of this directory into a real slapd, both
// ways that there are, and holds the access rules to what they promise.
package schema_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const (
	people  = "ou=people,dc=example,dc=org"
	alice   = "uid=alice," + people
	bob     = "uid=bob," + people
	service = "cn=appbind,ou=services,dc=example,dc=org"
	manager = "cn=appbind-manage,ou=services,dc=example,dc=org"
	other   = "cn=dovecot,ou=services,dc=example,dc=org"
	root    = "cn=admin,dc=example,dc=org"

	phone  = "$app$phone$hash1"
	laptop = "$app$laptop;id=abcd$hash2"
)

// broadRules are what sites have: the user may write what is his, others read
// the rest, the passwords' rule even names our attribute.
const broadRules = `access to attrs=userPassword by self write by anonymous auth by * none
access to * by self write by * read
`

// tree is alice with two app passwords, bob with none and without the class, and the identities.
func tree() string {
	var b strings.Builder
	b.WriteString("dn: dc=example,dc=org\nobjectClass: dcObject\nobjectClass: organization\no: example\n\n")
	for _, ou := range []string{"people", "services"} {
		fmt.Fprintf(&b, "dn: ou=%s,dc=example,dc=org\nobjectClass: organizationalUnit\n\n", ou)
	}
	for _, cn := range []string{"appbind", "appbind-manage", "dovecot"} {
		fmt.Fprintf(&b, "dn: cn=%s,ou=services,dc=example,dc=org\nobjectClass: applicationProcess\nobjectClass: simpleSecurityObject\nuserPassword: pass-word\n\n", cn)
	}
	fmt.Fprintf(&b, "dn: %s\nobjectClass: inetOrgPerson\nobjectClass: appPasswordAccount\ncn: Alice\nsn: A\nuserPassword: pass-word\nappPassword: %s\nappPassword: %s\n\n", alice, phone, laptop)
	fmt.Fprintf(&b, "dn: %s\nobjectClass: inetOrgPerson\ncn: Bob\nsn: B\nuserPassword: pass-word\n\n", bob)
	return b.String()
}

// classic starts a slapd with slapd.conf: the schema by include, and rules before the broad ones.
func classic(t *testing.T, rules string) *server {
	t.Helper()
	s := newServer(t)
	conf := s.file(t, "slapd.conf", `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include @HERE@/openldap/appbind.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile @DIR@/slapd.pid
sizelimit 1
database mdb
maxsize 16777216
suffix dc=example,dc=org
rootdn `+root+`
rootpw pass-word
directory @DIR@/db
`+rules+broadRules)
	must(t, "", "slapadd", "-q", "-f", conf, "-l", s.file(t, "tree.ldif", tree()))
	s.start(t, "-f", conf)
	return s
}

// dynamic starts a slapd with cn=config and loads the schema and the rules into
// it while it runs, with the commands that the files themselves tell.
func dynamic(t *testing.T) *server {
	t.Helper()
	s := newServer(t)
	config := s.configure(t, "")
	s.start(t, "-F", config)
	must(t, "", "ldapadd", "-Q", "-Y", "EXTERNAL", "-H", s.url, "-f", "openldap/appbind.ldif")
	must(t, "", "ldapadd", append(s.as(root), "-f", s.file(t, "tree.ldif", tree()))...)
	must(t, "", "ldapmodify", "-Q", "-Y", "EXTERNAL", "-H", s.url, "-f", "openldap/access.ldif")
	return s
}

// configure makes a cn=config with slapadd, more LDIF going before the database.
func (s *server) configure(t *testing.T, more string) string {
	t.Helper()
	config := filepath.Join(s.dir, "config")
	if err := os.Mkdir(config, 0o700); err != nil {
		t.Fatal(err)
	}
	var rules []string
	for _, rule := range strings.Split(strings.TrimSpace(broadRules), "\n") {
		rules = append(rules, "olcAccess: "+strings.TrimPrefix(rule, "access "))
	}
	me := fmt.Sprintf("gidNumber=%d+uidNumber=%d,cn=peercred,cn=external,cn=auth", os.Getgid(), os.Getuid())
	ldif := s.file(t, "config.ldif", `dn: cn=config
objectClass: olcGlobal
cn: config
olcSizeLimit: 1
olcPidFile: @DIR@/slapd.pid

dn: cn=module{0},cn=config
objectClass: olcModuleList
cn: module{0}
olcModulePath: /usr/lib/ldap
olcModuleLoad: back_mdb

dn: cn=schema,cn=config
objectClass: olcSchemaConfig
cn: schema

include: file:///etc/ldap/schema/core.ldif

include: file:///etc/ldap/schema/cosine.ldif

include: file:///etc/ldap/schema/inetorgperson.ldif

`+more+`dn: olcDatabase={0}config,cn=config
objectClass: olcDatabaseConfig
olcDatabase: {0}config
olcAccess: to * by dn.exact=`+me+` manage by * none

dn: olcDatabase={1}mdb,cn=config
objectClass: olcDatabaseConfig
objectClass: olcMdbConfig
olcDatabase: {1}mdb
olcDbMaxSize: 16777216
olcSuffix: dc=example,dc=org
olcRootDN: `+root+`
olcRootPW: pass-word
olcDbDirectory: @DIR@/db
`+strings.Join(rules, "\n")+"\n")
	must(t, "", "slapadd", "-n", "0", "-F", config, "-l", ldif)
	return config
}

// TestSlapdConf and TestCnConfig hold the rules to the same promises.
func TestSlapdConf(t *testing.T) {
	t.Parallel()
	checkRules(t, classic(t, "include @HERE@/openldap/access.conf\n"))
}

func TestCnConfig(t *testing.T) {
	t.Parallel()
	checkRules(t, dynamic(t))
}

// TestSchemaBySlapadd loads the schema into a cn=config that is being made.
func TestSchemaBySlapadd(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start(t, "-F", s.configure(t, "include: file://@HERE@/openldap/appbind.ldif\n\n"))
	must(t, "", "ldapadd", append(s.as(root), "-f", s.file(t, "tree.ldif", tree()))...)
	if code, entries, values := s.search(t, root, "(appPassword="+phone+")"); code != 0 || entries != 1 || values != 2 {
		t.Errorf("by equality: code %d, %d entries, %d values", code, entries, values)
	}
}

// TestWithoutRules shows what the rules are for: each promise is broken by the
// broad rules alone, or if ours come after them.
func TestWithoutRules(t *testing.T) {
	t.Parallel()
	s := classic(t, "")
	if _, _, values := s.search(t, "", "(uid=alice)", "appPassword"); values != 2 {
		t.Errorf("anonymous reads %d values, want 2: the broad rules are not broad", values)
	}
	if code := s.modify(t, alice, alice, "add: appPassword\nappPassword: $app$evil$x"); code != 0 {
		t.Errorf("alice cannot write her own: %d", code)
	}
	if code := s.modify(t, manager, alice, "add: appPassword\nappPassword: $app$new$x"); code != 50 {
		t.Errorf("the manager can write without a rule: %d", code)
	}
}

// checkRules: only the service identity reads, only the manager writes.
func checkRules(t *testing.T, s *server) {
	t.Helper()
	for _, who := range []string{"", alice, bob, other} {
		checkShutOut(t, s, who)
	}
	checkService(t, s)
	checkManager(t, s)
	// Nothing of what was refused has happened, and nothing else was lost.
	if _, _, values := s.search(t, root, "(uid=alice)", "appPassword"); values != 2 {
		t.Errorf("alice has %d values at the end, want 2", values)
	}
	// The class is no secret: broad rules still show it.
	if _, entries, _ := s.search(t, bob, "(objectClass=appPasswordAccount)"); entries != 1 {
		t.Errorf("bob finds %d accounts by the class, want 1", entries)
	}
	// The rules leave the others to the site: a user still changes what is his.
	if code := s.modify(t, alice, alice, "replace: userPassword\nuserPassword: new"); code != 0 {
		t.Errorf("alice changes her password: %d", code)
	}
}

// checkShutOut: who neither sees nor guesses nor changes an app password, be it his own.
func checkShutOut(t *testing.T, s *server, who string) {
	t.Helper()
	if code, entries, values := s.search(t, who, "(uid=alice)", "*", "appPassword"); code != 0 || entries != 1 || values != 0 {
		t.Errorf("%q: code %d, %d entries, %d values; want the entry without values", who, code, entries, values)
	}
	for _, filter := range []string{"(appPassword=*)", "(!(appPassword=*))", "(appPassword=" + phone + ")",
		"(2.25.302488783916863150299710732887557678725.1.1=*)", "(!(appPassword=" + phone + "))"} {
		if code, entries, _ := s.search(t, who, filter); code != 0 || entries != 0 {
			t.Errorf("%q: %s: code %d, %d entries; want none", who, filter, code, entries)
		}
	}
	for _, value := range []string{phone, "$app$other$x"} {
		if _, code := run(t, "", "ldapcompare", append(s.as(who), alice, "appPassword:"+value)...); code != 50 {
			t.Errorf("%q: compare %s: %d, want 50", who, value, code)
		}
	}
	refused := 50
	if who == "" {
		refused = 8 // slapd wants a bind before any change
	}
	for _, change := range []string{"add: appPassword\nappPassword: $app$evil$x", "delete: appPassword\nappPassword: " + phone,
		"delete: appPassword", "replace: appPassword\nappPassword: $app$evil$x"} {
		if code := s.modify(t, who, alice, change); code != refused {
			t.Errorf("%q: %q: %d, want %d", who, change, code, refused)
		}
	}
}

// checkService: the service identity reads all, beyond the size limit, and writes nothing.
func checkService(t *testing.T, s *server) {
	t.Helper()
	if _, _, values := s.search(t, service, "(uid=alice)", "appPassword"); values != 2 {
		t.Errorf("the service reads %d values, want 2", values)
	}
	if code, entries, _ := s.search(t, service, "(objectClass=*)"); code != 0 || entries != 3 {
		t.Errorf("the service: code %d, %d entries; want 3, whatever the size limit", code, entries)
	}
	if code, _, _ := s.search(t, other, "(objectClass=*)"); code != 4 {
		t.Errorf("another account: code %d, want 4: the size limit is not in force", code)
	}
	for entry, change := range map[string]string{
		alice: "add: appPassword\nappPassword: $app$new$x",
		bob:   "add: objectClass\nobjectClass: appPasswordAccount",
	} {
		if code := s.modify(t, service, entry, change); code != 50 {
			t.Errorf("the service: %q: %d, want 50", change, code)
		}
	}
}

// checkManager: the managing identity adds and deletes single values, and the class that they need, and nothing else.
func checkManager(t *testing.T, s *server) {
	t.Helper()
	add, remove := "add: appPassword\nappPassword: $app$new$x", "delete: appPassword\nappPassword: "
	for _, c := range []struct {
		what, entry string
		changes     []string
		want        int
	}{
		{"add a value", alice, []string{add}, 0},
		{"add it again", alice, []string{add}, 20},
		{"delete a value that is not there", alice, []string{remove + "$app$new$y"}, 16},
		{"delete a value in another case", alice, []string{remove + "$APP$new$x"}, 16},
		{"delete one exact value", alice, []string{remove + "$app$new$x"}, 0},
		{"swap one for another", alice, []string{remove + phone, "add: appPassword\nappPassword: $app$phone$rehashed"}, 0},
		{"and back", alice, []string{remove + "$app$phone$rehashed", "add: appPassword\nappPassword: " + phone}, 0},
		{"value without the class", bob, []string{add}, 65},
		{"class and value at once", bob, []string{"add: objectClass\nobjectClass: appPasswordAccount", add}, 0},
		{"class and value taken back", bob, []string{"delete: appPassword", "delete: objectClass\nobjectClass: appPasswordAccount"}, 0},
		{"another class", bob, []string{"add: objectClass\nobjectClass: simpleSecurityObject"}, 50},
		{"take another class", alice, []string{"delete: objectClass\nobjectClass: inetOrgPerson"}, 50},
		{"a main password", alice, []string{"replace: userPassword\nuserPassword: evil"}, 50},
		{"another attribute", alice, []string{"replace: description\ndescription: x"}, 50},
	} {
		if code := s.modify(t, manager, c.entry, c.changes...); code != c.want {
			t.Errorf("the manager: %s: %d, want %d", c.what, code, c.want)
		}
	}
	if _, _, values := s.search(t, manager, "(uid=alice)", "appPassword"); values != 2 {
		t.Errorf("the manager reads %d values, want 2", values)
	}
}

// TestSameIdentifiers: one attribute and one class, with the same OIDs in every
// file; Active Directory has the same UUID in Microsoft's form.
func TestSameIdentifiers(t *testing.T) {
	t.Parallel()
	const arc = "2.25.302488783916863150299710732887557678725"
	space := regexp.MustCompile(`\s+`)
	for _, file := range []string{"openldap/appbind.schema", "openldap/appbind.ldif", "389ds/60appbind.ldif"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		flat := space.ReplaceAllString(string(text), " ")
		for _, want := range []string{
			"( " + arc + ".1.1 NAME 'appPassword' DESC 'An app password: $app$NAME$HASH' EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 ",
			"( " + arc + ".2.1 NAME 'appPasswordAccount' DESC 'An account that may have app passwords' SUP top AUXILIARY MAY appPassword ",
		} {
			if strings.Count(flat, want) != 1 {
				t.Errorf("%s: not exactly once: %s", file, want)
			}
		}
	}
	const microsoft = "1.2.840.113556.1.8000.2554.58257.14462.26067.18784.35612.13367871.10233477"
	for file, want := range map[string]string{
		"ad/schema-attribute.ldif": "attributeID: " + microsoft + ".1.1\n",
		"ad/schema-class.ldif":     "governsID: " + microsoft + ".2.1\n",
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), want) || file == "ad/schema-attribute.ldif" && !strings.Contains(string(text), "\nsearchFlags: 128\n") {
			t.Errorf("%s: no %s, or not confidential", file, want)
		}
	}
}

// TestVirtualEntriesSchema: the definitions that appbind adds to the subschema are ones that slapd understands.
func TestVirtualEntriesSchema(t *testing.T) {
	s := newServer(t)
	must(t, "", "slaptest", "-u", "-f", s.file(t, "slapd.conf", `include /etc/ldap/schema/core.schema
include @HERE@/openldap/appbind.schema
include @HERE@/virtual-entries.schema
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
suffix dc=example,dc=org
directory @DIR@/db
`))
}
