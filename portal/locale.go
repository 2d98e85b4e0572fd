package portal

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strings"

	"golang.org/x/text/language"

	"appbind/manage"
)

// fallbackLanguage has every message; the others may lack some.
const fallbackLanguage = "en"

// locale is one language's messages.
type locale struct {
	tag   string
	words map[string]string
	base  *locale // of fallbackLanguage; nil: this one is it
}

// readLocales reads the catalogues: a file for each language, messages by name.
func readLocales() (map[string]*locale, error) {
	names, err := fs.Glob(files, "locales/*.json")
	if err != nil {
		return nil, err
	}
	list := map[string]*locale{}
	for _, name := range names {
		data, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		l := &locale{tag: strings.TrimSuffix(path.Base(name), ".json")}
		if err := json.Unmarshal(data, &l.words); err != nil {
			return nil, fmt.Errorf("appbind: internal error: %s: %w", name, err)
		}
		list[l.tag] = l
	}
	for _, l := range list {
		if l.tag != fallbackLanguage {
			l.base = list[fallbackLanguage]
		}
	}
	return list, nil
}

// T is a message. One that is not in the catalogue is its own name, which tests look for.
func (l *locale) T(key string, args ...any) string {
	text, found := l.words[key]
	switch {
	case !found && l.base != nil:
		return l.base.T(key, args...)
	case !found:
		return key
	case len(args) == 0:
		return text
	}
	return fmt.Sprintf(text, args...)
}

// rule says what rule is broken: in this language where the catalogue has it, or as package manage says it.
func (l *locale) rule(broken *manage.Violation) string {
	key := "rule." + string(broken.Rule)
	if text := l.T(key, broken.Args...); text != key && broken.Rule != "" {
		return text
	}
	return broken.Reason
}

// Tag is the language's, as HTML wants it.
func (l *locale) Tag() string { return l.tag }

// Own is the language's name for itself.
func (l *locale) Own() string { return l.T("language.name") }

// languages are all, by their tags.
func (p *Portal) languages() []*locale {
	var list []*locale
	for _, l := range p.locales {
		list = append(list, l)
	}
	slices.SortFunc(list, func(a, b *locale) int { return strings.Compare(a.tag, b.tag) })
	return list
}

const languageCookie = "__Host-appbind-language"

// localeOf is the language that a reader has chosen, or that the browser asks for.
func (p *Portal) localeOf(r *http.Request) *locale {
	if c, err := r.Cookie(languageCookie); err == nil && p.locales[c.Value] != nil {
		return p.locales[c.Value]
	}
	if l := p.matching(r.Header.Get("Accept-Language")); l != nil {
		return l
	}
	return p.locales[fallbackLanguage]
}

// matching is the language that fits best what a browser accepts, or a user prefers, in the form of RFC 9110 12.5.4; nil: that says nothing.
func (p *Portal) matching(accept string) *locale {
	tags := []language.Tag{language.Make(fallbackLanguage)}
	known := []string{fallbackLanguage}
	for _, l := range p.languages() {
		if l.tag != fallbackLanguage {
			tags, known = append(tags, language.Make(l.tag)), append(known, l.tag)
		}
	}
	accepted, _, err := language.ParseAcceptLanguage(accept)
	if err != nil || len(accepted) == 0 {
		return nil
	}
	_, i, _ := language.NewMatcher(tags).Match(accepted...)
	return p.locales[known[i]]
}

// language takes the reader's choice.
func (v *visit) language() error {
	if l := v.p.locales[v.r.PostFormValue("language")]; l != nil {
		http.SetCookie(v.w, &http.Cookie{Name: languageCookie, Value: l.tag, Path: "/", Secure: true, HttpOnly: true,
			SameSite: http.SameSiteLaxMode, MaxAge: 365 * 24 * 3600})
	}
	v.redirect(local(v.r.PostFormValue("next"), "/"))
	return nil
}

// local is an address on these pages, or another one where it would lead elsewhere.
func local(path, otherwise string) string {
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsAny(path, "\\\r\n\t") {
		return otherwise
	}
	return path
}
