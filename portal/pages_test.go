package portal

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"io/fs"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"appbind/config"
	"appbind/manage"
)

// TestCatalogues: every message that is named exists in every language, none is left over, and the
// placeholders are the same.
func TestCatalogues(t *testing.T) {
	t.Parallel()
	catalogues := map[string]map[string]string{}
	names, err := fs.Glob(files, "locales/*.json")
	if err != nil || len(names) < 2 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		data, _ := files.ReadFile(name)
		var words map[string]string
		if err := json.Unmarshal(data, &words); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		catalogues[name] = words
	}
	english := catalogues["locales/en.json"]
	verbs := regexp.MustCompile(`%[a-z]`)
	for name, words := range catalogues {
		for key, text := range english {
			if text == "" || words[key] == "" || strings.Join(verbs.FindAllString(words[key], -1), "") != strings.Join(verbs.FindAllString(text, -1), "") {
				t.Errorf("%s: %s: %q for %q", name, key, words[key], text)
			}
		}
		for key := range words {
			if english[key] == "" {
				t.Errorf("%s: %s: is nobody's message", name, key)
			}
		}
	}
	pages, _ := fs.Glob(files, "templates/*.html")
	for _, page := range pages {
		data, _ := files.ReadFile(page)
		for _, m := range regexp.MustCompile(`\.T \(?"([^"]+)"`).FindAllStringSubmatch(string(data), -1) {
			if english[m[1]] == "" {
				t.Errorf("%s: no message %s", page, m[1])
			}
		}
	}
}

// TestLanguages: pages come in the language that is asked for, and none of the crawl's shows the name of a message.
func TestLanguages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enrol("alice", hisBottle)
	b := r.browser().enter("alice")
	names := regexp.MustCompile(`>\s*(nav|field|passwords|new|one|factors|error|signin|factor|totp)\.[a-z]+\s*<`)
	for _, path := range []string{"/passwords", "/passwords/new", "/passwords/7f3k", "/factors", "/factors/add", "/factors/totp", "/confirm", "/nothing"} {
		for _, accept := range []string{"", "de-AT,de;q=0.9", "fr", "nonsense;;"} {
			b.change = func(q *http.Request) { q.Header.Set("Accept-Language", accept) }
			p := b.get(path)
			want := "en"
			if strings.HasPrefix(accept, "de") {
				want = "de"
			}
			if p.header.Get("Content-Language") != want || !strings.Contains(p.body, `<html lang="`+want+`">`) || names.MatchString(p.body) {
				t.Errorf("%s in %q: %s %q", path, accept, p.header.Get("Content-Language"), names.FindString(p.body))
			}
		}
	}
	b.change = nil
	b.post("/language", "language", "de", "next", "/passwords").expect(t, "choose", 303, "/passwords", "")
	b.get("/passwords").expect(t, "chosen", 200, "", "Neues App-Passwort")
	b.post("/language", "language", "../../x", "next", "https://evil.example").expect(t, "nonsense", 303, "/", "")
}

// TestBrokenRules: what package manage refuses is said in the reader's language; what has no name there, in its words.
func TestBrokenRules(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.AppPasswords.MaxPerUser = 2 })
	r.enrol("alice", hisBottle)
	b := r.browser().enter("alice")
	b.change = func(q *http.Request) { q.Header.Set("Accept-Language", "de") }
	for _, c := range []struct{ label, day, want string }{
		{"", "", "der Name ist leer"},
		{"a\x07b", "", "der Name enthält Zeichen, die niemand sieht"},
		{"<i>", "2020-01-01", "dieser Tag ist schon vorbei"},
		{"<i>", "2099-01-01", "ein App-Passwort gilt höchstens 365 Tage"},
		{"his phone", "", "den Namen „his phone“ gibt es schon"},
	} {
		b.post("/passwords", "label", c.label, "expires", c.day).expect(t, c.label, 422, "", c.want)
	}
	b.post("/passwords", "label", "the second").expect(t, "the second", 201, "", "")
	b.post("/passwords", "label", "the third").expect(t, "the third", 422, "", "es gibt schon 2 App-Passwörter")

	locales, err := readLocales()
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range []manage.Violation{{Rule: manage.RuleOff}, {Rule: manage.RuleLabelSpace}, {Rule: manage.RuleMustExpire, Args: []any{7}}} {
		broken.Reason = "unsaid"
		for tag, l := range locales {
			if text := l.rule(&broken); text == "unsaid" || strings.Contains(text, "rule.") || strings.Contains(text, "%") {
				t.Errorf("%s: %s: %q", tag, broken.Rule, text)
			}
		}
	}
	if text := locales["de"].rule(&manage.Violation{Reason: "in its words"}); text != "in its words" {
		t.Error(text)
	}
}

