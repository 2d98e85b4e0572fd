package integration

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"appbind/test/directories"
)

// many is more users than a directory answers at once: OpenLDAP 500, Active Directory and Samba 1,000.
const many = 1201

// manySite is a directory with many users: u0 to u1200, each with one app password. That of every
// eighth has expired long ago.
type manySite struct {
	t               testing.TB
	uri             string
	service, manage [2]string // DN and password
	filter, names   string
	add             func(ldif string)
	user            func(name, value string) string
	live, old       appPassword
}

// manySites are the directories, none of which was told to give longer answers, but for OpenLDAP in pages.
var manySites = map[string]func(t *testing.T) *manySite{
	"slapd": func(t *testing.T) *manySite {
		return manyOnSlapd(t, fmt.Sprintf("limits dn.exact=%q size.prtotal=unlimited", serviceDN))
	},
	"389": func(t *testing.T) *manySite {
		m := manyOn(t, directories.Start389)
		m.filter, m.names = "(objectClass=inetOrgPerson)", "(uid=%s)"
		m.user = func(name, value string) string {
			return fmt.Sprintf("dn: %s\nchangetype: add\nobjectClass: inetOrgPerson\nobjectClass: appPasswordAccount\ncn: %s\nsn: %s\nappPassword: %s\n\n", userDN(name), name, name, value)
		}
		return m
	},
	"samba": func(t *testing.T) *manySite {
		m := manyOn(t, directories.StartSamba)
		m.filter, m.names = "(objectClass=user)", "(sAMAccountName=%s)"
		m.user = func(name, value string) string { // without a password, which would take it longer
			return fmt.Sprintf("dn: CN=%s,%s\nchangetype: add\nobjectClass: user\nsAMAccountName: %s\nuserAccountControl: 544\nappPassword: %s\n\n", name, people, name, value)
		}
		return m
	},
}

func manyOn(t *testing.T, start func(string) (*directories.Server, error)) *manySite {
	s, err := start(shortDir(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return &manySite{t: t, uri: "ldap://" + s.Address, service: [2]string{directories.Service, directories.ServicePW}, manage: [2]string{directories.Manager, directories.ServicePW},
		add: func(ldif string) {
			t.Helper()
			if err := s.Modify(ldif); err != nil {
				t.Fatal(err)
			}
		}}
}

func manyOnSlapd(t *testing.T, limits string) *manySite {
	s := startSlapd(t, slapdOptions{Limits: limits})
	return &manySite{t: t, uri: s.uri(), service: [2]string{serviceDN, servicePW}, manage: [2]string{manageDN, managePW}, filter: "(uid=u*)", names: "(uid=%s)", add: s.modify,
		user: func(name, value string) string {
			return fmt.Sprintf("dn: %s\nchangetype: add\nobjectClass: inetOrgPerson\nobjectClass: appPasswordAccount\nuid: %s\ncn: %s\nsn: %s\nappPassword: %s\n\n", userDN(name), name, name, name, value)
		}}
}

// fill adds the users.
func (m *manySite) fill() {
	m.t.Helper()
	m.live, m.old = newPassword(m.t, "live"), newPassword(m.t, "old")
	old := expiring(m.t, m.old, -60*24*time.Hour)
	var ldif strings.Builder
	for i := range many {
		value := m.live.Value
		if i%8 == 0 {
			value = old
		}
		ldif.WriteString(m.user(fmt.Sprint("u", i), value))
	}
	began := time.Now()
	m.add(ldif.String())
	m.t.Logf("%d users added within %v", many, time.Since(began).Round(time.Millisecond))
}

// desk is an appbind before the directory, and the command line. The account that writes is the manager.
func (m *manySite) desk() (*appbind, *desk) {
	m.t.Helper()
	a := startAppbind(m.t, fmt.Sprintf(`listeners:
  - {url: 'ldap://127.0.0.1:0'}
upstream:
  urls: [%s]
  bind_dn: %s
  bind_password: %s
  manage_dn: %s
  manage_password: %s
users:
  bases: ["%s"]
  filter: %s
  name_filter: %s
service_accounts: [%q]
managers: [%q]
state_dir: .
`, m.uri, m.service[0], m.service[1], m.manage[0], m.manage[1], people, m.filter, m.names, m.manage[0], m.manage[0]))
	return a, &desk{t: m.t, file: a.file}
}

// listOf is what a command says as JSON.
func listOf(t testing.TB, out string, to any) {
	t.Helper()
	if err := json.Unmarshal([]byte(out), to); err != nil {
		t.Fatalf("%v in %.200q", err, out)
	}
}

// virtual are the virtual entries that a manager sees of all users.
func (m *manySite) virtual(a *appbind, args ...string) ([]string, result) {
	m.t.Helper()
	list, r := seen(m.t, a.uri(), m.manage[0], m.manage[1], append(args, "-b", people, "(objectClass=appPasswordEntry)", "appPasswordLabel")...)
	slices.Sort(list)
	return slices.Compact(list), r
}

// TestManyUsers: what reads all users reads all of them, on directories that answer no search for so many at once: lists,
// reports, jobs that write while there are more pages than one to change, and a manager's search.
func TestManyUsers(t *testing.T) {
	t.Parallel()
	for name, start := range manySites {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := start(t)
			m.fill()
			a, d := m.desk()
			const expired, live = many/8 + 1, many - many/8 - 1
			type row struct{ User, Label, State string }
			list := func() (rows []row) {
				listOf(t, d.ok("passwords", "list", "--json"), &rows)
				return rows
			}
			users := map[string]bool{}
			for _, r := range list() {
				users[r.User] = true
			}
			if len(users) != many {
				t.Errorf("list: %d users", len(users))
			}
			if r := d.run("", "check"); !strings.Contains(r.out, fmt.Sprintf("%d entries match", many)) || !strings.Contains(r.out, "none met") {
				t.Errorf("check:\n%s%s", r.out, r.err)
			}
			var stats struct{ Users, Live, Expired int }
			listOf(t, d.ok("passwords", "stats", "--json"), &stats)
			if stats.Users != many || stats.Live != live || stats.Expired != expired {
				t.Errorf("stats: %+v", stats)
			}
			var report struct {
				None []any `json:"no_app_password"`
			}
			listOf(t, d.ok("report", "no-app-password", "--json"), &report)
			if len(report.None) != expired {
				t.Errorf("report: %d without", len(report.None))
			}
			if n := strings.Count(d.ok("passwords", "export"), "\n"); n < many {
				t.Errorf("export: %d lines", n)
			}
			for _, args := range [][]string{nil, {"-E", "pr=400/noprompt"}} {
				if got, r := m.virtual(a, args...); len(got) != many || r.code != 0 {
					t.Errorf("a manager's search, %q: %d entries, code %d %s", args, len(got), r.code, r.err)
				}
			}
			if out := d.ok("purge", "--only", "passwords", "--yes"); !strings.Contains(out, fmt.Sprintf("removed: %d app passwords", expired)) {
				t.Errorf("purge: %.200s", out)
			}
			rows := list()
			for _, r := range rows {
				if r.Label != "live" {
					t.Errorf("left: %+v", r)
				}
			}
			if len(rows) != live {
				t.Errorf("after the purge: %d", len(rows))
			}
			if got, r := m.virtual(a, "-E", "pr=1000/noprompt"); len(got) != live || r.code != 0 {
				t.Errorf("a manager's search after the purge: %d entries, code %d %s", len(got), r.code, r.err)
			}
			canaryFree(t, a.output()+d.said.String(), m.live.Password, m.old.Password)
		})
	}
}

