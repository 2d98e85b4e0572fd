// Package browser starts a private headless Chromium for tests. What a page complains of, and every
// request that it makes, is recorded, so that a test can demand that there is nothing of the
// kind. Chromium runs with a profile of its own, which is removed, resolves no name but localhost, and ends with the test.
package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
)

// Browser is one Chromium.
type Browser struct {
	ctx    context.Context
	cancel []context.CancelFunc
	dir    string
}

// flags keep Chromium from asking anybody anything.
var flags = []chromedp.ExecAllocatorOption{
	chromedp.Flag("headless", true), chromedp.Flag("no-sandbox", true), chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-quic", true),
	chromedp.Flag("no-first-run", true), chromedp.Flag("no-default-browser-check", true), chromedp.Flag("disable-background-networking", true),
	chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true),
	chromedp.Flag("disable-extensions", true), chromedp.Flag("disable-default-apps", true), chromedp.Flag("disable-domain-reliability", true),
	chromedp.Flag("password-store", "basic"),
	chromedp.Flag("disable-features", "OptimizationHints,AutofillServerCommunication,NetworkTimeServiceQuerying,Translate,MediaRouter"),
	chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1, EXCLUDE [::1]"),
	chromedp.WindowSize(1280, 900), chromedp.WSURLReadTimeout(time.Minute),
}

// Start starts the program with a new profile below dir.
func Start(program, dir string) (*Browser, error) {
	profile, err := os.MkdirTemp(dir, "chromium-")
	if err != nil {
		return nil, err
	}
	options := append([]chromedp.ExecAllocatorOption{chromedp.ExecPath(program), chromedp.UserDataDir(filepath.Join(profile, "profile")),
		chromedp.Env("HOME="+profile, "XDG_CONFIG_HOME="+profile, "XDG_CACHE_HOME="+profile, "TMPDIR="+profile)}, flags...)
	allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, closeTab := chromedp.NewContext(allocator)
	b := &Browser{ctx: ctx, cancel: []context.CancelFunc{closeTab, end}, dir: profile}
	if err := chromedp.Do(ctx); err != nil {
		b.Close()
		return nil, fmt.Errorf("chromium does not start: %w", err)
	}
	return b, nil
}

// Close ends the program and removes its profile.
func (b *Browser) Close() {
	_ = chromedp.Cancel(b.ctx) // it is ended below, whatever it says
	for _, cancel := range b.cancel {
		cancel()
	}
	_ = os.RemoveAll(b.dir)
}

// Limits of one step of a tab. Machines that run the tests do other work at the same time.
const (
	stepLimit  = time.Minute           // of a step
	clickAgain = 20 * time.Second      // after a click that brought no page
	pollPause  = 20 * time.Millisecond // between two looks at a page that is to come
)

// Tab is one page with cookies of its own. Each of its methods gives up after a minute.
type Tab struct {
	ctx context.Context

	mu       sync.Mutex // guards the fields below
	wrong    []string   // exceptions, errors on the console, breaches of the page's policy
	requests []string
}

// Tab opens one; close ends it.
func (b *Browser) Tab() (t *Tab, closeTab func(), err error) {
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	if err := chromedp.Do(ctx); err != nil {
		cancel()
		return nil, nil, err
	}
	t = &Tab{ctx: ctx}
	if err := chromedp.Listen(ctx, t.event); err != nil {
		cancel()
		return nil, nil, err
	}
	return t, cancel, nil
}

// do takes steps that have no result.
func (t *Tab) do(steps ...chromedp.Action[chromedp.Void]) error {
	ctx, stop := context.WithTimeout(t.ctx, stepLimit)
	defer stop()
	return chromedp.Do(ctx, steps...)
}

// run takes a step that has one.
func run[T any](t *Tab, step chromedp.Action[T]) (T, error) {
	ctx, stop := context.WithTimeout(t.ctx, stepLimit)
	defer stop()
	return chromedp.Run(ctx, step)
}

// call has Chromium do something.
func call[P, R any](t *Tab, command cdp.Command[P, R], params P) (R, error) {
	ctx, stop := context.WithTimeout(t.ctx, stepLimit)
	defer stop()
	return chromedp.Call(ctx, command, params)
}

