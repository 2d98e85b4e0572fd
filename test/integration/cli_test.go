package integration

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"appbind/test/directories"
	"appbind/test/postgres"
)

// upstream is a real directory for the tests of the command line.
type upstream struct {
	t                  testing.TB
	uri, root, rootPW  string
	service, servicePW string
	manage, managePW   string
	enabled            string // users.enabled_filter
	slapd              *slapd // nil: another one
	elsewhere          bool   // the history is no file of appbind's
	apply              func(ldif string) error
}

// upstreams are the directories; each has the users alice, bob and frank, who has not the class for app passwords.
func upstreams(t *testing.T) map[string]func(t *testing.T) *upstream {
	const frank = "uid=frank," + people
	return map[string]func(t *testing.T) *upstream{
		"slapd": func(t *testing.T) *upstream {
			s := startSlapd(t, slapdOptions{AccessLog: true, LDIF: "dn: " + frank + "\nobjectClass: inetOrgPerson\nuid: frank\ncn: F\nsn: F\n\n"})
			return &upstream{t: t, uri: s.uri(), root: adminDN, rootPW: adminPW, service: serviceDN, servicePW: servicePW, manage: manageDN, managePW: managePW,
				enabled: "(!(employeeType=disabled))", slapd: s, apply: func(ldif string) error { s.modify(ldif); return nil }}
		},
		"389": func(t *testing.T) *upstream {
			s, err := directories.Start389(shortDir(t))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Stop)
			u := &upstream{t: t, uri: "ldap://" + s.Address, root: s.Root, rootPW: s.RootPW, service: directories.Service, servicePW: directories.ServicePW,
				manage: directories.Manager, managePW: directories.ServicePW, enabled: "auto", apply: s.Modify}
			u.change(strings.ReplaceAll(person("alice", "alice-main")+person("bob", "bob-main"), "\nobjectClass: inetOrgPerson", "\nchangetype: add\nobjectClass: inetOrgPerson") +
				"dn: " + frank + "\nchangetype: add\nobjectClass: inetOrgPerson\nuid: frank\ncn: F\nsn: F\n\n")
			return u
		},
	}
}

// change applies LDIF.
func (u *upstream) change(ldif string) {
	u.t.Helper()
	if err := u.apply(ldif); err != nil {
		u.t.Fatal(err)
	}
}

// config is a configuration with one listener that believes contexts.
func (u *upstream) config(more string) string {
	return fmt.Sprintf(`listeners:
  - {url: 'ldap://127.0.0.1:0', context: trusted, service: imap}
upstream:
  urls: [%s]
  bind_dn: %s
  bind_password: %s
  manage_dn: %s
  manage_password: %s
users:
  bases: ["%s"]
  filter: (objectClass=inetOrgPerson)
  enabled_filter: %s
  name_filter: (uid=%%s)
state_dir: .
%s`, u.uri, u.service, u.servicePW, u.manage, u.managePW, people, u.enabled, more)
}

// all is everything below the users, as the directory tells it to its administrator: operational attributes too.
func (u *upstream) all() string {
	u.t.Helper()
	return must(u.t, "", "ldapsearch", "-x", "-LLL", "-o", "ldif-wrap=no", "-H", u.uri, "-D", u.root, "-w", u.rootPW, "-b", people, "*", "+")
}

// desk runs the command line with one configuration, and keeps what it said and was called with.
type desk struct {
	t    testing.TB
	file string
	mu   sync.Mutex // guards said
	said strings.Builder
}

// run runs a command; passwords that it shows are its result, and not what it said.
func (d *desk) run(stdin string, args ...string) result {
	d.t.Helper()
	args = append(args, "-c", d.file)
	r := command(d.t, stdin, binary, args...)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.said.WriteString(strings.Join(args, " ") + "\n" + passwordLine.ReplaceAllString(r.out, "") + r.err)
	return r
}

// passwordLine is where create shows a password.
var passwordLine = regexp.MustCompile(`"password":"[^"]*"|(?m)^password  .*$`)

// ok is run that has to succeed; it returns standard output.
func (d *desk) ok(args ...string) string {
	d.t.Helper()
	r := d.run("", args...)
	if r.code != 0 {
		d.t.Fatalf("%q: exit status %d\n%s%s", args, r.code, r.out, r.err)
	}
	return r.out
}

