package mail

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type some struct {
	Label, Services string
	Expires         time.Time
	Expired         bool
}

type data struct {
	Name, Link          string
	Several, AllExpired bool
	Passwords           []some
}

var phone = data{Name: "Alice", Link: "https://passwords.example.org/", Passwords: []some{{Label: "phone", Services: "imap, smtp", Expires: noon}}}

func texts(t *testing.T, dir, first string) *Texts {
	t.Helper()
	x, err := LoadTexts(dir, first, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// TestLanguages: the user's own word counts, then the default.
func TestLanguages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, "expiring.fr.txt", "Subject: Mot de passe\n\n{{range .Passwords}}{{.Label}} {{date .Expires}}{{end}}\n")
	put(t, dir, "README", "not a text")
	x := texts(t, dir, "en")
	for preferred, want := range map[string]string{"": "en", "de": "de", "de-AT": "de", "de_DE": "de", "fr-CA, de;q=0.5": "fr", "ja, de;q=0.2": "de", "ja": "en",
		"nonsense;;q=": "en", "de;q=0, en": "en", strings.Repeat("de,", 3000): "de"} {
		c, err := x.Render("expiring", preferred, phone)
		if err != nil || c.Language != want {
			if len(preferred) > 100 && err == nil { // the library may give a list up that nobody writes
				continue
			}
			t.Errorf("%q: %s, want %s; %v", preferred, c.Language, want, err)
		}
	}
	if c, err := texts(t, "", "de").Render("expiring", "ja", phone); err != nil || c.Language != "de" {
		t.Errorf("%s, %v", c.Language, err)
	}
	c, err := x.Render("expiring", "fr", phone)
	if err != nil || c.Subject != "Mot de passe" || c.Text != "phone 2026-03-01 12:00 UTC\n" || c.HTML != "" {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestBuiltIn: both languages say all there is to say, in both forms; what people wrote is no HTML.
func TestBuiltIn(t *testing.T) {
	t.Parallel()
	x := texts(t, "", "en")
	d := phone
	d.Passwords = []some{{Label: `<b>"phone"</b>`, Services: "imap, smtp", Expires: noon}}
	for language, want := range map[string][]string{
		"en": {"An app password of yours expires soon", "Hello Alice", "expires on 1 March 2026, 12:00 UTC", "imap, smtp", d.Link},
		"de": {"Ein App-Passwort von Ihnen läuft bald ab", "Guten Tag Alice", "läuft ab am 1. März 2026, 12:00 Uhr (UTC)", "imap, smtp", d.Link},
	} {
		c, err := x.Render("expiring", language, d)
		if err != nil {
			t.Fatal(err)
		}
		if c.Subject != want[0] {
			t.Errorf("subject %q", c.Subject)
		}
		for _, w := range want[1:] {
			if !strings.Contains(c.Text, w) || !strings.Contains(c.HTML, w) {
				t.Errorf("%q is missing in\n%s\n%s", w, c.Text, c.HTML)
			}
		}
		if !strings.Contains(c.Text, `"<b>"phone"</b>"`) || strings.Contains(c.HTML, "<b>") || !strings.Contains(c.HTML, "&lt;b&gt;") {
			t.Errorf("the label:\n%s\n%s", c.Text, c.HTML)
		}
	}
	d.Link = "javascript:alert(1)"
	if c, err := x.Render("expiring", "en", d); err != nil || strings.Contains(c.HTML, `href="javascript`) {
		t.Errorf("%s, %v", c.HTML, err)
	}
	for _, d := range []data{{}, {AllExpired: true, Passwords: []some{{Label: "a", Expired: true}}}, {Several: true, Passwords: make([]some, 3)}} {
		for _, language := range []string{"en", "de"} {
			c, err := x.Render("expiring", language, d)
			if err != nil || strings.Contains(c.Text, "\n\n\n\n") || strings.Contains(c.Text, "https") {
				t.Errorf("%v:\n%s", err, c.Text)
			}
		}
	}
}

// TestOwnTexts: a directory replaces both forms of a language; mistakes in it are found when it is loaded or checked.
func TestOwnTexts(t *testing.T) {
	t.Parallel()
	const good = "Subject: ours\n\nhello {{.Name}}\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  string // of the error
	}{
		"replaced":        {map[string]string{"expiring.en.txt": good}, ""},
		"both":            {map[string]string{"expiring.en.txt": good, "expiring.en.html": "<p>{{.Name}}"}, ""},
		"HTML alone":      {map[string]string{"expiring.en.html": "<p>"}, "expiring.en.html needs expiring.en.txt"},
		"no subject":      {map[string]string{"expiring.en.txt": "hello\n"}, `its first line must be "Subject: "`},
		"syntax":          {map[string]string{"expiring.en.txt": "Subject: {{.Name"}, "unclosed action"},
		"unknown field":   {map[string]string{"expiring.en.txt": "Subject: {{.Password}}"}, "can't evaluate field Password"},
		"unknown kind":    {map[string]string{"expired.en.txt": good}, "the kinds are expiring"},
		"no language":     {map[string]string{"expiring.q.txt": good}, "q is not a language"},
		"broken HTML":     {map[string]string{"expiring.en.txt": good, "expiring.en.html": "<a href='{{.Name}}"}, "ends in a non-text context"},
		"long":            {map[string]string{"expiring.en.txt": good + strings.Repeat("x", maxText)}, "longer than"},
		"missing default": {map[string]string{"expiring.fr.txt": good}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for file, text := range c.files {
				put(t, dir, file, text)
			}
			x, err := LoadTexts(dir, "en", time.UTC)
			if err == nil {
				err = x.Check("expiring", phone)
			}
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %s", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := x.Render("expiring", "en", phone)
			if own := c.files["expiring.en.txt"] != ""; err != nil || own != (got.Subject == "ours") || own && (got.HTML == "") != (c.files["expiring.en.html"] == "") {
				t.Errorf("%+v, %v", got, err)
			}
			if german, err := x.Render("expiring", "de", phone); err != nil || german.Language != "de" || german.HTML == "" {
				t.Errorf("%+v, %v", german, err)
			}
		})
	}
	for _, c := range [][2]string{{filepath.Join(t.TempDir(), "missing"), "en"}, {"", "fr"}} {
		if _, err := LoadTexts(c[0], c[1], time.UTC); err == nil {
			t.Errorf("%q are loaded", c)
		}
	}
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
