// Package config is appbind's configuration: one YAML file, strict and typed.
//
// The comment of each field is its manual entry; config.example.yaml lists every
// key with its default and a test keeps the two equal. An unknown key, a value
// out of bounds and a contradiction are mistakes; Load reports all of them at
// once, each as file:line: key: reason.
//
// The order of steps in Load:
//
//	read      a regular file of at most 1 MiB, UTF-8, one YAML document (load.go)
//	decode    into Default(), by the types and the tags of the fields below (decode.go, values.go)
//	agree     what one key demands of another (contradictions.go)
//	files     relative to the configuration's directory, readable, private where they are secrets (files.go)
//
// The tags: oneof lists the words allowed; range gives bounds, both included; is
// names the kind of text, keys that of a map's keys. Where a key has two of
// them, either one will do.
//
// Security. A configuration that holds a password, a password file and a private
// key are refused when group or others have any right on them. Mistakes name the
// key and the line and never repeat the value, which may be a password that
// slipped. A Secret does not print itself.
//
// Limits. YAML's anchors, aliases, merge keys and tags are refused: each value
// stands where it is used.
package config

import (
	"net/netip"
	"path/filepath"
)

// Config is the whole file.
type Config struct {
	// Listeners are the addresses on which clients are served; at least one.
	Listeners []Listener `yaml:"listeners"`
	// TLS is the server certificate for ldaps listeners and StartTLS.
	TLS TLS `yaml:"tls"`
	// Upstream is the directory behind appbind.
	Upstream Upstream `yaml:"upstream"`
	// Users says which entries are users.
	Users Users `yaml:"users"`
	// ServiceAccounts are DNs of mail servers and the like; their binds are passed through.
	ServiceAccounts []string `yaml:"service_accounts" is:"dn"`
	// Passthrough are further DNs whose binds are passed through: managers without an entry, such as a rootdn.
	Passthrough []string `yaml:"passthrough" is:"dn"`
	// External maps peers of SASL EXTERNAL to service accounts.
	External []External `yaml:"external"`
	// SecretsVisibleTo are DNs that may read the secrets attribute through appbind, by their own upstream bind.
	SecretsVisibleTo []string `yaml:"secrets_visible_to" is:"dn"`
	// Managers are DNs of entries and of groups whose members see the app passwords of all users as entries over LDAP, and change them as far as the directory lets them.
	Managers []string `yaml:"managers" is:"dn"`
	// OwnEntryAttributes are the attributes that an app-password session may read of its own entry.
	OwnEntryAttributes []string `yaml:"own_entry_attributes" is:"attribute"`
	// AppPasswords says where app passwords live and how they are made.
	AppPasswords AppPasswords `yaml:"app_passwords"`
	// Fallback is what becomes of a password that is no app password.
	Fallback Fallback `yaml:"fallback"`
	// History is the record of who used which app password when, from where.
	History History `yaml:"history"`
	// Mail is how appbind sends mail to users.
	Mail Mail `yaml:"mail"`
	// Jobs is what appbind does by itself, on one instance at a time.
	Jobs Jobs `yaml:"jobs"`
	// Audit is the log of what was done to app passwords.
	Audit Audit `yaml:"audit"`
	// Webhook is told what becomes of app passwords.
	Webhook Webhook `yaml:"webhook"`
	// Portal is the self-service pages, on which users make and revoke their own app passwords.
	Portal Portal `yaml:"portal"`
	// StateDir is the directory for what appbind keeps; appbind alone may enter it (mode 0700), and it is not made by appbind.
	StateDir string `yaml:"state_dir" is:"path"`
	// Limits bound what one client, and all together, may use.
	Limits Limits `yaml:"limits"`
	// Log is the form and the level of the log.
	Log Log `yaml:"log"`
	// Observe is the HTTP endpoint for metrics and health.
	Observe Observe `yaml:"observe"`

	// File is the name that the configuration was read from.
	File string `yaml:"-"`
}