// fails demands an exit status, and that nothing but an error is told.
func (d *desk) fails(code int, says string, args ...string) {
	d.t.Helper()
	r := d.run("", args...)
	if r.code != code || r.out != "" || !strings.Contains(r.err, says) {
		d.t.Errorf("%q: exit status %d, want %d\n%s%s", args, r.code, code, r.out, r.err)
	}
}

// create makes an app password.
func (d *desk) create(args ...string) (made struct{ User, Label, ID, Password, Expires string }) {
	d.t.Helper()
	out := d.ok(append([]string{"passwords", "create", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.Password == "" {
		d.t.Fatalf("%v in %q", err, out)
	}
	return made
}

// onUpstreams runs a test with each directory, an appbind before it, and a command line beside it.
func onUpstreams(t *testing.T, more string, test func(t *testing.T, u *upstream, a *appbind, d *desk)) {
	for name, start := range upstreams(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := start(t)
			a := startAppbind(t, u.config(more))
			test(t, u, a, &desk{t: t, file: a.file})
		})
	}
}

// TestCommandLine is the life of app passwords, from the command line: what it says is what counts in binds
// at once, and nothing of a password stands anywhere but where it is shown.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	onUpstreams(t, "log: {level: debug}\n", commandLine)
}

// TestCommandLinePostgres is the same with a history in PostgreSQL, which the command line asks and tells of what it does.
func TestCommandLinePostgres(t *testing.T) {
	t.Parallel()
	db, err := postgres.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	url, err := db.Database()
	if err != nil {
		t.Fatal(err)
	}
	secret := shortDir(t) + "/postgres.password"
	write(t, secret, db.Password+"\n")
	u := upstreams(t)["slapd"](t)
	u.elsewhere = true
	a := startAppbind(t, u.config(fmt.Sprintf("log: {level: debug}\nhistory: {store: postgres, url: '%s', password_file: %s}\n", url, secret)))
	d := &desk{t: t, file: a.file}
	commandLine(t, u, a, d)
	// What the command line notes by itself, with nobody serving: the issue, and that it was revoked.
	later := d.create("--user", "bob", "--label", "later")
	d.ok("passwords", "revoke", "--user", "bob", "--id", later.ID, "--yes")
	if out := d.ok("history", "--user", "bob"); !strings.Contains(out, "later") || !strings.Contains(out, "gone") {
		t.Errorf("history: %s", out)
	}
	canaryFree(t, d.said.String()+a.output(), later.Password, db.Password)
}

