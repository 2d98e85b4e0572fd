package integration

import (
	"context"
	"crypto/x509/pkix"
	"fmt"
	"mime"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"appbind/history"
	"appbind/test/postgres"
)

// created is the time at which a value was made: without it a lifetime is not known.
var created = regexp.MustCompile(`;crt=[0-9]+Z`)

// expiring is the value of an app password that expires so long from now.
func expiring(t testing.TB, p appPassword, in time.Duration) string {
	t.Helper()
	return setExpiry(t, created.ReplaceAllString(p.Value, ""), time.Now().Add(in).UTC().Format("20060102150405Z"))
}

// mailbox are the mails that Dovecot has delivered to a user.
func (d *dovecot) mailbox(t testing.TB, user string) (list []string) {
	t.Helper()
	files, err := filepath.Glob(d.Dir + "/mail/" + user + "/new/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, strings.ReplaceAll(string(text), "=\n", "")) // soft line ends of quoted-printable
	}
	return list
}

// TestJobs: two instances that share PostgreSQL remove what expired long ago from OpenLDAP, and mail users through
// Postfix, by STARTTLS and a login that appbind itself judges. Each mail comes once, though Postfix is stopped, an instance is
// killed, and the directory is down for a while.
func TestJobs(t *testing.T) {
	t.Parallel()
	db, err := postgres.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	url, err := db.Database()
	if err != nil {
		t.Fatal(err)
	}
	s := startSlapd(t, slapdOptions{})
	phone, old, laptop, tablet, mailer := newPassword(t, "phone"), newPassword(t, "old"), newPassword(t, "Büro-Laptop"), newPassword(t, "tablet"), newPassword(t, "mailer", "--service", "smtp")
	s.addSecret("alice", expiring(t, phone, 10*24*time.Hour))
	s.addSecret("alice", expiring(t, old, -29*24*time.Hour))
	s.addSecret("bob", expiring(t, laptop, -24*time.Hour))
	s.addSecret("bob", mailer.Value)
	s.addSecret("carol", expiring(t, phone, 10*24*time.Hour)) // disabled
	s.modify("dn: " + userDN("bob") + "\nchangetype: modify\nadd: preferredLanguage\npreferredLanguage: de-AT, en;q=0.5\n")

	// The mail system has an appbind of its own, so that the others can be stopped.
	door := startAppbind(t, baseConfig(s, "  - url: ldap://127.0.0.1:0\n    context: trusted\n", "jobs: {enabled: false}\n"))
	d := startDovecot(t, "context-dn", door.uri())
	ca := newAuthority(t)
	p := startSubmission(t, d, door.uri(), ca.issue(t, pkix.Name{CommonName: "mail.example.org"}))
	secrets := shortDir(t)
	write(t, secrets+"/mail", mailer.Password+"\n")
	write(t, secrets+"/postgres", db.Password+"\n")
	yaml := replaceOnce(t, baseConfig(s, "", historyConfig+fmt.Sprintf(`log: {level: debug}
history: {store: postgres, url: '%s', password_file: %s/postgres}
jobs: {interval: 1s}
mail: {server: '127.0.0.1:%d', tls: starttls, ca: %s, username: bob, password_file: %s/mail, from: 'Example Mail <bob@example.org>', link: 'https://passwords.example.org/'}
`, url, secrets, p.SMTP, ca.file, secrets)), "users:\n", fmt.Sprintf("  manage_dn: %s\n  manage_password: %s\nusers:\n", manageDN, managePW))
	one, two := startAppbind(t, yaml), startAppbind(t, yaml)

	delivered := func(user string, n int) []string {
		t.Helper()
		within(t, fmt.Sprintf("%s has %d mails", user, n), historyPatience, func() bool { return len(d.mailbox(t, user)) >= n })
		return d.mailbox(t, user)
	}
	readMail(t, delivered("alice", 1)[0], "An app password of yours expires soon", "multipart/alternative", "Hello Alice Example", `"phone"`, "https://passwords.example.org/")
	readMail(t, delivered("bob", 1)[0], "Ein App-Passwort von Ihnen ist abgelaufen", "multipart/alternative", "Guten Tag Bob Example", "B=C3=BCro-Laptop", "ist abgelaufen am")
	within(t, "what expired long ago is gone", historyPatience, func() bool {
		return strings.Count(s.valuesOf("alice"), "appPassword:") == 1 && strings.Count(s.valuesOf("bob"), "appPassword:") == 2
	})
	gone := false
	list, err := historyOf(t, one).Passwords(context.Background(), "")
	for _, h := range list {
		gone = gone || h.Label == "old" && !h.Revoked.IsZero()
	}
	if err != nil || !gone {
		t.Errorf("the history does not know what was removed: %+v, %v", list, err)
	}

	// Postfix down, the directory down, an instance killed: the next mails come, once.
	p.stop(t)
	s.addSecret("alice", expiring(t, tablet, 5*24*time.Hour))
	failing := func(what string) {
		t.Helper()
		within(t, what+" is told", historyPatience, func() bool { return strings.Contains(one.output()+two.output(), what) })
	}
	failing("the mail server does not take mail")
	one.stop(syscall.SIGKILL)
	s.stop(syscall.SIGTERM)
	within(t, "a job fails", historyPatience, func() bool {
		_, body := httpGet(two.endpoint() + "/metrics")
		return metric(t, body, "appbind_job_runs_total", `task="remove_expired"`, `outcome="failed"`) > 0
	})
	s.run()
	p.run(t)
	if second := delivered("alice", 2); !strings.Contains(second[0]+second[1], `"tablet"`) {
		t.Errorf("%s", second)
	}
	three := startAppbind(t, yaml)
	runs := func() float64 {
		_, body := httpGet(three.endpoint() + "/metrics")
		_, other := httpGet(two.endpoint() + "/metrics")
		return metric(t, body, "appbind_job_runs_total", `outcome="succeeded"`) + metric(t, other, "appbind_job_runs_total", `outcome="succeeded"`)
	}
	before := runs()
	within(t, "the jobs go on", historyPatience, func() bool { return runs() > before+5 })
	for user, n := range map[string]int{"alice": 2, "bob": 1, "carol": 0} {
		if got := d.mailbox(t, user); len(got) != n {
			t.Errorf("%s has %d mails, want %d", user, len(got), n)
		}
	}
	_, body := httpGet(two.endpoint() + "/metrics")
	if at := metric(t, body, "appbind_job_last_success_timestamp_seconds", `task="notify"`); time.Since(time.Unix(int64(at), 0)).Abs() > time.Hour {
		t.Errorf("the last success: %v", at)
	}

	// By hand, while they run.
	hand := must(t, "", binary, "notify", "-c", two.file, "--sample", "alice@example.org", "--language", "de") +
		must(t, "", binary, "notify", "-c", two.file, "--dry-run") + must(t, "", binary, "purge", "-c", two.file, "--dry-run", "--json") + must(t, "", binary, "check", "-c", two.file)
	for _, want := range []string{"a sample was sent to alice@example.org", "were not told: 0 app passwords", `"passwords":[]`, fmt.Sprintf("ok    mail               127.0.0.1:%d (starttls)", p.SMTP)} {
		if !strings.Contains(hand, want) {
			t.Errorf("%q is missing in\n%s", want, hand)
		}
	}
	if sample := delivered("alice", 3); !strings.Contains(strings.Join(sample, "\n"), "laptop") {
		t.Errorf("%s", sample)
	}

	// What the jobs said, wrote and sent holds nothing of a password.
	said := hand + one.output() + two.output() + three.output() + body + fmt.Sprint(list) + strings.Join(append(d.mailbox(t, "alice"), d.mailbox(t, "bob")...), "\n")
	uses, err := historyOf(t, two).Uses(context.Background(), history.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	canaries := []string{db.Password, managePW, servicePW}
	for _, c := range []appPassword{phone, old, laptop, tablet, mailer} {
		canaries = append(canaries, c.Password, hashOf(c))
	}
	if found := leaks(said+fmt.Sprint(uses), canaries); len(found) > 0 {
		t.Errorf("leaks: %q", found)
	}
	for _, a := range []*appbind{two, three} {
		a.stop(syscall.SIGTERM)
		if !strings.Contains(a.output(), "msg=stopped") {
			t.Error("an instance did not end in order")
		}
	}
}

// readMail demands that a mail has a subject and a form, and holds texts.
func readMail(t testing.TB, text, subject, kind string, parts ...string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	got, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil || got != subject || !strings.HasPrefix(m.Header.Get("Content-Type"), kind) || m.Header.Get("Auto-Submitted") != "auto-generated" {
		t.Errorf("%q %q, %v", got, m.Header, err)
	}
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing in\n%s", part, text)
		}
	}
}

