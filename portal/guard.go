package portal

import (
	"fmt"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strings"
)

// maxBody bounds the body of a request: a form with a password, a label and a list of networks, or a passkey's answer.
const maxBody = 64 << 10

// policy is the Content-Security-Policy: nothing from anywhere but our own style sheet, script and pictures, no form to
// elsewhere, in nobody's frame.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// guarded is what every request passes before its route is looked for.
func (p *Portal) guarded(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.headers(w.Header())
		defer p.contain(w, r)
		switch addr, ok := p.client(r); {
		case !ok:
			p.refuse(w, r, http.StatusForbidden, "error.proxy")
		case !sameHost(r.Host, p.cfg.Host()):
			// A name that somebody else has pointed here, see DNS rebinding.
			p.refuse(w, r, http.StatusMisdirectedRequest, "error.host")
		case cross.Check(r) != nil, !safe(r.Method) && r.URL.Path != logoutPath && r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "":
			// Every browser of this decade says where a form comes from; what does not say it is no browser, as the provider that
			// tells of a sign-out is none.
			p.refuse(w, r, http.StatusForbidden, "error.origin")
		default:
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			next.ServeHTTP(w, r.WithContext(withAddr(r.Context(), addr)))
		}
	})
}

// contain keeps a panic, which is our bug, to its request. What the panic says may be anybody's, so that only the runtime's own words are logged.
func (p *Portal) contain(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	said := fmt.Sprintf("%T", v)
	if err, ok := v.(runtime.Error); ok {
		said = err.Error()
	}
	// The stack names functions and addresses, no contents of requests.
	p.Log.Error("appbind: internal error", "panic", said, "path", r.URL.Path, "stack", string(debug.Stack()))
	p.refuse(w, r, http.StatusInternalServerError, "error.internal")
}

// headers are those of every answer.
func (p *Portal) headers(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Frame-Options", "DENY") // for browsers that do not know frame-ancestors
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()")
	h.Set("X-Robots-Tag", "noindex, nofollow")
	if p.cfg.Secure() {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

func safe(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// sameHost compares a Host header with the configured one; a port that a proxy has left out counts as the configured one.
func sameHost(got, want string) bool {
	got = strings.ToLower(got)
	if got == want {
		return true
	}
	name, _, _ := strings.Cut(want, ":")
	return !strings.HasPrefix(want, "[") && got == name
}

// client is the address of the browser, and whether the request came a way that is trusted: over our TLS, from
// this machine, or from a proxy that is trusted. The last address of X-Forwarded-For that no trusted proxy has is the browser's;
// what stands before it, anybody can write.
func (p *Portal) client(r *http.Request) (netip.Addr, bool) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, false
	}
	addr := peer.Addr().Unmap().WithZone("")
	// On this machine's own address, without a certificate, it is a proxy of this machine.
	trusted := within(addr, p.cfg.TrustedProxies) || addr.IsLoopback() && p.cfg.Certificate == ""
	if r.TLS == nil && !trusted {
		return addr, false
	}
	if r.TLS == nil && trusted && p.cfg.Secure() {
		if proto := r.Header.Get("X-Forwarded-Proto"); proto != "" && proto != "https" {
			return addr, false
		}
	}
	if !trusted {
		return addr, true
	}
	list := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(list) - 1; i >= 0; i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(list[i]))
		if err != nil {
			break
		}
		addr = hop.Unmap().WithZone("")
		if !within(addr, p.cfg.TrustedProxies) {
			break
		}
	}
	return addr, true
}

func within(a netip.Addr, list []netip.Prefix) bool {
	for _, n := range list {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// cookieName is the session's. Browsers keep __Host- to this host and to TLS (localhost counts as TLS).
const cookieName = "__Host-appbind"

// flowCookie is that of a journey to the provider.
const flowCookie = "__Host-appbind-openid"

// setCookie gives the browser a token; "" takes it away. No script reads it, and no other site's form sends it.
func (p *Portal) setCookie(w http.ResponseWriter, token string) { setCookie(w, cookieName, token) }

func setCookie(w http.ResponseWriter, name, token string) {
	c := &http.Cookie{Name: name, Value: token, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if token == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}