// commandLine is what TestCommandLine does with one directory.
func commandLine(t *testing.T, u *upstream, a *appbind, d *desk) {
	bind := func(uid, context, password string, code int) {
		t.Helper()
		expectBind(t, a.uri(), userDN(uid)+context, password, code)
	}
	const home, away = ",rip=192.0.2.7,cn=appbind", ",rip=198.51.100.9,cn=appbind"
	phone := d.create("--user", "alice", "--label", "phone", "--expires", "90d")
	first := d.create("--user", userDN("frank"), "--label", "first one") // who has not the class yet
	bind("alice", home, phone.Password, 0)
	bind("frank", "", first.Password, 0)
	text := d.ok("passwords", "create", "--user", "alice", "--label", "tablet")
	tablet := strings.TrimSpace(strings.TrimPrefix(passwordLine.FindString(text), "password"))
	bind("alice", "", tablet, 0)

	d.fails(4, `"PHONE" is in use`, "passwords", "create", "--user", "alice", "--label", "PHONE")
	d.fails(3, "no such entry", "passwords", "create", "--user", "nobody", "--label", "x")
	d.fails(3, "", "passwords", "create", "--user", "*", "--label", "x")
	d.fails(3, "", "passwords", "revoke", "--user", "alice)(uid=*", "--all", "--yes")
	d.fails(3, "users.bases", "passwords", "list", "--user", u.service)

	d.ok("passwords", "scope", "--user", "alice", "--label", "phone", "--net", "192.0.2.0/24", "--service", "imap")
	bind("alice", home, phone.Password, 0)
	bind("alice", away, phone.Password, 49)
	bind("alice", ",svc=smtp"+home, phone.Password, 49)
	d.ok("passwords", "rename", "--user", "alice", "--id", phone.ID, "--to", "Café, phone=1")
	d.ok("passwords", "scope", "--user", "alice", "--label", "Café, phone=1", "--any-net", "--any-service")
	bind("alice", away, phone.Password, 0)

	u.change(changeOf("alice", "add", "appPassword", "$app$old;exp=20200101000000Z${SSHA256}10jYhPuy0yEWL7wlpSR/jaDGZ66nGJNUbt0l8wz79fZzYWx0c2FsdA=="))
	for range 2 { // the second time from a list that the first one wrote
		d.roundTrip(t, bind, phone.Password, tablet)
	}
	u.change(changeOf("alice", "add", "appPassword", "$app$old;exp=20200101000000Z${SSHA256}10jYhPuy0yEWL7wlpSR/jaDGZ66nGJNUbt0l8wz79fZzYWx0c2FsdA=="))
	if out := d.ok("passwords", "purge", "--json"); strings.Count(out, `"user"`) != 1 || !strings.Contains(out, `"label":"old"`) {
		t.Errorf("purge: %s", out)
	}
	d.ok("passwords", "renew", "--user", "alice", "--label", "tablet", "--expires", "2d")
	if out := d.ok("passwords", "list", "--expiring", "3d"); !strings.Contains(out, "tablet") || strings.Contains(out, "Café") {
		t.Errorf("list: %s", out)
	}

	d.ok("passwords", "revoke", "--user", "alice", "--id", phone.ID, "--yes")
	bind("alice", away, phone.Password, 49)
	bind("alice", "", tablet, 0)
	d.fails(3, "no app password", "passwords", "revoke", "--user", "alice", "--id", phone.ID, "--yes")
	if out := d.ok("passwords", "stats", "--json"); !strings.Contains(out, `"live":2,`) || !strings.Contains(out, `"users_with_app":2,`) {
		t.Errorf("stats: %s", out)
	}
	u.whoUsesWhat(a, d, phone.Password)

	a.stop(syscall.SIGTERM)
	canaries := []string{phone.Password, tablet, first.Password, strings.ReplaceAll(phone.Password, "-", "")}
	said := d.said.String() + a.output() + u.all()
	if u.slapd != nil {
		said += u.slapd.log() + must(t, "", "ldapsearch", "-x", "-LLL", "-o", "ldif-wrap=no", "-H", u.uri, "-D", u.root, "-w", u.rootPW, "-b", "cn=accesslog", "reqMod")
	}
	if found := leaks(said, canaries); len(found) > 0 {
		t.Errorf("%d leaks: %q", len(found), found)
	}
	if found := leaks(d.said.String()+a.output(), append(canaries, u.managePW, u.servicePW, "SSHA256")); len(found) > 0 {
		t.Errorf("%d leaks: %q", len(found), found)
	}
	if !u.elsewhere {
		filesHoldNone(t, stateDir(t, a), append(canaries, u.managePW, "SSHA256")...)
	}
}

// roundTrip exports everything, revokes all of alice's, and imports it again; the old one is refused.
func (d *desk) roundTrip(t *testing.T, bind func(uid, context, password string, code int), passwords ...string) {
	t.Helper()
	exported := command(t, "", binary, "passwords", "export", "--values", "-c", d.file) // which holds hashes: that is what it is for
	file := filepath.Join(filepath.Dir(d.file), "export.csv")
	write(t, file, exported.out)
	d.ok("passwords", "revoke", "--user", "alice", "--all", "--yes")
	for _, p := range passwords {
		bind("alice", "", p, 49)
	}
	r := d.run("", "passwords", "import", file)
	old := strings.Contains(exported.out, "$app$old")
	if want := map[bool]string{true: "imported 2, there already 1, refused 1\n", false: "imported 2, there already 1, refused 0\n"}[old]; r.out != want || old != (r.code == 1) {
		t.Errorf("import: exit status %d, %s%s", r.code, r.out, r.err)
	}
	for _, p := range passwords {
		bind("alice", "", p, 0)
	}
}

