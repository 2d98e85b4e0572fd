package config

import (
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// Portal is the self-service pages.
type Portal struct {
	// Enabled is false to switch the pages off: the address answers 503, and all sessions end; default true.
	Enabled bool `yaml:"enabled"`
	// Listen is the address of the pages, HOST:PORT; empty: there are none.
	Listen string `yaml:"listen" is:"hostport"`
	// URL is the address by which browsers reach them, without a path: https://passwords.example.org. Requests for other names are refused.
	URL string `yaml:"url" is:"origin"`
	// Certificate is a PEM file with the certificate chain; empty: a reverse proxy in trusted_proxies, or on this machine, does TLS. It is read again when it changes.
	Certificate string `yaml:"certificate" is:"file"`
	// Key is the PEM file of the private key; group and others must not be able to read it.
	Key string `yaml:"key" is:"secretfile"`
	// TrustedProxies are the networks of reverse proxies whose X-Forwarded-For is believed; without a certificate only they, and this machine, may connect.
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies"`
	// Filter is the filter that a user's entry must match to use the pages; empty: every user may.
	Filter string `yaml:"filter" is:"filter"`
	// Admins are DNs of entries and of groups whose members may find users, see and revoke their app passwords, and issue enrolment codes.
	Admins []string `yaml:"admins" is:"dn"`
	// Name is the site's name, on every page, in authenticator apps and in configuration profiles; empty: the host of url.
	Name string `yaml:"name"`
	// LoginAttribute holds the name that mail programs log in with; default mail.
	LoginAttribute string `yaml:"login_attribute" is:"attribute"`
	// IMAP is the mail server shown beside a new app password and put into configuration profiles, HOST:PORT; on 143 with STARTTLS, else TLS.
	IMAP string `yaml:"imap" is:"hostport"`
	// POP3 likewise; on 110 with STARTTLS, else TLS.
	POP3 string `yaml:"pop3" is:"hostport"`
	// SMTP likewise, for submission; on 25 and 587 with STARTTLS, else TLS.
	SMTP string `yaml:"smtp" is:"hostport"`
	// Idle ends a session that was not used for so long; default 15m.
	Idle Duration `yaml:"idle" range:"1m..24h"`
	// Lifetime ends every session; default 8h.
	Lifetime Duration `yaml:"lifetime" range:"5m..30d"`
	// FreshFactor is how old the last proof of a second factor may be when an app password is made or a factor changed; default 5m.
	FreshFactor Duration `yaml:"fresh_factor" range:"1m..1h"`
	// EnrolCode is how long a one-time code for the first second factor is good; default 7d.
	EnrolCode Duration `yaml:"enrol_code" range:"1h..90d"`
	// OpenID is the sign-in at an OpenID Connect provider, beside the directory's password or in its place.
	OpenID OpenID `yaml:"openid"`
}

// Secure reports whether browsers reach the pages by TLS.
func (p *Portal) Secure() bool { return strings.HasPrefix(p.URL, "https://") }

// Host is the host of the URL, with its port where it has one.
func (p *Portal) Host() string { return p.URL[strings.Index(p.URL, "://")+len("://"):] }

// checkOrigin checks the address of a site without a path. In clear only this machine's own name will do, for a trial: browsers take
// it for secure, and no other.
func checkOrigin(text string) string {
	const must = "must be an address without a path, such as https://passwords.example.org"
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Hostname() == "" || text != u.Scheme+"://"+u.Host || u.Host != strings.ToLower(u.Host) {
		return must
	}
	if host, port, err := net.SplitHostPort(u.Host); err == nil {
		if host == "" || port == "" {
			return must
		}
	}
	switch {
	case u.Scheme == "https":
	case u.Scheme == "http" && u.Hostname() == "localhost":
	default:
		return must + "; http is for localhost only"
	}
	return ""
}

// portal checks that the pages can be reached, and keep what they must.
func (d *decoder) portal(cfg *Config) {
	p := &cfg.Portal
	d.pair("portal", p.Certificate, p.Key)
	d.openID(&p.OpenID)
	if p.Listen == "" || d.wrong["portal.listen"] {
		return
	}
	d.required("portal.url", p.URL == "", "the address by which browsers reach the pages, such as https://passwords.example.org")
	if cfg.History.Store == "none" && !d.wrong["history.store"] {
		d.mistakef("portal.listen", "needs a store for sessions and factors: history.store must not be none")
	}
	if cfg.Users.NameFilter == "" && !d.wrong["users.name_filter"] {
		d.mistakef("portal.listen", "needs users.name_filter, by which people sign in, such as (|(uid=%%s)(mail=%%s))")
	}
	host, _, _ := net.SplitHostPort(p.Listen) // checked by its tag
	clear := p.Certificate == "" && !d.wrong["portal.certificate"]
	switch {
	case clear && len(p.TrustedProxies) == 0 && !(URL{Host: host}).Loopback():
		d.mistakef("portal.listen", "needs portal.certificate and portal.key, or portal.trusted_proxies that do TLS, where it is no loopback address")
	case !clear && p.URL != "" && !p.Secure():
		d.mistakef("portal.url", "must be https, since portal.certificate is given")
	}
	if p.Lifetime < p.Idle && !d.wrong["portal.lifetime"] && !d.wrong["portal.idle"] {
		d.mistakef("portal.lifetime", "must not be below portal.idle (%v)", p.Idle)
	}
}
