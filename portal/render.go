package portal

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed templates assets locales
var files embed.FS

// asset is a file that browsers may keep: its name changes with its content.
type asset struct {
	name, kind string
	data       []byte
}

// readAssets reads the files, by the name that pages call them.
func readAssets() (map[string]asset, error) {
	list := map[string]asset{}
	entries, err := fs.ReadDir(files, "assets")
	if err != nil {
		return nil, err
	}
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	for _, e := range entries {
		data, err := files.ReadFile("assets/" + e.Name())
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(data)
		ext := path.Ext(e.Name())
		name := strings.TrimSuffix(e.Name(), ext) + "-" + hex.EncodeToString(sum[:6]) + ext
		list[e.Name()] = asset{name, kinds[ext], data}
	}
	return list, nil
}

// asset serves one.
func (p *Portal) asset(w http.ResponseWriter, r *http.Request) {
	for _, a := range p.assets {
		if a.name == r.PathValue("file") {
			w.Header().Set("Content-Type", a.kind)
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
			_, _ = w.Write(a.data)
			return
		}
	}
	p.refuse(w, r, http.StatusNotFound, "error.notfound")
}

// readPages parses each page with the layout around it.
func readPages() (map[string]*template.Template, error) {
	pages := map[string]*template.Template{}
	layout, err := template.ParseFS(files, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		page := strings.TrimSuffix(path.Base(name), ".html")
		if page == "layout" || page == "parts" {
			continue
		}
		t, err := layout.Clone()
		if err != nil {
			return nil, err
		}
		if pages[page], err = t.ParseFS(files, name); err != nil {
			return nil, err
		}
	}
	return pages, nil
}

// view is what a page is made of. Its methods are what templates call.
type view struct {
	*locale
	v     *visit
	Title string
	Data  any
	Done  string // what was just done, in words; ""
}

// notices are what a page may say was done; the address names one of them and can say nothing else.
var notices = map[string]bool{"renamed": true, "extended": true, "restricted": true, "revoked": true, "revokedall": true,
	"removed": true, "enrolled": true, "signedout": true}

// render answers with a page.
func (v *visit) render(code int, page, title string, data any) {
	w := &view{locale: v.l, v: v, Title: title, Data: data}
	if done := v.r.URL.Query().Get("done"); notices[done] && v.r.Method == http.MethodGet {
		w.Done = v.l.T("done." + done)
	}
	var b bytes.Buffer
	if err := v.p.pages[page].ExecuteTemplate(&b, "layout", w); err != nil {
		v.p.Log.Error("portal: a page could not be made", "page", page, "err", err)
		http.Error(v.w, "internal error", http.StatusInternalServerError)
		return
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.Header().Set("Content-Language", v.l.tag)
	v.w.Header().Set("Vary", "Accept-Language, Cookie")
	v.w.WriteHeader(code)
	_, _ = v.w.Write(b.Bytes()) // the browser has gone, then
}

// Asset is the path of a file.
func (w *view) Asset(name string) string { return "/assets/" + w.v.p.assets[name].name }

// Site is the site's name.
func (w *view) Site() string { return w.v.p.site }

// Token is the token of forms.
func (w *view) Token() string { return w.v.Token() }

// Path is the page's own.
func (w *view) Path() string { return w.v.r.URL.Path }

// User is the name of the signed-in user; "" before.
func (w *view) User() string {
	if !w.v.is(stageFull) {
		return ""
	}
	return w.v.person.name
}

// Paused reports whether app passwords are refused at binds for now, which a signed-in user is told.
func (w *view) Paused() bool { return w.v.is(stageFull) && !w.v.p.Config.Accepts() }

// Did is an action of the audit in words.
func (w *view) Did(action string) string { return w.T("did." + action) }

// Halfway reports whether somebody has begun to sign in.
func (w *view) Halfway() bool { return w.v.session != nil && !w.v.is(stageFull) }

// Admin reports whether the user is one.
func (w *view) Admin() bool { return w.v.is(stageFull) && w.v.session.admin }

// Languages are those that can be chosen.
func (w *view) Languages() []*locale { return w.v.p.languages() }

// Lang is the page's.
func (w *view) Lang() string { return w.tag }

// moment is a time on a page.
type moment struct{ ISO, Text string }

// At is a time for people, in UTC, and for the script, which shows it in the reader's own.
func (w *view) At(t time.Time) moment {
	if t.IsZero() {
		return moment{"", "–"}
	}
	return moment{t.UTC().Format(time.RFC3339), t.UTC().Format(w.T("format.time"))}
}

// scopesView is the part of a form with services and networks.
type scopesView struct {
	View     *view
	chosen   []string
	Networks string
}

// Scopes is that part, with what is chosen at first.
func (w *view) Scopes(chosen []string, networks string) scopesView {
	return scopesView{w, chosen, networks}
}

// List are the services that can be chosen: those that there are, and those that somebody has written past the pages.
func (s scopesView) List() []string {
	list := slices.Clone(services)
	for _, one := range s.chosen {
		if !slices.Contains(list, one) {
			list = append(list, one)
		}
	}
	return list
}

// Name is a service for people.
func (s scopesView) Name(service string) string {
	if slices.Contains(services, service) {
		return s.View.T("service." + service)
	}
	return service
}

// Has reports whether a service is chosen.
func (s scopesView) Has(service string) bool { return slices.Contains(s.chosen, service) }

// Join is a list as a form takes it.
func (w *view) Join(list []string) string { return strings.Join(list, ", ") }

// OTP marks an otpauth:// address of ours as one that a page may link to.
func (w *view) OTP(url string) template.URL { return template.URL(url) }

// N is a number of things, with the word for one or for several.
func (w *view) N(n int, key string) string {
	form := ".many"
	if n == 1 {
		form = ".one"
	}
	return strconv.Itoa(n) + " " + w.T(key+form)
}