// whoUsesWhat demands what history and report tell after the logins of TestCommandLine.
func (u *upstream) whoUsesWhat(a *appbind, d *desk, revoked string) {
	u.t.Helper()
	expectBind(u.t, a.uri(), userDN("bob")+",svc=smtp,rip=192.0.2.8,cn=appbind", "bob-main", 0)
	expectBind(u.t, a.uri(), userDN("alice")+",rip=198.51.100.9,cn=appbind", revoked, 49)
	within(u.t, "the history is written", historyPatience, func() bool {
		return strings.Contains(d.ok("report", "--json"), `"reason":"no such app password"`) && strings.Contains(d.ok("report", "main-password", "--json"), "uid=bob")
	})
	out := d.ok("report", "main-password", "stale")
	for _, want := range []string{
		`(?m)^uid=bob,ou=people,dc=example,dc=org +smtp +1 .* 192\.0\.2\.8$`,
		`(?m)^uid=alice,ou=people,dc=example,dc=org +Café, phone=1 +\w{4} +no such app password +imap +198\.51\.100\.9 +[0-9]+ `,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			u.t.Errorf("report does not tell %s:\n%s", want, out)
		}
	}
	if out := d.ok("report", "no-app-password"); !strings.Contains(out, "uid=bob") || strings.Contains(out, "uid=alice") || strings.Contains(out, "uid=frank") || strings.Contains(out, "uid=carol") {
		u.t.Errorf("report: %s", out)
	}
	out = d.ok("history", "--user", "alice")
	for _, want := range []string{`(?m)^Café, phone=1 +\w{4} +gone, revoked by `, `(?m)^tablet +\w{4} +live +20`, `(?m) Café, phone=1 .* accepted +imap +192\.0\.2\.7 `} {
		if !regexp.MustCompile(want).MatchString(out) {
			u.t.Errorf("history does not tell %s:\n%s", want, out)
		}
	}
}

// TestDryRun: with --dry-run, and where it refuses, every command leaves every entry as it is, to the last operational attribute.
func TestDryRun(t *testing.T) {
	t.Parallel()
	onUpstreams(t, "", func(t *testing.T, u *upstream, a *appbind, d *desk) {
		d.create("--user", "alice", "--label", "phone")
		d.create("--user", "alice", "--label", "tablet", "--service", "imap")
		u.change(changeOf("alice", "add", "appPassword", "$app$old;exp=20200101000000Z${SSHA256}10jYhPuy0yEWL7wlpSR/jaDGZ66nGJNUbt0l8wz79fZzYWx0c2FsdA=="))
		csv := filepath.Join(filepath.Dir(d.file), "new.csv")
		write(t, csv, "user,label,hash\nbob,new,{SSHA256}10jYhPuy0yEWL7wlpSR/jaDGZ66nGJNUbt0l8wz79fZzYWx0c2FsdA==\n")
		before := u.all()
		history := func() string {
			out := d.run("", "history", "--user", "alice", "--json").out
			return out[strings.Index(out, `"passwords"`)+1:]
		}
		known := history()
		for _, args := range [][]string{
			{"create", "--user", "bob", "--label", "x"}, {"create", "--user", "frank", "--label", "x"},
			{"renew", "--user", "alice", "--label", "phone", "--expires", "9d"}, {"rename", "--user", "alice", "--label", "phone", "--to", "x"},
			{"scope", "--user", "alice", "--label", "phone", "--service", "smtp"}, {"revoke", "--user", "alice", "--label", "phone"},
			{"revoke", "--user", "alice", "--all"}, {"revoke", "--user", "alice", "--expired"}, {"purge"}, {"purge", "--grace", "0d"}, {"import", "--expires", "9d", csv},
		} {
			if out := d.ok(append(append([]string{"passwords"}, args...), "--dry-run")...); !strings.Contains(out, "would be") {
				t.Errorf("%q: %s", args, out)
			}
			d.ok(append(append([]string{"passwords"}, args...), "--dry-run", "--json")...)
		}
		for _, args := range [][]string{
			{"create", "--user", "alice", "--label", "phone"}, {"create", "--user", "alice", "--label", "x", "--expires", "never"},
			{"rename", "--user", "alice", "--label", "phone", "--to", "tablet"}, {"renew", "--user", "alice", "--label", "phone", "--expires", "9999d"},
			{"revoke", "--user", "alice", "--label", "phone"}, // standard input is empty, which is no answer
		} {
			if r := d.run("", append([]string{"passwords"}, args...)...); r.code == 0 {
				t.Errorf("%q: %s", args, r.out)
			}
		}
		for _, args := range [][]string{{"passwords", "list"}, {"passwords", "show", "--user", "alice", "--label", "phone"}, {"passwords", "export", "--values"}, {"passwords", "stats"}, {"report", "no-app-password"}} {
			d.ok(args...)
		}
		if after := u.all(); after != before {
			t.Errorf("before\n%s\nafter\n%s", before, after)
		}
		if after := history(); after != known {
			t.Errorf("history before\n%s\nafter\n%s", known, after)
		}
	})
}

