package mail

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	html "html/template"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	text "text/template"
	"time"

	"golang.org/x/text/language"
)

//go:embed texts/*
var builtIn embed.FS

// Texts are the texts of mails by kind and language. Safe for concurrent use.
type Texts struct {
	byKind   map[string][]*form // the default language first
	location *time.Location
}

// form is a text in one language.
type form struct {
	language string
	tag      language.Tag
	plain    *text.Template // its first line is the subject
	html     *html.Template // nil: there is none
}

const (
	subjectPrefix = "Subject: "
	maxText       = 64 << 10 // bytes of one file
)

// fileName is KIND.LANGUAGE.txt or KIND.LANGUAGE.html.
var fileName = regexp.MustCompile(`^([a-z]+)\.([A-Za-z-]+)\.(txt|html)$`)

// LoadTexts loads the built-in texts and those of a directory (""; none), which replace both forms of a language or add one. first is the
// language of users who say nothing else. Times are shown as in location.
func LoadTexts(dir, first string, location *time.Location) (*Texts, error) {
	t := &Texts{byKind: map[string][]*form{}, location: location}
	own, err := fs.Sub(builtIn, "texts")
	if err != nil {
		return nil, fmt.Errorf("appbind: internal error: %w", err)
	}
	if err := t.load(own); err != nil {
		return nil, fmt.Errorf("appbind: internal error: %w", err)
	}
	kinds := len(t.byKind)
	if dir != "" {
		if err := t.load(os.DirFS(dir)); err != nil {
			return nil, fmt.Errorf("mail.templates: %w", err)
		}
	}
	if len(t.byKind) > kinds {
		return nil, fmt.Errorf("mail.templates: %s: a file is named KIND.LANGUAGE.txt or .html, and the kinds are %s", dir, strings.Join(kindsOf(own), ", "))
	}
	for kind, forms := range t.byKind {
		i := slices.IndexFunc(forms, func(f *form) bool { return f.language == first })
		if i < 0 {
			return nil, fmt.Errorf("mail.language: there is no %s.%s.txt, neither built in nor in mail.templates", kind, first)
		}
		forms[0], forms[i] = forms[i], forms[0]
	}
	return t, nil
}

// kindsOf are the kinds of texts in a directory.
func kindsOf(dir fs.FS) (kinds []string) {
	entries, _ := fs.ReadDir(dir, ".") // none, if it cannot be read
	for _, e := range entries {
		if m := fileName.FindStringSubmatch(e.Name()); m != nil && !slices.Contains(kinds, m[1]) {
			kinds = append(kinds, m[1])
		}
	}
	return kinds
}

// load takes the texts of a directory.
func (t *Texts) load(dir fs.FS) error {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		m := fileName.FindStringSubmatch(e.Name())
		if m == nil || e.IsDir() {
			continue // a README, a backup of an editor
		}
		plainName := m[1] + "." + m[2] + ".txt"
		if m[3] == "html" {
			if _, err := fs.Stat(dir, plainName); err != nil {
				return fmt.Errorf("%s needs %s beside it, which has the subject", e.Name(), plainName)
			}
			continue
		}
		f, err := t.form(dir, m[1], m[2])
		if err != nil {
			return err
		}
		forms := slices.DeleteFunc(t.byKind[m[1]], func(old *form) bool { return old.language == m[2] })
		t.byKind[m[1]] = append(forms, f)
	}
	return nil
}

// form reads both forms of a text in a language.
func (t *Texts) form(dir fs.FS, kind, name string) (*form, error) {
	tag, err := language.Parse(name)
	if err != nil {
		return nil, fmt.Errorf("%s.%s.txt: %s is not a language", kind, name, name)
	}
	f := &form{language: name, tag: tag}
	functions := map[string]any{"date": func(at time.Time) string { return date(name, at.In(t.location)) }}
	plain, err := read(dir, kind+"."+name+".txt")
	if err != nil {
		return nil, err
	}
	if f.plain, err = text.New(kind + "." + name + ".txt").Funcs(functions).Parse(plain); err != nil {
		return nil, err
	}
	rich, err := read(dir, kind+"."+name+".html")
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, err
	}
	f.html, err = html.New(kind + "." + name + ".html").Funcs(functions).Parse(rich)
	return f, err
}

func read(dir fs.FS, name string) (string, error) {
	data, err := fs.ReadFile(dir, name)
	if err == nil && len(data) > maxText {
		err = fmt.Errorf("%s is longer than %d bytes", name, maxText)
	}
	return string(data), err
}

// Languages are those of a kind, the default first.
func (t *Texts) Languages(kind string) (names []string) {
	for _, f := range t.byKind[kind] {
		names = append(names, f.language)
	}
	return names
}

// Render fills a text in, in the language that fits best what a user's entry says (preferredLanguage, RFC 2798).
func (t *Texts) Render(kind, preferred string, data any) (Content, error) {
	forms := t.byKind[kind]
	if len(forms) == 0 {
		return Content{}, errors.New("appbind: internal error: no text " + kind)
	}
	return forms[choose(forms, preferred)].render(data)
}

// choose is the index of the form that fits best; 0 where none does.
func choose(forms []*form, preferred string) int {
	wanted, _, err := language.ParseAcceptLanguage(preferred)
	if err != nil || len(wanted) == 0 {
		return 0
	}
	tags := make([]language.Tag, len(forms))
	for i, f := range forms {
		tags[i] = f.tag
	}
	_, i, _ := language.NewMatcher(tags).Match(wanted...)
	return i
}

// Check fills each text of a kind in, so that mistakes in templates are found before they are needed.
func (t *Texts) Check(kind string, data any) error {
	for _, f := range t.byKind[kind] {
		if _, err := f.render(data); err != nil {
			return fmt.Errorf("mail.templates: %w", err)
		}
	}
	return nil
}

func (f *form) render(data any) (Content, error) {
	var b bytes.Buffer
	if err := f.plain.Execute(&b, data); err != nil {
		return Content{}, err
	}
	first, rest, _ := strings.Cut(b.String(), "\n")
	subject, ok := strings.CutPrefix(strings.TrimSuffix(first, "\r"), subjectPrefix)
	if !ok || strings.TrimSpace(subject) == "" {
		return Content{}, fmt.Errorf("%s: its first line must be %q and the subject", f.plain.Name(), subjectPrefix)
	}
	c := Content{Language: f.language, Subject: subject, Text: strings.TrimLeft(rest, "\r\n")}
	if f.html != nil {
		b.Reset()
		if err := f.html.Execute(&b, data); err != nil {
			return Content{}, err
		}
		c.HTML = b.String()
	}
	return c, nil
}

var germanMonths = [...]string{"Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November", "Dezember"}

// date is a moment as people write it, in a language; others than English and German get the form of ISO 8601.
func date(name string, at time.Time) string {
	switch base, _, _ := strings.Cut(name, "-"); base {
	case "en":
		return at.Format("2 January 2006, 15:04 MST")
	case "de":
		return strconv.Itoa(at.Day()) + ". " + germanMonths[at.Month()-1] + at.Format(" 2006, 15:04 Uhr (MST)")
	}
	return at.Format("2006-01-02 15:04 MST")
}
