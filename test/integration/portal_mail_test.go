package integration

import (
	"crypto/x509/pkix"
	"fmt"
	"html"
	"io"
	"mime"
	"net/http"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
)

// walker goes through the pages without a browser: it follows nothing, and sends forms with the token of the page before.
type walker struct {
	t              testing.TB
	page, language string
	session        string
}

// do is one request.
func (w *walker) do(method, path string, form url.Values) (code int, to, body string) {
	w.t.Helper()
	q, err := http.NewRequest(method, "http://"+strings.Replace(w.page, "localhost", "127.0.0.1", 1)+path, strings.NewReader(form.Encode()))
	if err != nil {
		w.t.Fatal(err)
	}
	q.Host = w.page
	for name, value := range map[string]string{"Origin": "http://" + w.page, "Content-Type": "application/x-www-form-urlencoded",
		"Accept-Language": w.language, "Cookie": "__Host-appbind=" + w.session} {
		q.Header.Set(name, value)
	}
	r, err := (&http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: patience}).RoundTrip(q)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Body.Close()
	for _, c := range r.Cookies() {
		if c.Name == "__Host-appbind" {
			w.session = c.Value
		}
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return r.StatusCode, r.Header.Get("Location"), html.UnescapeString(string(text))
}

// see is a page.
func (w *walker) see(path string) string {
	w.t.Helper()
	code, to, body := w.do(http.MethodGet, path, nil)
	if code != 200 {
		w.t.Fatalf("GET %s: %d %s", path, code, to)
	}
	return body
}

// send sends a form and demands a status; pairs are names and values.
func (w *walker) send(want int, from, path string, pairs ...string) (to, body string) {
	w.t.Helper()
	form := url.Values{}
	if m := regexp.MustCompile(`name="token" value="([0-9a-f]+)"`).FindStringSubmatch(w.see(from)); m != nil {
		form.Set("token", m[1])
	}
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	code, to, body := w.do(http.MethodPost, path, form)
	if code != want {
		w.t.Fatalf("POST %s: %d %s, want %d\n%s", path, code, to, want, tail(body, 1500))
	}
	return to, body
}

// hidden is the value of a field of a page.
func hidden(t testing.TB, body, name string) string {
	t.Helper()
	m := regexp.MustCompile(`name="` + name + `" value="([^"]+)"`).FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("no field %s in\n%s", name, body)
	}
	return m[1]
}

// enrol sets up an authenticator app, and is its secret and the recovery codes.
func (w *walker) enrol() (secret string, recovery []string) {
	w.t.Helper()
	body := w.see("/factors/totp")
	secret = hidden(w.t, body, "secret")
	code, err := totp.GenerateCode(secret, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	form := url.Values{"token": {hidden(w.t, body, "token")}, "secret": {secret}, "proof": {hidden(w.t, body, "proof")}, "code": {code}}
	if status, _, shown := w.do(http.MethodPost, "/factors/totp", form); status == 200 {
		for _, m := range regexp.MustCompile(`<li><code>([^<]+)<`).FindAllStringSubmatch(shown, -1) {
			recovery = append(recovery, m[1])
		}
	} else if status != 303 {
		w.t.Fatalf("enrol: %d\n%s", status, tail(shown, 1500))
	}
	return secret, recovery
}

// begin signs in with the main password and an enrolment code of the command line, and sets up an authenticator app.
func (w *walker) begin(file, user string) (secret string, recovery []string) {
	w.t.Helper()
	code := strings.Fields(must(w.t, "", binary, "portal", "enrol-code", "-c", file, "--user", user))[0]
	w.send(303, "/sign-in", "/sign-in", "name", user, "password", user+"-main")
	w.send(303, "/second-factor", "/second-factor", "code", code)
	return w.enrol()
}

// shown is the app password on a page.
func shown(t testing.TB, body string) string {
	t.Helper()
	m := regexp.MustCompile(`id="secret"[^>]*>([^<]+)<`).FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("no app password in\n%s", tail(body, 1500))
	}
	return m[1]
}