// Listener is one address on which clients are served.
type Listener struct {
	// URL is ldap://HOST:PORT, ldaps://HOST:PORT or ldapi://PATH with the path percent-encoded; the ports default to 389 and 636.
	URL URL `yaml:"url"`
	// Cleartext says where a password may come in clear: loopback (default; ldapi counts as loopback), allow, refuse.
	Cleartext string `yaml:"cleartext" oneof:"loopback,allow,refuse"`
	// Anonymous says whether anonymous binds are accepted: allow (default) or refuse.
	Anonymous string `yaml:"anonymous" oneof:"allow,refuse"`
	// Service is the user's service (imap, smtp ...) where the context of a DN does not say.
	Service string `yaml:"service" is:"service"`
	// Context says whether the context in DNs (svc=..,rip=..,cn=appbind) is believed: trusted, or refuse (default), where such a DN is answered 49.
	Context string `yaml:"context" oneof:"trusted,refuse"`
	// Fallback overrides fallback.mode for this listener: inherit (default), allow, deny.
	Fallback string `yaml:"fallback" oneof:"inherit,allow,deny"`
	// TOTP overrides fallback.totp for this listener: inherit (default), when_enrolled, required, ignore.
	TOTP string `yaml:"totp" oneof:"inherit,when_enrolled,required,ignore"`
	// OnUnavailable is the answer to a bind that cannot be decided: result (52, default) or disconnect (for Stalwart, which takes any code for a wrong password).
	OnUnavailable string `yaml:"on_unavailable" oneof:"result,disconnect"`
	// ProxyProtocolFrom are the networks whose PROXY protocol header (v1 or v2) is believed, and required.
	ProxyProtocolFrom []netip.Prefix `yaml:"proxy_protocol_from"`
	// AllowFrom are the networks from which clients are served, as the PROXY header names them where one is believed; empty: from anywhere. Others are closed before their first message.
	AllowFrom []netip.Prefix `yaml:"allow_from"`
	// Clients says who connects: mail_servers (default), or direct, where the peer is the user.
	Clients string `yaml:"clients" oneof:"mail_servers,direct"`
	// Mode are the permission bits of an ldapi socket, in octal as a string; default "0660".
	Mode string `yaml:"mode" is:"mode"`
}

// TLS is a server certificate and the authority for client certificates.
type TLS struct {
	// Certificate is a PEM file with the certificate chain; it is read again when it changes and on SIGHUP.
	Certificate string `yaml:"certificate" is:"file"`
	// Key is the PEM file of the private key; group and others must not be able to read it.
	Key string `yaml:"key" is:"secretfile"`
	// ClientCA is a PEM file of authorities whose client certificates are asked for and verified; empty: none are asked for.
	ClientCA string `yaml:"client_ca" is:"file"`
}