// valuesOf is the LDIF of a user's app passwords.
func (s *slapd) valuesOf(uid string) string {
	s.t.Helper()
	return must(s.t, "", "ldapsearch", "-x", "-LLL", "-o", "ldif-wrap=no", "-H", s.uri(), "-D", adminDN, "-w", adminPW, "-b", userDN(uid), "-s", "base", "appPassword")
}

// TestJobsOff: with jobs.enabled: false, and with each of them off, nothing is removed.
func TestJobsOff(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	old := newPassword(t, "old")
	s.addSecret("alice", expiring(t, old, -29*24*time.Hour))
	withManager := func(jobs string) string {
		return replaceOnce(t, baseConfig(s, "", historyConfig+jobs), "users:\n", fmt.Sprintf("  manage_dn: %s\n  manage_password: %s\nusers:\n", manageDN, managePW))
	}
	off := startAppbind(t, withManager("jobs: {interval: 1s, enabled: false}\n"))
	some := startAppbind(t, withManager("jobs: {interval: 1s, remove_expired: false}\n"))
	within(t, "another job is done", historyPatience, func() bool {
		_, body := httpGet(some.endpoint() + "/metrics")
		return metric(t, body, "appbind_job_runs_total", `task="purge_history"`, `outcome="succeeded"`) > 1
	})
	_, body := httpGet(off.endpoint() + "/metrics")
	if n := metric(t, body, "appbind_job_runs_total"); n != 0 || strings.Count(s.valuesOf("alice"), "appPassword:") != 1 {
		t.Errorf("%v runs, %s", n, s.valuesOf("alice"))
	}
	// A reload switches it on, and mistakes in the texts leave the old configuration in force.
	dir := shortDir(t)
	write(t, dir+"/expiring.en.txt", "no subject\n")
	off.hangup(withManager("jobs: {interval: 1s}\nmail: {templates: "+dir+"}\n"), refused)
	off.hangup(withManager("jobs: {interval: 1s}\n"), reloaded)
	within(t, "what expired long ago is gone", historyPatience, func() bool { return strings.Count(s.valuesOf("alice"), "appPassword:") == 0 })
	canaryFree(t, off.output()+some.output(), old.Password, hashOf(old))
}