// TestPortalTells: the user gets a mail through Postfix of all that is done to the account at the pages, and the audit log a line. A
// mail server that is down holds nothing up, and what waits when appbind ends is delivered.
func TestPortalTells(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	mailer := newPassword(t, "mailer", "--service", "smtp")
	s.addSecret("bob", mailer.Value)
	s.modify("dn: " + userDN("alice") + "\nchangetype: modify\nadd: preferredLanguage\npreferredLanguage: de-AT, en;q=0.5\n")
	door := startAppbind(t, baseConfig(s, "  - url: ldap://127.0.0.1:0\n    context: trusted\n", "jobs: {enabled: false}\n"))
	d := startDovecot(t, "context-dn", door.uri())
	ca := newAuthority(t)
	p := startSubmission(t, d, door.uri(), ca.issue(t, pkix.Name{CommonName: "mail.example.org"}))
	dir, page := shortDir(t), fmt.Sprintf("localhost:%d", freePort(t))
	write(t, dir+"/mail", mailer.Password+"\n")
	audit := filepath.Join(dir, "audit.log")
	a := startAppbind(t, replaceOnce(t, baseConfig(s, "", historyConfig), "users:\n",
		fmt.Sprintf("  manage_dn: %s\n  manage_password: %s\nusers:\n  name_filter: (|(uid=%%s)(mail=%%s))\n", manageDN, managePW))+
		fmt.Sprintf(`portal: {listen: '%s', url: 'http://%s', name: 'Bäckerei', admins: ["%s"]}
audit: {file: %s}
mail: {server: '127.0.0.1:%d', tls: starttls, ca: %s, username: bob, password_file: %s/mail, from: 'Example Mail <bob@example.org>'}
`, strings.Replace(page, "localhost", "127.0.0.1", 1), page, userDN("bob"), audit, p.SMTP, ca.file, dir))
	within(t, "the pages", patience, func() bool { code, _, _ := ask(t, page, "/sign-in", "", nil); return code == 200 })

	// A page in English, one in German, and what an administrator does in the language of the user's entry.
	alice, bob := &walker{t: t, page: page, language: "en"}, &walker{t: t, page: page, language: "en"}
	secret, recovery := alice.begin(a.file, "alice")
	_, body := alice.send(201, "/passwords/new", "/passwords", "label", "Büro <b>phone</b>")
	canaries := append(recovery, secret, shown(t, body), "alice-main", "bob-main")
	alice.language = "de"
	id := regexp.MustCompile(`/passwords/([0-9a-z]{4})"`).FindStringSubmatch(alice.see("/passwords"))[1]
	alice.send(303, "/passwords", "/passwords/"+id+"/revoke")
	other, _ := alice.enrol()
	alice.send(303, "/factors", "/factors/remove", "id", hidden(t, alice.see("/factors"), "id"))
	_, body = alice.send(200, "/factors", "/factors/recovery")
	again := regexp.MustCompile(`<li><code>([^<]+)<`).FindStringSubmatch(body)[1]
	alice.send(303, "/passwords", "/sign-out")
	alice.send(303, "/sign-in", "/sign-in", "name", "alice", "password", "alice-main")
	alice.send(303, "/second-factor", "/second-factor", "code", again)
	_, body = alice.send(201, "/passwords/new", "/passwords", "label", "tablet")
	bobs, _ := bob.begin(a.file, "bob")
	canaries = append(canaries, other, again, shown(t, body), bobs)
	bob.send(200, "/admin", "/admin/revoke", "user", userDN("alice"), "all", "yes")
	_, body = bob.send(200, "/admin", "/admin/enrol-code", "user", userDN("alice"))
	canaries = append(canaries, shown(t, body))
	want := []string{"Bäckerei: a second factor was set up", "Bäckerei: a new app password", "Bäckerei: ein App-Passwort wurde widerrufen", "Bäckerei: ein zweiter Faktor wurde eingerichtet",
		"Bäckerei: ein zweiter Faktor wurde entfernt", "Bäckerei: neue Wiederherstellungscodes", "Bäckerei: ein Wiederherstellungscode wurde benutzt", "Bäckerei: ein neues App-Passwort",
		"Bäckerei: App-Passwörter wurden widerrufen", "Bäckerei: ein Einrichtungscode wurde ausgegeben"}
	delivered := func(n int) (subjects []string) {
		t.Helper()
		within(t, fmt.Sprintf("%d mails", n), historyPatience, func() bool { return len(d.mailbox(t, "alice")) >= n })
		files, _ := filepath.Glob(d.Dir + "/mail/alice/new/*")
		for _, file := range files {
			raw, _ := os.ReadFile(file)
			text := string(raw)
			m, err := mail.ReadMessage(strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			subject, _ := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
			subjects = append(subjects, subject)
			if m.Header.Get("To") != "<alice@example.org>" || m.Header.Get("From") != `"Example Mail" <bob@example.org>` || m.Header.Get("Return-Path") != "<bob@example.org>" ||
				m.Header.Get("Auto-Submitted") != "auto-generated" || m.Header.Get("Content-Language") != map[bool]string{true: "en", false: "de"}[strings.HasPrefix(subject, "Bäckerei: a ")] {
				t.Errorf("%s: %v", subject, m.Header)
			}
			if !strings.Contains(strings.ReplaceAll(text, "=\n", ""), "http://"+page) { // without the soft line ends of quoted-printable
				t.Errorf("%s: no address in\n%s", subject, text)
			}
		}
		return subjects
	}
	got := delivered(len(want))
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("alice was told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	all := strings.Join(d.mailbox(t, "alice"), "\n")
	if !strings.Contains(all, "B=C3=BCro <b>phone</b>") || !strings.Contains(all, "- tablet") {
		t.Errorf("the labels are missing in\n%s", all)
	}

	// The audit log has each of these, by whom and from where.
	for _, want := range []string{
		`"event":"factor_added",.*"user":"uid=alice,[^"]*","actor":"uid=alice,[^"]*","via":"portal","address":"127.0.0.1","factor":"totp"`,
		`"event":"issued",.*"label":"tablet",.*"actor":"uid=alice,[^"]*","via":"portal","address":"127.0.0.1"`,
		`"event":"revoked",.*"label":"Büro <b>phone</b>",.*"actor":"uid=alice,[^"]*","via":"portal"`,
		`"event":"factor_removed",.*"via":"portal"`, `"event":"recovery_codes",.*"via":"portal"`, `"event":"factor_proved",.*"factor":"recovery code"`,
		`"event":"revoked",.*"label":"tablet",.*"actor":"uid=bob,[^"]*","via":"portal","address":"127.0.0.1"`,
		`"event":"enrol_code",.*"user":"uid=alice,[^"]*","actor":"uid=bob,[^"]*","via":"portal","address":"127.0.0.1"`,
		`"event":"enrol_code",.*"user":"uid=alice,[^"]*","actor":"[^"]*","via":"cli"`,
	} {
		within(t, want, patience, func() bool { return regexp.MustCompile(want).MatchString(strings.Join(linesOf(audit), "\n")) })
	}

	// The mail server is down: the page is as quick as ever. It is back, and appbind ends: what waited is delivered.
	_, body = httpGet(a.endpoint() + "/metrics")
	if n := metric(t, body, "appbind_portal_mails_total", `outcome="sent"`); n < float64(len(want)) {
		t.Errorf("%v mails sent", n)
	}
	p.stop(t)
	begun := time.Now()
	_, body = alice.send(201, "/passwords/new", "/passwords", "label", "made while mail is down")
	if took := time.Since(begun); took > patience {
		t.Errorf("the page took %v", took)
	}
	canaries = append(canaries, shown(t, body))
	within(t, "the log tells", patience, func() bool { return strings.Contains(a.output(), "a mail was not taken") })
	p.run(t)
	a.stop(syscall.SIGTERM)
	delivered(len(want) + 1)
	all = strings.Join(d.mailbox(t, "alice"), "\n")
	if !strings.Contains(all, "made while mail is down") {
		t.Errorf("what waited is lost:\n%s", a.output())
	}
	canaryFree(t, a.output()+all+strings.Join(linesOf(audit), "\n"), append(canaries, mailer.Password, managePW)...)
}