// TestImports: what Stalwart 0.15, IXP Manager and others have stored logs in here, and what is in clear is refused and told to nobody.
func TestImports(t *testing.T) {
	t.Parallel()
	onUpstreams(t, "", func(t *testing.T, u *upstream, a *appbind, d *desk) {
		const stalwart, ixp, generic, canary = "stalwart-secret-1", "ixp-secret-22", "generic-secret-3", "canary-in-clear"
		salt := strings.Repeat("0123456789abcdef", 4)
		dir := filepath.Dir(d.file)
		files := map[string]string{
			"stalwart.csv": "user,value\nalice,$app$" + base64.StdEncoding.EncodeToString([]byte("my tablet$2025-03-01T10:00:00Z")) + "$" + bcryptOf(t, stalwart, 4) +
				"\nalice," + canary + "\n",
			"ixp.csv": "id,username,description,password,salt,expires,created_at\n1,alice,ixp phone," + fmt.Sprintf("%x", sha256.Sum256([]byte(ixp+salt))) + "," + salt +
				"," + time.Now().AddDate(0, 3, 0).Format(time.DateOnly) + " 00:00:00,2025-01-01 00:00:00\n2,bob,laptop," + strings.Replace(bcryptOf(t, ixp, 4), "$2a$", "$2y$", 1) + ",," + time.Now().AddDate(0, 3, 0).Format(time.DateOnly) + ",\n3,bob,plain," + canary + ",,,\n",
			"generic.csv": "\ufeffUser, Label, Hash, Services, Networks\n\"" + userDN("bob") + "\",\"desk, left\"," + bcryptOf(t, generic, 4) + ",imap smtp,192.0.2.0/24\nnobody,x," + bcryptOf(t, generic, 4) + ",,\n",
		}
		for name, want := range map[string]string{"stalwart.csv": "imported 1, there already 0, refused 1\n", "ixp.csv": "imported 2, there already 0, refused 1\n", "generic.csv": "imported 1, there already 0, refused 1\n"} {
			write(t, filepath.Join(dir, name), files[name])
			r := d.run("", "passwords", "import", "--expires", "60d", filepath.Join(dir, name))
			if r.code != 1 || r.out != want {
				t.Errorf("%s: exit status %d, %s%s", name, r.code, r.out, r.err)
			}
			again := d.run("", "passwords", "import", "--expires", "60d", filepath.Join(dir, name))
			if !strings.HasPrefix(again.out, "imported 0, there already ") {
				t.Errorf("%s once more: %s%s", name, again.out, again.err)
			}
		}
		home := func(uid string) string { return userDN(uid) + ",rip=192.0.2.7,cn=appbind" }
		expectBind(t, a.uri(), home("alice"), stalwart, 0)
		expectBind(t, a.uri(), home("alice"), ixp, 0)
		expectBind(t, a.uri(), home("bob"), ixp, 0)
		expectBind(t, a.uri(), home("bob"), generic, 0)
		expectBind(t, a.uri(), userDN("bob")+",rip=198.51.100.7,cn=appbind", generic, 49)
		expectBind(t, a.uri(), home("bob"), canary, 49)
		if out := d.ok("passwords", "list", "--user", "alice"); !strings.Contains(out, "my tablet") || strings.Contains(out, "never") {
			t.Errorf("list: %s", out)
		}
		if found := leaks(d.said.String()+a.output()+u.all(), []string{stalwart, ixp, generic, canary}); len(found) > 0 {
			t.Errorf("%d leaks: %q", len(found), found)
		}
	})
}