func TestLocal(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/a?b=c": "/a?b=c", "": "x", "a": "x", "//evil": "x", "/\\evil": "x", "https://evil": "x", "/a\r\nb": "x", "/a\tb": "x",
	} {
		if got := local(path, "x"); got != want {
			t.Errorf("%q: %q", path, got)
		}
	}
}

// TestProfile: a configuration profile is well-formed, and carries the account and the password.
func TestProfile(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.Portal.Name = `<&"Example'>` })
	r.enrol("alice")
	b := r.browser().enter("alice")
	p := b.post("/passwords", "label", "Ally's <b>phone</b> & more", "as", "profile")
	if p.code != 201 || p.header.Get("Content-Type") != "application/x-apple-aspen-config" || p.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v", p.code, p.header)
	}
	texts, last := map[string]string{}, ""
	d := xml.NewDecoder(strings.NewReader(p.body))
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "key" && start.Name.Local != "string" && start.Name.Local != "integer" {
			continue
		}
		var text string
		if err := d.DecodeElement(&text, &start); err != nil {
			t.Fatal(err)
		}
		if start.Name.Local == "key" {
			last = text
		} else {
			texts[last] = text
		}
	}
	for key, want := range map[string]string{
		"EmailAddress": "alice@example.org", "IncomingMailServerUsername": "alice@example.org", "IncomingMailServerHostName": "mail.example.org",
		"IncomingMailServerPortNumber": "993", "OutgoingMailServerPortNumber": "587", "PayloadOrganization": `<&"Example'>`,
	} {
		if texts[key] != want {
			t.Errorf("%s: %q", key, texts[key])
		}
	}
	if _, err := r.Manager.Find(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	u, _ := r.Manager.Find(t.Context(), "alice")
	if v := u.Set.Values[len(u.Set.Values)-1]; !v.Verify([]byte(texts["IncomingPassword"])) {
		t.Error("the profile's password is not the stored one")
	}
	if strings.Contains(b.get("/passwords").body, "<b>phone") {
		t.Error("a label is not escaped")
	}
	r.cfg.SMTP = ""
	if strings.Contains(b.get("/passwords/new").body, `value="profile"`) {
		t.Error("a profile without a server is offered")
	}
}

// TestAssets: they may be kept for ever, and nothing else may.
func TestAssets(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.browser()
	page := b.get("/sign-in").body
	for _, path := range regexp.MustCompile(`/assets/[^"]+`).FindAllString(page, -1) {
		p := b.get(path)
		if p.code != 200 || !strings.Contains(p.header.Get("Cache-Control"), "immutable") || len(p.body) == 0 || len(p.body) > 20<<10 {
			t.Errorf("%s: %d %v", path, p.code, p.header)
		}
	}
	b.get("/assets/style.css").expect(t, "without its mark", 404, "", "")
	b.get("/robots.txt").expect(t, "robots", 200, "", "Disallow: /")
}

// TestConfirmAsks: whoever has no authenticator app is asked for a recovery code where an enrolment code does not count.
func TestConfirmAsks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.enrol("alice")
	b := r.browser().enter("alice")
	b.get("/confirm").expect(t, "with an app", 200, "", "A recovery code works too.")
	r.dir.Add(aliceDN, mainWord+"-alice", "objectClass", "inetOrgPerson", "uid", "alice", "entryUUID", "00000000-0000-0000-0000-00000000000a", "entryCSN", "0")
	p := b.get("/confirm")
	p.expect(t, "without one", 200, "", `<label for="code">Recovery code</label>`)
	if strings.Contains(p.body, "enrolment code") || strings.Contains(p.body, "code-help") {
		t.Errorf("an enrolment code is asked for:\n%s", p.body)
	}
}