func (t *Tab) event(ev any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e := ev.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type == "error" || e.Type == "warning" {
			t.wrong = append(t.wrong, fmt.Sprintf("console: %v", e.Args))
		}
	case *runtime.EventExceptionThrown:
		t.wrong = append(t.wrong, "exception: "+e.ExceptionDetails.Text)
	case *log.EventEntryAdded:
		// The answers 401 and so on, which pages are meant to give, are of the source "network".
		if e.Entry.Source != "network" {
			t.wrong = append(t.wrong, fmt.Sprintf("%s: %s", e.Entry.Source, e.Entry.Text))
		}
	case *network.EventRequestWillBeSent:
		t.requests = append(t.requests, e.Request.URL)
	}
}

// Wrong is what the pages of the tab complained of, and requests to other machines.
func (t *Tab) Wrong() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := append([]string(nil), t.wrong...)
	for _, r := range t.requests {
		u, err := url.Parse(r)
		if err != nil || u.Scheme != "data" && u.Scheme != "about" && u.Hostname() != "localhost" && u.Hostname() != "127.0.0.1" {
			list = append(list, "request: "+r)
		}
	}
	return list
}

// Open goes to an address.
func (t *Tab) Open(address string) error { return t.do(chromedp.Navigate(address)) }

// Type writes into the field with an ID, as keys.
func (t *Tab) Type(id, text string) error {
	return t.do(chromedp.SendKeys(chromedp.ID(id), text))
}

// Send clicks what a CSS selector finds and waits for the page that follows. On a machine with much to do a click can get lost in
// Chromium, for instance while the size of the window changes: where no page follows, there is a second one, as a person would.
func (t *Tab) Send(selector string) error {
	ctx, stop := context.WithTimeout(t.ctx, stepLimit)
	defer stop()
	old, err := run(t, began)
	if err != nil {
		return err
	}
	if err := t.Click(selector); err != nil {
		return fmt.Errorf("no click on %s: %w", selector, err)
	}
	again, pause := time.NewTimer(clickAgain), time.NewTicker(pollPause)
	defer again.Stop()
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("no page followed the click on %s: %w", selector, ctx.Err())
		case <-again.C:
			if err := t.Click(selector); err != nil {
				return fmt.Errorf("no second click on %s: %w", selector, err)
			}
		case <-pause.C:
			// While one page gives way to the next there is none to ask, and that is an error.
			if now, err := run(t, loaded); err == nil && now != 0 && now != old {
				return nil
			}
		}
	}
}

// What tells a page from the one before it: when it began, in milliseconds; and the same once it has loaded, until then 0.
var (
	began  = chromedp.Evaluate[float64]("performance.timeOrigin")
	loaded = chromedp.Evaluate[float64]("document.readyState == 'complete' ? performance.timeOrigin : 0")
)

// Click clicks what a CSS selector finds.
func (t *Tab) Click(selector string) error {
	return t.do(chromedp.Click(chromedp.CSS(selector)))
}

// Text is the text of the page, or of the element that a CSS selector finds, hidden or not.
func (t *Tab) Text(selector string) (string, error) {
	quoted, err := json.Marshal(selector)
	if err != nil {
		return "", err
	}
	return run(t, chromedp.Evaluate[string]("document.querySelector("+string(quoted)+")?.textContent ?? ''"))
}

// Path is where the tab is.
func (t *Tab) Path() (string, error) {
	return run(t, chromedp.Evaluate[string]("location.pathname"))
}

// NoScript turns the scripts of pages off.
func (t *Tab) NoScript() error { return t.Scripts(false) }

// Visible is the text that a reader sees of what a CSS selector finds.
func (t *Tab) Visible(selector string) (string, error) {
	quoted, err := json.Marshal(selector)
	if err != nil {
		return "", err
	}
	return run(t, chromedp.Evaluate[string]("document.querySelector("+string(quoted)+")?.innerText ?? ''"))
}

// Authenticator is a security key that Chromium plays to a tab. It stays with the tab.
type Authenticator struct {
	t  *Tab
	id webauthn.AuthenticatorID
}