// Upstream is the directory behind appbind.
type Upstream struct {
	// URLs are the servers, tried in this order (see balance).
	URLs []URL `yaml:"urls"`
	// Embedded is an LDIF file served by a directory inside appbind, instead of urls.
	Embedded string `yaml:"embedded" is:"file"`
	// Balance is ordered (default: the first healthy server) or spread (all healthy servers in turn).
	Balance string `yaml:"balance" oneof:"ordered,spread"`
	// StartTLS requires StartTLS on ldap:// servers; there is no fall back to clear.
	StartTLS bool `yaml:"starttls"`
	// CA is a PEM file of authorities that the servers' certificates must come from; empty: the system's.
	CA string `yaml:"ca" is:"file"`
	// ServerName is the name expected in the servers' certificates; empty: the URL's host.
	ServerName string `yaml:"server_name" is:"host"`
	// Certificate is the PEM file of a client certificate for the servers.
	Certificate string `yaml:"certificate" is:"file"`
	// Key is the PEM file of the client certificate's key.
	Key string `yaml:"key" is:"secretfile"`
	// BindDN is the identity that looks up users and reads the secrets attribute.
	BindDN string `yaml:"bind_dn" is:"dn"`
	// BindPassword is its password; better bind_password_file.
	BindPassword Secret `yaml:"bind_password"`
	// BindPasswordFile is a file that holds the password; a final newline is dropped.
	BindPasswordFile string `yaml:"bind_password_file" is:"passwordfile"`
	// ManageDN is the identity for writes (command line, portal, jobs); empty: bind_dn.
	ManageDN string `yaml:"manage_dn" is:"dn"`
	// ManagePassword is its password; better manage_password_file.
	ManagePassword Secret `yaml:"manage_password"`
	// ManagePasswordFile is a file that holds it.
	ManagePasswordFile string `yaml:"manage_password_file" is:"passwordfile"`
	// ConnectTimeout bounds connecting to one server, TLS included; default 1.5s.
	ConnectTimeout Duration `yaml:"connect_timeout" range:"10ms..1m"`
	// BindTimeout bounds the decision of one bind; default 5s, below the 10s after which Postfix gives up.
	BindTimeout Duration `yaml:"bind_timeout" range:"100ms..1m"`
	// OperationTimeout bounds the silence of a server while a passed-through operation is under way; default 60s.
	OperationTimeout Duration `yaml:"operation_timeout" range:"1s..1h"`
	// IdleTimeout retires links that were not used for so long; default 60s.
	IdleTimeout Duration `yaml:"idle_timeout" range:"1s..1h"`
	// ServiceLinks is the number of connections to one server for lookups, and for the clients of each service account; default 2.
	ServiceLinks int `yaml:"service_links" range:"1..64"`
	// MaxLinks bounds the connections to all servers together; default 1000.
	MaxLinks int `yaml:"max_links" range:"1..100000"`
}

// Users says which entries are users.
type Users struct {
	// Bases are the DNs below which users stand; at least one.
	Bases []string `yaml:"bases" is:"dn"`
	// Filter is the filter that an entry must match to be a user.
	Filter string `yaml:"filter" is:"filter"`
	// EnabledFilter must match too, else the account is disabled: auto (by kind of server and schema; and by the end date of the account, as accountExpires, shadowExpire, krbPrincipalExpiration and pwdEndTime have it), none, or a filter.
	EnabledFilter string `yaml:"enabled_filter" oneof:"auto,none" is:"filter"`
	// NameFilter finds the user of a bind name that is no DN, %s being the name; empty: such names are refused.
	NameFilter string `yaml:"name_filter" is:"filter"`
}

// External maps one peer of SASL EXTERNAL to a listed service account.
type External struct {
	// UID is the user ID of a peer on an ldapi listener.
	UID *int `yaml:"uid" range:"0..4294967294"`
	// Subject is the subject DN of a verified client certificate, as RFC 4514 text.
	Subject string `yaml:"subject" is:"dn"`
	// DN is the service account; it must stand in service_accounts.
	DN string `yaml:"dn" is:"dn"`
	// PasswordFile holds the password with which appbind binds upstream as that account.
	PasswordFile string `yaml:"password_file" is:"passwordfile"`
	// Password is what Load read from PasswordFile.
	Password Secret `yaml:"-"`
}