// TestManyUsersCutShort: where the directory gives appbind's account no more than 500 entries even in pages, as OpenLDAP does
// unless it is told otherwise, nothing is taken for whole, nothing is done by halves, and it is said what to raise.
func TestManyUsersCutShort(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]string{
		"by default": "",
		"no pages":   fmt.Sprintf("limits dn.exact=%q size.prtotal=disabled", serviceDN),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := manyOnSlapd(t, limits)
			m.fill()
			a, d := m.desk()
			const hint = `limits dn.exact=`
			for _, args := range [][]string{{"passwords", "list"}, {"passwords", "stats"}, {"passwords", "purge"}, {"report", "no-app-password"}, {"purge", "--only", "passwords", "--yes"}} {
				d.fails(1, hint, args...)
			}
			if r := d.run("", "passwords", "export"); r.code != 1 || !strings.Contains(r.err, hint) {
				t.Errorf("export: %d %s", r.code, r.err)
			}
			if r := d.run("", "check"); !strings.Contains(r.out, "warn  size limit") || !strings.Contains(r.out, hint) || !strings.Contains(r.out, "at least") {
				t.Errorf("check:\n%s", r.out)
			}
			if got, r := m.virtual(a, "-E", "pr=100/noprompt"); r.code != 11 || len(got) != 0 || !strings.Contains(r.err+r.out, "upstream.bind_dn") {
				t.Errorf("a manager's search: %d entries, code %d %s", len(got), r.code, r.err)
			}
			eventually(t, "the log says so", func() bool { return strings.Contains(a.output(), hint) })
			// Each alone is at hand all the same.
			if out := d.ok("passwords", "list", "--user", "u1200"); !strings.Contains(out, "old") {
				t.Error(out)
			}
			if out := must(t, "", "ldapsearch", "-x", "-LLL", "-H", m.uri, "-D", adminDN, "-w", adminPW, "-b", people, "(appPassword=*)", "1.1"); strings.Count(out, "dn:") != many {
				t.Error("something was removed")
			}
		})
	}
}