// Authenticator gives the tab one, which consents to everything and verifies its user. It must be there before a page asks for it.
func (t *Tab) Authenticator() (*Authenticator, error) {
	if _, err := call(t, webauthn.Enable, webauthn.EnableParams{}); err != nil {
		return nil, err
	}
	added, err := call(t, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Ctap2version: webauthn.Ctap2versionCtap21, Transport: webauthn.AuthenticatorTransportInternal,
		HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true}})
	if err != nil {
		return nil, err
	}
	return &Authenticator{t, added.AuthenticatorID}, nil
}

// Verify says whether the authenticator knows its user by the finger from now on.
func (a *Authenticator) Verify(verified bool) error {
	_, err := call(a.t, webauthn.SetUserVerified, webauthn.SetUserVerifiedParams{AuthenticatorID: a.id, IsUserVerified: verified})
	return err
}

// Cookies is what a script of the page sees of cookies.
func (t *Tab) Cookies() (string, error) {
	return run(t, chromedp.Evaluate[string]("document.cookie"))
}

// Phone makes the tab a phone's, and Desk a screen's. The page must be allowed its scripts.
func (t *Tab) Phone() error {
	return t.window(chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulateScale(2)))
}

// Desk is the reverse of Phone.
func (t *Tab) Desk() error { return t.window(chromedp.EmulateViewport(1280, 900)) }

// window gives the tab another window, and waits until the page was drawn in it: what is clicked before that may be elsewhere.
func (t *Tab) window(size chromedp.Action[chromedp.Void]) error {
	if err := t.do(size); err != nil {
		return err
	}
	_, err := run(t, chromedp.Evaluate[bool]("new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(() => drawn(true))))", chromedp.EvalAwaitPromise))
	return err
}

// Dark says whether the user wants dark pages.
func (t *Tab) Dark(dark bool) error {
	value := "light"
	if dark {
		value = "dark"
	}
	features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: value}}
	_, err := call(t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
	return err
}

// Picture writes the whole page as a PNG file.
func (t *Tab) Picture(file string) error {
	png, err := run(t, chromedp.FullScreenshot(100))
	if err != nil {
		return err
	}
	return os.WriteFile(file, png, 0o644)
}

// Wide reports whether the page is wider than the window, so that a reader must scroll sideways.
func (t *Tab) Wide() (bool, error) {
	return run(t, chromedp.Evaluate[bool]("document.documentElement.scrollWidth > document.documentElement.clientWidth"))
}

// Weight is the bytes of the page and of what it has loaded, compressed or not as they came, cached or not.
func (t *Tab) Weight() (int, error) {
	return run(t, chromedp.Evaluate[int](`[...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].reduce((n, e) => n + e.encodedBodySize, 0)`))
}

// Scripts says whether pages may run scripts, from the next one on.
func (t *Tab) Scripts(on bool) error {
	_, err := call(t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
	return err
}

// Shown reports whether what a CSS selector finds is there, and not hidden.
func (t *Tab) Shown(selector string) (bool, error) {
	quoted, err := json.Marshal(selector)
	if err != nil {
		return false, err
	}
	return run(t, chromedp.Evaluate[bool]("!!document.querySelector("+string(quoted)+")?.checkVisibility()"))
}

// Axe runs the accessibility checker of a file (npm's axe-core) on the page and is what it found.
func (t *Tab) Axe(file string) ([]string, error) {
	source, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	const check = `;axe.run(document, {runOnly: {type: 'tag', values: ['wcag2a','wcag2aa','wcag21a','wcag21aa','wcag22aa','best-practice']}})
.then(r => JSON.stringify(r.violations.map(v => v.id + ': ' + v.help + ': ' + v.nodes.map(n => n.html).slice(0, 3).join(' | '))))`
	text, err := run(t, chromedp.Evaluate[string](string(source)+check, chromedp.EvalAwaitPromise))
	if err != nil {
		return nil, err
	}
	var list []string
	return list, json.Unmarshal([]byte(strings.TrimSpace(text)), &list)
}