// AppPasswords says where app passwords live and how they are made.
type AppPasswords struct {
	// Enabled is false to switch everything off together: as if accept, portal.enabled and jobs.enabled were false, and none is made or renewed, by whatever means; default true. They can still be listed, renamed, restricted and revoked.
	Enabled bool `yaml:"enabled"`
	// Accept is false to refuse app passwords at binds: they are answered 49 and never passed through, so that no account is locked by them. Main passwords are decided as before; default true.
	Accept bool `yaml:"accept"`
	// Attribute is the multi-valued attribute of the user's entry that holds them.
	Attribute string `yaml:"attribute" is:"attribute"`
	// Lookup is live (default): one search per bind. replica: the users are held in memory and followed, by push or by polls, as the directory can; see doc/replica.md.
	Lookup string `yaml:"lookup" oneof:"live,replica"`
	// MaxStale is how old the copy of lookup: replica may be when it decides while no server answers: app passwords, and listed service accounts whose password the directory took within this time; default 24h, 0s: never.
	MaxStale Duration `yaml:"max_stale" range:"0s..30d"`
	// Algorithm hashes generated passwords: sha256 (default), bcrypt, argon2i, argon2id.
	Algorithm string `yaml:"algorithm" oneof:"sha256,bcrypt,argon2i,argon2id"`
	// ChosenAlgorithm hashes passwords that people choose: bcrypt (default), argon2i, argon2id.
	ChosenAlgorithm string `yaml:"chosen_algorithm" oneof:"bcrypt,argon2i,argon2id"`
	// DefaultLifetime is the lifetime of a new app password where none is asked for; default 365d.
	DefaultLifetime Duration `yaml:"default_lifetime" range:"1h..36500d"`
	// AfterBind is what a session bound with an app password may do: own_entry (default), proxied_authorization, none.
	AfterBind string `yaml:"after_bind" oneof:"own_entry,proxied_authorization,none"`
	// HashMemory bounds the memory of all password hashing at one time, in MiB; default 256.
	HashMemory int `yaml:"hash_memory" range:"32..1048576"`
	// MaxPerUser is how many app passwords one user may have that have not expired; default 50. It and the next two hold for what is made or changed through appbind, not for values that exist.
	MaxPerUser int `yaml:"max_per_user" range:"1..1000"`
	// MaxLifetime bounds the lifetime of a new or renewed app password; default 365d.
	MaxLifetime Duration `yaml:"max_lifetime" range:"1h..36500d"`
	// RequireExpiry says that every new app password expires: one that is written over LDAP without an expiry gets default_lifetime; default true.
	RequireExpiry bool `yaml:"require_expiry"`
	// UserChosen says whether ldappasswd may set an app password that a person chose: deny (default: appbind generates it) or allow.
	UserChosen string `yaml:"user_chosen" oneof:"allow,deny"`
	// SelfServiceLDAP says whether users who logged in with their main password may manage their own app passwords over LDAP: deny (default, since a stolen main password could then make app passwords that outlive its change) or allow.
	SelfServiceLDAP string `yaml:"self_service_ldap" oneof:"allow,deny"`
	// Snapshot keeps the copy of lookup: replica in state_dir, so that a start while no server answers finds it there, up to max_stale; default false. It holds the hashes of all app passwords and the users' own_entry_attributes, with mode 0600; see doc/replica.md.
	Snapshot bool `yaml:"snapshot"`
	// VirtualEntries says whether app passwords stand as entries below their users, for the user and managers: show (default) or hide.
	VirtualEntries string `yaml:"virtual_entries" oneof:"show,hide"`
}

// Fallback is what becomes of a password that is no app password.
type Fallback struct {
	// Mode is allow (default: it is passed through to the directory) or deny.
	Mode string `yaml:"mode" oneof:"allow,deny"`
	// ByService overrides mode for the user's service: {smtp: deny}.
	ByService map[string]string `yaml:"by_service" keys:"service" oneof:"allow,deny"`
	// DenyFilter denies it to users whose entry matches this filter; empty: to none.
	DenyFilter string `yaml:"deny_filter" is:"filter"`
	// TOTP says when a one-time code is asked for: when_enrolled (default), required, ignore.
	TOTP string `yaml:"totp" oneof:"when_enrolled,required,ignore"`
	// Window is how long a wrong password is remembered where the directory shows no password state; default 15m.
	Window Duration `yaml:"window" range:"1s..30d"`
	// MaxFailures is how many distinct wrong passwords are passed through before the directory is spared: auto (from its lock-out policy), or a number; 0 is off.
	MaxFailures string `yaml:"max_failures" oneof:"auto" range:"0..1000000"`
}

// History is the record of who used which app password when, from where.
type History struct {
	// Store is sqlite (default: a file), postgres (for several instances that share it) or none.
	Store string `yaml:"store" oneof:"sqlite,postgres,none"`
	// Path is the file of SQLite; empty: history.db in state_dir. It is made when it is missing, for appbind alone (mode 0600).
	Path string `yaml:"path" is:"path"`
	// URL is the PostgreSQL database, postgres://USER@HOST/DATABASE?sslmode=verify-full, or postgres://USER@/DATABASE?host=/run/postgresql; without a password.
	URL string `yaml:"url" is:"postgres"`
	// Password is that of PostgreSQL's user; better password_file.
	Password Secret `yaml:"password"`
	// PasswordFile is a file that holds it.
	PasswordFile string `yaml:"password_file" is:"passwordfile"`
	// Retention is how long uses and failures are kept, with their addresses; default 90d.
	Retention Duration `yaml:"retention" range:"1d..3650d"`
	// Coalesce is the interval in which uses of one app password by one service from one address are one row; default 1m.
	Coalesce Duration `yaml:"coalesce" range:"1m..24h"`
}

