package config

import (
	"net"
	"strconv"
	"strings"

	"appbind/wire"
)

// contradictions notes what one key demands of another and does not get.
func (d *decoder) contradictions(cfg *Config) {
	d.listeners(cfg)
	d.serverTLS(cfg)
	d.upstream(&cfg.Upstream)
	d.credentials(&cfg.Upstream)
	d.users(&cfg.Users)
	d.external(cfg)
	d.ownEntry(cfg)
	d.lifetimes(&cfg.AppPasswords)
	d.history(&cfg.History)
	d.snapshot(&cfg.AppPasswords)
	d.mail(&cfg.Mail)
	d.webhook(&cfg.Webhook)
	d.limits(cfg)
	d.observe(&cfg.Observe)
	d.portal(cfg)
}

// required notes a key that is empty, unless something was wrong with its value already.
func (d *decoder) required(key string, empty bool, why string) {
	if empty && !d.wrong[key] {
		d.mistakef(key, "is required: %s", why)
	}
}

// listeners checks each listener and that no two are the same.
func (d *decoder) listeners(cfg *Config) {
	d.required("listeners", len(cfg.Listeners) == 0, "at least one address to serve, such as [{url: ldap://127.0.0.1:3389}]")
	first := map[string]string{}
	for i := range cfg.Listeners {
		l, at := &cfg.Listeners[i], "listeners["+strconv.Itoa(i)+"]"
		if l.URL.Scheme == "" {
			d.required(at+".url", !d.given(at+".url") && !d.wrong[at], "the address to serve, such as ldap://127.0.0.1:3389")
			continue
		}
		if before, twice := first[l.URL.Address]; twice && !strings.HasSuffix(l.URL.Address, ":0") {
			d.mistakef(at+".url", "is the address of %s too", before)
		}
		first[l.URL.Address] = at
		d.listenerTLS(at, l, cfg.TLS)
		d.listenerTrust(at, l, cfg.TLS)
	}
}

// listenerTLS checks that passwords can arrive as the listener wants them.
func (d *decoder) listenerTLS(at string, l *Listener, tls TLS) {
	if l.URL.Scheme == "ldapi" {
		if len(l.ProxyProtocolFrom) > 0 {
			d.mistakef(at+".proxy_protocol_from", "an ldapi listener has no peer addresses; leave it out")
		}
		if len(l.AllowFrom) > 0 {
			d.mistakef(at+".allow_from", "an ldapi listener has no peer addresses; who may use the socket is said by mode and its directory")
		}
		return
	}
	if d.given(at+".mode") && !d.wrong[at+".mode"] {
		d.mistakef(at+".mode", "is for ldapi listeners: the permissions of the socket file")
	}
	switch {
	case tls.Certificate != "" || d.wrong["tls.certificate"]:
	case l.URL.Scheme == "ldaps":
		d.mistakef(at+".url", "an ldaps listener needs tls.certificate and tls.key")
	case l.Cleartext == "refuse":
		d.mistakef(at+".cleartext", "refuse leaves StartTLS only, which needs tls.certificate and tls.key")
	case l.Cleartext == "loopback" && !l.URL.Loopback():
		d.mistakef(at+".cleartext", "loopback means that passwords from other machines come over TLS, which needs tls.certificate and tls.key; allow takes them in clear")
	}
}

// listenerTrust checks that a context is only believed from peers who are
// vouched for: it says who the user is, and whoever may say so can walk around
// every restriction of an app password to services and networks.
func (d *decoder) listenerTrust(at string, l *Listener, tls TLS) {
	if l.Context != "trusted" || d.wrong[at+".context"] {
		return
	}
	verified := tls.ClientCA != "" || d.wrong["tls.client_ca"]
	const rule = "trusted is for peers that are vouched for (an ldapi or loopback listener, or tls.client_ca): "
	switch {
	case l.Clients == "direct":
		d.mistakef(at+".context", "trusted contradicts clients: direct: users would name their own service and address")
	case verified:
	case !l.URL.Loopback():
		d.mistakef(at+".context", rule+"whoever reaches this address could claim to be any user's service and address")
	case len(l.ProxyProtocolFrom) > 0:
		d.mistakef(at+".context", rule+"behind proxy_protocol_from the peers are not on this machine")
	}
}

// serverTLS checks that the parts of the server's certificate are complete.
func (d *decoder) serverTLS(cfg *Config) {
	t := cfg.TLS
	d.pair("tls", t.Certificate, t.Key)
	if t.ClientCA != "" && t.Certificate == "" && !d.wrong["tls.certificate"] {
		d.mistakef("tls.client_ca", "client certificates come over TLS, which needs tls.certificate and tls.key")
	}
}

// pair checks that a certificate has a key and a key a certificate.
func (d *decoder) pair(section, certificate, key string) {
	if certificate != "" {
		d.required(section+".key", key == "", "the private key of "+section+".certificate")
	}
	if key != "" {
		d.required(section+".certificate", certificate == "", "the certificate of "+section+".key")
	}
}