// TestSharedAttribute: where app passwords stand beside the directory's own passwords, no command touches or shows those.
func TestSharedAttribute(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	config := strings.Replace(baseConfig(s, "", "app_passwords: {attribute: userPassword}\n"), "bind_dn: "+serviceDN+"\n  bind_password: "+servicePW, "bind_dn: "+adminDN+"\n  bind_password: "+adminPW, 1)
	a := startAppbind(t, config)
	d := &desk{t: t, file: a.file}
	made := d.create("--user", userDN("alice"), "--label", "phone")
	expectBind(t, a.uri(), userDN("alice"), made.Password, 0)
	if out := d.ok("passwords", "list", "--json"); strings.Count(out, `"user"`) != 1 {
		t.Errorf("list: %s", out)
	}
	if out := d.ok("passwords", "export", "--values"); strings.Count(out, "\n") != 2 || strings.Contains(out, "-main") {
		t.Errorf("export: %s", out)
	}
	d.ok("passwords", "revoke", "--user", userDN("alice"), "--all", "--yes")
	d.ok("passwords", "purge", "--grace", "0d")
	for _, uid := range []string{"alice", "bob", "dave"} {
		expectBind(t, s.uri(), userDN(uid), uid+"-main", 0) // at the directory: in clear, as it is there, it is no password here
	}
	expectBind(t, a.uri(), userDN("alice"), made.Password, 49)
	canaryFree(t, d.said.String(), "alice-main", "bob-main")
}

// TestOneOfMany: of several who make the same label at once with the command, at most one gets it, and what was
// shown is what is stored; of several who revoke it none fails.
func TestOneOfMany(t *testing.T) {
	t.Parallel()
	onUpstreams(t, "", func(t *testing.T, u *upstream, a *appbind, d *desk) {
		const many = 8
		var results [many]result
		all := func(args ...string) {
			var wg sync.WaitGroup
			for i := range many {
				wg.Go(func() { results[i] = d.run("", args...) })
			}
			wg.Wait()
		}
		all("passwords", "create", "--json", "--user", "alice", "--label", "phone")
		shown := 0
		for _, r := range results {
			if r.code == 0 {
				shown++
				expectBind(t, a.uri(), userDN("alice"), passwordIn(t, r.out), 0)
			} else if r.code != 4 || r.out != "" {
				t.Errorf("exit status %d, %s%s", r.code, r.out, r.err)
			}
		}
		if shown > 1 || strings.Count(u.all(), "appPassword: ") != shown || u.slapd != nil && shown != 1 {
			t.Errorf("%d were shown; the directory has\n%s", shown, u.all())
		}
		if shown == 0 {
			d.create("--user", "alice", "--label", "phone")
		}
		all("passwords", "revoke", "--user", "alice", "--label", "phone", "--yes")
		gone := 0
		for _, r := range results {
			if r.code == 0 {
				gone++
			} else if r.code != 3 {
				t.Errorf("exit status %d, %s%s", r.code, r.out, r.err)
			}
		}
		if gone == 0 || strings.Contains(u.all(), "appPassword: ") {
			t.Errorf("%d revoked it; the directory has\n%s", gone, u.all())
		}
	})
}

// passwordIn is the password that create --json shows.
func passwordIn(t testing.TB, out string) string {
	t.Helper()
	var made struct{ Password string }
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		t.Fatal(err)
	}
	return made.Password
}

// TestCommandLineUnavailable: a directory that is away, hangs, or refuses is an exit status, and nothing is shown.
func TestCommandLineUnavailable(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	config := managing(t, s, "", "") + "log: {level: debug}\n"
	config = replaceOnce(t, config, "  bind_dn:", "  operation_timeout: 2s\n  connect_timeout: 1s\n  bind_timeout: 2s\n  bind_dn:")
	d := &desk{t: t, file: shortDir(t) + "/appbind.yaml"}
	create := []string{"passwords", "create", "--user", userDN("alice"), "--label", "phone"}
	write(t, d.file, config)
	write(t, d.file, replaceOnce(t, config, "manage_password: "+managePW, "manage_password: canary-wrong"))
	d.fails(5, "check upstream.manage_dn", create...)
	write(t, d.file, replaceOnce(t, config, "manage_dn: "+manageDN+"\n  manage_password: "+managePW, "manage_dn: ''"))
	d.fails(1, "result 50", create...)
	write(t, d.file, config)
	s.signal(syscall.SIGSTOP)
	began := time.Now()
	d.fails(5, "", create...)
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("a directory that hangs holds it up for %v", took)
	}
	s.signal(syscall.SIGCONT)
	s.kill()
	d.fails(5, "", create...)
	d.fails(5, "", "passwords", "list")
	d.fails(5, "", "report", "no-app-password")
	if found := leaks(d.said.String(), []string{managePW, servicePW, "canary-wrong"}); len(found) > 0 {
		t.Errorf("%q", found)
	}
	if files, err := filepath.Glob(filepath.Dir(d.file) + "/*"); err != nil || len(files) != 1 {
		t.Errorf("left behind: %q, %v", files, err)
	}
}