// TestJobsByTheFile: the jobs keep to the times of the configuration, after a reload to its new ones; and what they do stands in the audit log, once.
func TestJobsByTheFile(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone, old := newPassword(t, "phone"), newPassword(t, "old")
	s.addSecret("alice", expiring(t, phone, 10*24*time.Hour))
	s.addSecret("alice", expiring(t, old, -29*24*time.Hour))
	audit := filepath.Join(shortDir(t), "audit.log")
	yaml := managing(t, s, "", "") + historyConfig + "audit: {file: " + audit + "}\n"
	a := startAppbind(t, yaml+"jobs: {interval: 1s, remove_after: 40d, notify_before: 5d}\nhistory: {retention: 3d}\n")
	expectBind(t, a.uri(), userDN("alice"), phone.Password, 0)
	written(t, a, 1)
	ageUses(t, a, 48*time.Hour)
	did := func() (list []string) {
		for _, e := range linesOf(audit) {
			if strings.Contains(e, `"event":"exp`) || strings.Contains(e, `"event":"purged"`) {
				list = append(list, e)
			}
		}
		return list
	}
	rounds := func() {
		t.Helper()
		before := runsOf(t, a)
		within(t, "each job is done twice more", historyPatience, func() bool {
			for task, n := range runsOf(t, a) {
				if n < before[task]+2 {
					return false
				}
			}
			return true
		})
	}
	rounds()
	if uses := allUses(t, historyOf(t, a), history.Filter{}); len(did()) > 0 || len(s.stored("alice")) != 2 || len(uses) != 1 {
		t.Errorf("too early: %q, %d app passwords, uses %q", did(), len(s.stored("alice")), uses)
	}

	a.hangup(yaml+"jobs: {interval: 1s, remove_after: 28d, notify_before: 11d}\nhistory: {retention: 1d}\n", reloaded)
	within(t, "all is done", historyPatience, func() bool { return len(did()) >= 3 })
	rounds()
	lines := did()
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(kindOf(a), kindOf(b)) })
	wanted := []string{`"event":"expired",.*,"label":"old",.*"actor":"appbind","via":"job"}$`, `"event":"expiring",.*,"label":"phone",`, `"event":"purged","actor":"appbind","via":"job","count":1}$`}
	for i, want := range wanted {
		if len(lines) != len(wanted) || !regexp.MustCompile(want).MatchString(lines[i]) {
			t.Fatalf("the audit log has\n%s\nwant %s", strings.Join(lines, "\n"), want)
		}
	}
	if uses := allUses(t, historyOf(t, a), history.Filter{}); len(uses) != 0 || len(s.stored("alice")) != 1 {
		t.Errorf("uses %q, %d app passwords", uses, len(s.stored("alice")))
	}
	canaryFree(t, a.output()+strings.Join(linesOf(audit), "\n"), phone.Password, old.Password, hashOf(phone), hashOf(old))
}

// kindOf is the part of an event's line that names its kind.
func kindOf(line string) string {
	_, kind, _ := strings.Cut(line, `"event":`)
	return kind
}

// runsOf is how often each job has succeeded.
func runsOf(t testing.TB, a *appbind) map[string]float64 {
	t.Helper()
	_, body := httpGet(a.endpoint() + "/metrics")
	runs := map[string]float64{}
	for _, task := range []string{"remove_expired", "notify", "purge_history"} {
		runs[task] = metric(t, body, "appbind_job_runs_total", `task="`+task+`"`, `outcome="succeeded"`)
	}
	return runs
}