// upstream checks where the directory is and how it is reached.
func (d *decoder) upstream(u *Upstream) {
	switch {
	case len(u.URLs) > 0 && u.Embedded != "":
		d.mistakef("upstream.embedded", "contradicts upstream.urls: give one of them")
	case u.Embedded == "" && !d.wrong["upstream.embedded"]:
		d.required("upstream.urls", len(u.URLs) == 0, "the directory's servers, such as [ldaps://ldap.example.org] (or upstream.embedded)")
	}
	overTLS := false
	for i, url := range u.URLs {
		at := "upstream.urls[" + strconv.Itoa(i) + "]"
		overTLS = overTLS || url.Scheme == "ldaps" || url.Scheme == "ldap" && u.StartTLS || d.wrong[at]
		switch {
		case url.Scheme == "" || url.Scheme == "ldapi":
		case url.Host == "":
			d.mistakef(at, "the host is missing")
		case strings.HasSuffix(url.Address, ":0"):
			d.mistakef(at, "the port must not be 0")
		}
		if url.Scheme == "ldaps" && u.StartTLS {
			d.mistakef(at, "ldaps contradicts upstream.starttls, which is for ldap:// servers")
		}
	}
	d.pair("upstream", u.Certificate, u.Key)
	d.upstreamTLS(u, overTLS)
	if u.ConnectTimeout >= u.BindTimeout && !d.wrong["upstream.connect_timeout"] && !d.wrong["upstream.bind_timeout"] {
		d.mistakef("upstream.connect_timeout", "must be shorter than upstream.bind_timeout (%v), which includes it", u.BindTimeout)
	}
}

// upstreamTLS notes settings of TLS that would go unused: who wrote them believes that there is TLS.
func (d *decoder) upstreamTLS(u *Upstream, overTLS bool) {
	if overTLS || len(u.URLs) == 0 {
		return
	}
	for _, k := range []struct{ key, value string }{
		{"upstream.ca", u.CA}, {"upstream.server_name", u.ServerName}, {"upstream.certificate", u.Certificate},
	} {
		if k.value != "" {
			d.mistakef(k.key, "is for TLS, and no server in upstream.urls is reached by it: use ldaps://, or starttls: true")
		}
	}
	if u.StartTLS {
		d.mistakef("upstream.starttls", "is for ldap:// servers, and upstream.urls has none")
	}
}

// credentials checks the two identities that appbind has in the directory.
func (d *decoder) credentials(u *Upstream) {
	if len(u.URLs) > 0 {
		d.required("upstream.bind_dn", u.BindDN == "", "the identity that looks up users and reads their app passwords")
	}
	d.login("upstream.bind", u.BindDN, u.BindPassword, u.BindPasswordFile)
	d.login("upstream.manage", u.ManageDN, u.ManagePassword, u.ManagePasswordFile)
}

// login checks that an identity has one password, and a password an identity.
func (d *decoder) login(prefix, dn string, password Secret, file string) {
	dnKey, key, fileKey := prefix+"_dn", prefix+"_password", prefix+"_password_file"
	if password != "" && file != "" {
		d.mistakef(fileKey, "contradicts %s: give one of them", key)
	}
	given := key
	if file != "" {
		given = fileKey
	}
	has := password != "" || file != ""
	switch {
	case d.wrong[dnKey] || d.wrong[key] || d.wrong[fileKey]:
	case dn != "" && !has:
		d.mistakef(dnKey, "needs its password: give %s", fileKey)
	case dn == "" && has:
		d.mistakef(given, "is the password of %s, which is not given", dnKey)
	}
}

// users checks which entries are users.
func (d *decoder) users(u *Users) {
	d.required("users.bases", len(u.Bases) == 0, `the DNs below which users stand, such as ["ou=people,dc=example,dc=org"]`)
	// checkFilter has seen that %s is in no attribute name.
	if u.NameFilter != "" && !strings.Contains(u.NameFilter, "%s") {
		d.mistakef("users.name_filter", "must have %%s where the bind name goes, such as (|(uid=%%s)(mail=%%s))")
	}
}

// external checks the map of SASL EXTERNAL.
func (d *decoder) external(cfg *Config) {
	accounts := map[string]bool{}
	for _, text := range cfg.ServiceAccounts {
		accounts[dnKey(text)] = true
	}
	peers := map[string]string{}
	for i := range cfg.External {
		e, at := &cfg.External[i], "external["+strconv.Itoa(i)+"]"
		if d.wrong[at] {
			continue
		}
		d.externalPeer(cfg, e, at, peers)
		d.required(at+".dn", e.DN == "", "the service account that the peer becomes")
		if e.DN != "" && !accounts[dnKey(e.DN)] && !d.wrong[at+".dn"] {
			d.mistakef(at+".dn", "must stand in service_accounts")
		}
		d.required(at+".password_file", e.PasswordFile == "", "the password with which appbind binds as "+at+".dn")
	}
}