// Accepts reports whether app passwords are accepted at binds.
func (c *Config) Accepts() bool { return c.AppPasswords.Enabled && c.AppPasswords.Accept }

// PortalOn reports whether the self-service pages are served, where they have an address.
func (c *Config) PortalOn() bool { return c.AppPasswords.Enabled && c.Portal.Enabled }

// JobsOn reports whether jobs are done.
func (c *Config) JobsOn() bool { return c.AppPasswords.Enabled && c.Jobs.Enabled }

// SnapshotFile is the file of the copy of lookup: replica; "" where app_passwords.snapshot is off.
func (c *Config) SnapshotFile() string {
	if !c.AppPasswords.Snapshot {
		return ""
	}
	return filepath.Join(c.StateDir, "replica.snapshot")
}

// HistoryFile is the file of the history in SQLite.
func (c *Config) HistoryFile() string {
	if c.History.Path != "" {
		return c.History.Path
	}
	return filepath.Join(c.StateDir, "history.db")
}

// Mail is how appbind sends mail to users, to the address in their entry.
type Mail struct {
	// Server is the SMTP server that takes the mail, HOST:PORT, such as 127.0.0.1:25 or mail.example.org:587; empty: no mail is sent.
	Server string `yaml:"server" is:"hostport"`
	// TLS is auto (default: none to a loopback address, implicit on port 465, else starttls), starttls (required, never a fall back to clear), implicit, or none (in clear).
	TLS string `yaml:"tls" oneof:"auto,starttls,implicit,none"`
	// CA is a PEM file of authorities that the server's certificate must come from; empty: the system's.
	CA string `yaml:"ca" is:"file"`
	// Username is the name with which appbind logs in to the server; empty: it does not.
	Username string `yaml:"username"`
	// Password is its password; better password_file.
	Password Secret `yaml:"password"`
	// PasswordFile is a file that holds it.
	PasswordFile string `yaml:"password_file" is:"passwordfile"`
	// From is the sender: an address, or "Name <address>".
	From string `yaml:"from" is:"address"`
	// Link is the address of the page where users make new app passwords, https://..., for the text of the mail; empty: portal.url, or none.
	Link string `yaml:"link" is:"weburl"`
	// Language is that of users whose entry has no preferredLanguage that there are texts in: en (default), de, or one of templates.
	Language string `yaml:"language" is:"language"`
	// Templates is a directory with texts that replace appbind's or add languages: expiring.en.txt, expiring.en.html ...
	Templates string `yaml:"templates" is:"path"`
	// Attribute is the attribute of the user's entry that holds the mail address; default mail.
	Attribute string `yaml:"attribute" is:"attribute"`
	// Timeout bounds the sending of one mail; default 30s.
	Timeout Duration `yaml:"timeout" range:"1s..10m"`
}

// Jobs is what appbind does by itself, on one of the instances that share a history at a time.
type Jobs struct {
	// Enabled is false to switch all jobs off; default true.
	Enabled bool `yaml:"enabled"`
	// RemoveExpired removes app passwords from the directory some time after their expiry; default true.
	RemoveExpired bool `yaml:"remove_expired"`
	// RemoveAfter is that time, in which they are still shown as expired and can be renewed; default 28d.
	RemoveAfter Duration `yaml:"remove_after" range:"0s..3650d"`
	// Notify sends users a mail before an app password expires, where mail.server is set; default true.
	Notify bool `yaml:"notify"`
	// NotifyBefore is how long before; default 14d.
	NotifyBefore Duration `yaml:"notify_before" range:"1h..365d"`
	// PurgeHistory deletes what is older than history.retention; default true.
	PurgeHistory bool `yaml:"purge_history"`
	// Interval is how often the jobs are done; default 1h.
	Interval Duration `yaml:"interval" range:"1s..24h"`
}