// externalPeer checks who is mapped, and that such a peer can come.
func (d *decoder) externalPeer(cfg *Config, e *External, at string, peers map[string]string) {
	if d.wrong[at+".uid"] || d.wrong[at+".subject"] {
		return
	}
	key, peer := at+".uid", ""
	switch {
	case (e.UID == nil) == (e.Subject == ""):
		d.mistakef(at, "must have either uid or subject")
		return
	case e.UID != nil:
		peer = "uid " + strconv.Itoa(*e.UID)
		if !anyListener(cfg, func(l *Listener) bool { return l.URL.Scheme == "ldapi" || l.URL.Scheme == "" }) {
			d.mistakef(key, "needs an ldapi listener: no other connection has a uid")
		}
	default:
		key, peer = at+".subject", "subject "+dnKey(e.Subject)
		if cfg.TLS.ClientCA == "" && !d.wrong["tls.client_ca"] {
			d.mistakef(key, "needs tls.client_ca: without it no client certificate is asked for")
		}
	}
	if before, twice := peers[peer]; twice {
		d.mistakef(key, "is mapped by %s already", before)
	}
	peers[peer] = at
}

// anyListener reports whether is holds for one of the listeners.
func anyListener(cfg *Config, is func(*Listener) bool) bool {
	for i := range cfg.Listeners {
		if is(&cfg.Listeners[i]) {
			return true
		}
	}
	return false
}

// dnKey is a DN in a form for comparisons.
func dnKey(text string) string {
	dn, err := wire.ParseDN(text)
	if err != nil {
		return text
	}
	return dn.Key()
}

// ownEntry checks that no attribute that app-password sessions may read is a password.
func (d *decoder) ownEntry(cfg *Config) {
	for i, name := range cfg.OwnEntryAttributes {
		at := "own_entry_attributes[" + strconv.Itoa(i) + "]"
		switch {
		case d.wrong[at]:
		case strings.EqualFold(name, cfg.AppPasswords.Attribute):
			d.mistakef(at, "is the secrets attribute (app_passwords.attribute); app-password sessions never read it")
		case PasswordLike(name):
			d.mistakef(at, "holds passwords, keys or their state; app-password sessions never read it")
		}
	}
}

// passwordLike are attributes that hold passwords or private keys under names that do not say so.
const passwordLike = " unicodepwd userpwd dbcspwd ntpwdhistory lmpwdhistory pwdhistory krbprincipalkey krbpwdhistory" +
	" supplementalcredentials ipanthash ipatokenotpkey olcrootpw userpkcs12 "

// PasswordLike reports whether an attribute name, without options, is one that
// holds passwords, private keys or the state of a password (userPassword, unicodePwd, sambaNTPassword ...).
func PasswordLike(name string) bool {
	name = strings.ToLower(name)
	return strings.Contains(name, "password") || strings.Contains(name, "passwd") || strings.Contains(name, "secret") ||
		strings.Contains(passwordLike, " "+name+" ")
}

// lifetimes checks that what is given by default is allowed.
func (d *decoder) lifetimes(a *AppPasswords) {
	const key, bound = "app_passwords.default_lifetime", "app_passwords.max_lifetime"
	if a.DefaultLifetime <= a.MaxLifetime || d.wrong[key] || d.wrong[bound] {
		return
	}
	if d.given(key) {
		d.mistakef(key, "must not be above %s (%v)", bound, a.MaxLifetime)
		return
	}
	d.mistakef(bound, "must not be below %s (%v), so give that too", key, a.DefaultLifetime)
}

// snapshot checks that there is something to keep, and a use for it.
func (d *decoder) snapshot(a *AppPasswords) {
	const key = "app_passwords.snapshot"
	switch {
	case !a.Snapshot:
	case a.Lookup != "replica" && !d.wrong["app_passwords.lookup"]:
		d.mistakef(key, "is of the copy of lookup: replica; give that too")
	case a.MaxStale == 0 && !d.wrong["app_passwords.max_stale"]:
		d.mistakef(key, "is never used with max_stale: 0s")
	}
}

// limits checks that the smaller limit is the smaller one.
func (d *decoder) limits(cfg *Config) {
	l := cfg.Limits
	if l.MessageBeforeBind > l.Message && !d.wrong["limits.message_before_bind"] && !d.wrong["limits.message"] {
		d.mistakef("limits.message_before_bind", "must not be above limits.message (%d)", l.Message)
	}
	if l.ConnectionsPerAddress > l.Connections && d.given("limits.connections_per_address") &&
		!d.wrong["limits.connections_per_address"] && !d.wrong["limits.connections"] {
		d.mistakef("limits.connections_per_address", "must not be above limits.connections (%d)", l.Connections)
	}
}

// observe checks that the profiler, which shows the inside of the process and
// costs what it measures, is for this machine alone.
func (d *decoder) observe(o *Observe) {
	if !o.PProf || d.wrong["observe.listen"] {
		return
	}
	host, _, _ := net.SplitHostPort(o.Listen) // checked by its tag
	if !(URL{Host: host}).Loopback() {
		d.mistakef("observe.pprof", "needs observe.listen to be a loopback address, such as 127.0.0.1:9390")
	}
}