// Audit is the log of what was done to app passwords, by whom: one JSON object a line (doc/events.md).
type Audit struct {
	// File is where it goes: a file, which is opened anew on SIGHUP, or stdout; empty: nowhere. It is made when it is missing, for appbind alone (mode 0600).
	File string `yaml:"file" oneof:"stdout" is:"path"`
}

// Webhook is told what becomes of app passwords, by signed POST requests (doc/events.md).
type Webhook struct {
	// URL is https://HOST/PATH, or http:// to this machine; empty: nobody is told.
	URL string `yaml:"url" is:"webhook"`
	// Secret is the key of the signatures, at least 24 bytes; better secret_file.
	Secret Secret `yaml:"secret"`
	// SecretFile is a file that holds it.
	SecretFile string `yaml:"secret_file" is:"passwordfile"`
	// Events are those that it is told: issued, renewed, changed, revoked, expired, expiring, purged, refused, new_network, stale_device, factor_proved, factor_refused, factor_added, factor_removed, recovery_codes, enrol_code, signed_out, signed_in, sign_in_refused, account_added, accounts_removed; where the key is missing: issued, revoked, expiring, new_network and stale_device.
	Events []string `yaml:"events" oneof:"issued,renewed,changed,revoked,expired,expiring,purged,refused,new_network,stale_device,factor_proved,factor_refused,factor_added,factor_removed,recovery_codes,enrol_code,signed_out,signed_in,sign_in_refused,account_added,accounts_removed"`
}

// Limits bound what clients may use.
type Limits struct {
	// Connections bounds the connections of all clients together; default 10000.
	Connections int `yaml:"connections" range:"1..1000000"`
	// ConnectionsPerAddress bounds those of one address (IPv6: one /64); loopback and ldapi are not counted; default 1000.
	ConnectionsPerAddress int `yaml:"connections_per_address" range:"1..1000000"`
	// MessageBeforeBind bounds one message of a client that has not bound successfully, in bytes; default 262144.
	MessageBeforeBind int `yaml:"message_before_bind" range:"4096..16777216"`
	// Message bounds one message after a successful bind, in bytes; default 4194304.
	Message int `yaml:"message" range:"4096..67108864"`
	// Handshake bounds a TLS handshake or PROXY header; default 5s.
	Handshake Duration `yaml:"handshake" range:"100ms..1m"`
	// FirstMessage bounds the wait for a connection's first message; default 10s.
	FirstMessage Duration `yaml:"first_message" range:"100ms..1h"`
	// MessageTime bounds the time from the first byte of a message to its last; default 10s.
	MessageTime Duration `yaml:"message_time" range:"100ms..10m"`
	// Idle closes connections that sent nothing for so long and wait for nothing; default 15m.
	Idle Duration `yaml:"idle" range:"1s..30d"`
	// WriteStall closes a connection whose client takes nothing for so long; default 10s.
	WriteStall Duration `yaml:"write_stall" range:"100ms..10m"`
	// Drain bounds the wait for operations under way when appbind stops; default 10s.
	Drain Duration `yaml:"drain" range:"0s..1h"`
}

// Log is the form and the level of the log, which goes to standard error.
type Log struct {
	// Format is text (default) or json.
	Format string `yaml:"format" oneof:"text,json"`
	// Level is debug, info (default), warn or error.
	Level string `yaml:"level" oneof:"debug,info,warn,error"`
}

// Observe is the HTTP endpoint for metrics and health: /metrics, /healthz, /readyz.
type Observe struct {
	// Listen is the address of the endpoint, HOST:PORT, such as 127.0.0.1:9390; empty: there is none. It has no access control.
	Listen string `yaml:"listen" is:"hostport"`
	// PProf adds Go's profiler at /debug/pprof/; only where listen is a loopback address.
	PProf bool `yaml:"pprof"`
}
