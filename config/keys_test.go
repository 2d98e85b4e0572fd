package config

import (
	"strings"
	"testing"
)

// with puts more text after the minimal configuration.
func with(text string) string { return minimal + text + "\n" }

// instead is the minimal configuration with a line (1 to 3) replaced.
func instead(line int, text string) string {
	lines := strings.SplitAfter(minimal, "\n")
	lines[line-1] = text + "\n"
	return strings.Join(lines, "")
}

func up(text string) string {
	return instead(2, `upstream: {bind_dn: "cn=appbind,dc=example,dc=org", bind_password: x, `+text+"}")
}

// portal is the minimal configuration with pages.
func portal(text string) string {
	lines := strings.SplitAfter(with("portal: {"+text+"}"), "\n")
	lines[2] = strings.Replace(lines[2], "]}", `], name_filter: "(uid=%s)"}`, 1)
	return strings.Join(lines, "")
}

func listener(text string) string { return instead(1, "listeners: [{"+text+"}]") }

const inClear = "must say sslmode=verify-full (or disable, where the network is trusted): without it a connection may go on in clear"

// TestKeys: one mistake each, exactly. "" means that there is none.
func TestKeys(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		// structure and types
		{with("lgo: {}"), "4: lgo: unknown key; did you mean log?"},
		{with("bind_dn: x"), "4: bind_dn: unknown key; did you mean upstream.bind_dn?"},
		{with("proxy_protocol_from: []"), "4: proxy_protocol_from: unknown key; did you mean listeners[].proxy_protocol_from?"},
		{with("tls: {chairs: []}"), "4: tls.chairs: unknown key"},
		{with("tls: {managers: []}"), "4: tls.managers: unknown key; did you mean managers?"},
		{with("tls: {bind_password:hunter2}"), "4: tls.bind_password...: unknown key"},
		{with("log: [x]"), "4: log: must be a section: its keys stand indented below it"},
		{with("log:\n  level: info\n  level: warn"), "6: log.level: was given on line 5 already"},
		{with("log: {level: [info]}"), "4: log.level: must be one value, not a list or a section"},
		{with("log: {level: }"), "4: log.level: has no value; leave the key out for the default"},
		{with(`log: {level: ""}`), "4: log.level: must not be empty"},
		{with("log: {? [a] : b}"), "4: log: a key must be a word"},
		{with("log: {level: !!str info}"), "4: log.level: tags are not used here; a value that begins with ! needs quotes"},
		{with("log: {level: &a info, format: *a}"), "4: log.format: aliases are not used here; a value that begins with * needs quotes"},
		{with("log: {<<: {level: info}}"), "4: log: merge keys (<<) are not used here"},
		{with("passthrough: cn=admin"), `4: passthrough: must be a list: [a, b], or one a line after "- "`},
		{with("passthrough: ['']"), "4: passthrough[0]: must not be empty"},
		{with("passthrough: [~]"), "4: passthrough[0]: has no value; leave the key out for the default"},
		{with("fallback: {by_service: [smtp]}"), "4: fallback.by_service: must be keys with values, such as {smtp: deny}; {} for none"},
		{with("fallback: {by_service: {SMTP: deny}}"), "4: fallback.by_service.SMTP: the key must be a service in lower case, such as imap or smtp"},
		{with("fallback: {by_service: {smtp: no}}"), "4: fallback.by_service.smtp: must be allow or deny"},
		{with("observe: {listen: '127.0.0.1:9390', pprof: true}"), ""},
		{with("observe: {listen: '[::1]:0', pprof: true}"), ""},
		{with("observe: {listen: '192.0.2.1:9390'}"), ""},
		{with("observe: {listen: '192.0.2.1:9390', pprof: true}"), "4: observe.pprof: needs observe.listen to be a loopback address, such as 127.0.0.1:9390"},
		{with("observe: {pprof: true}"), "4: observe.pprof: needs observe.listen to be a loopback address, such as 127.0.0.1:9390"},
		{with("observe: {listen: ':9390'}"), "4: observe.listen: must be HOST:PORT such as 127.0.0.1:9390"},
		{with("observe: {listen: 127.0.0.1}"), "4: observe.listen: must be HOST:PORT such as 127.0.0.1:9390"},
		{with("observe: {listen: 'a b:1'}"), "4: observe.listen: must be HOST:PORT such as 127.0.0.1:9390"},
		{with("observe: {listen: '127.0.0.1:65536'}"), "4: observe.listen: must end with a port, a number from 0 to 65535"},
		{with(`log: {level: "in\nfo"}`), "4: log.level: must not hold control characters or line ends"},
		// numbers, durations, truth values, at the limit and over it
		{with("app_passwords: {hash_memory: 32}"), ""},
		{with("app_passwords: {hash_memory: 31}"), "4: app_passwords.hash_memory: must be a number from 32 to 1048576"},
		{with("app_passwords: {hash_memory: 1048576}"), ""},
		{with("app_passwords: {hash_memory: 1048577}"), "4: app_passwords.hash_memory: must be a number from 32 to 1048576"},
		{with("app_passwords: {hash_memory: 0x100}"), "4: app_passwords.hash_memory: must be a number from 32 to 1048576"},
		{with("app_passwords: {hash_memory: 0256}"), "4: app_passwords.hash_memory: must be a number from 32 to 1048576"},
		{with("app_passwords: {hash_memory: '256'}"), "4: app_passwords.hash_memory: must be a number from 32 to 1048576"},
		{with("app_passwords: {hash_memory: 99999999999999999999}"), "4: app_passwords.hash_memory: must be a number from 32 to 1048576"},
		{with("limits: {handshake: 100ms}"), ""},
		{with("limits: {handshake: 99ms}"), "4: limits.handshake: must be from 100ms to 1m"},
		{with("limits: {handshake: 1m}"), ""},
		{with("limits: {handshake: 60001ms}"), "4: limits.handshake: must be from 100ms to 1m"},
		{with("limits: {handshake: -1s}"), "4: limits.handshake: must be a duration such as 10s, 15m, 24h or 365d, from 100ms to 1m"},
		{with("limits: {drain: 0s}"), ""},
		{with("app_passwords: {default_lifetime: 36500d, max_lifetime: 36500d}"), ""},
		{with("app_passwords: {default_lifetime: 365d, max_lifetime: 365d}"), ""},
		{with("app_passwords: {default_lifetime: 366d}"), "4: app_passwords.default_lifetime: must not be above app_passwords.max_lifetime (365d)"},
		{with("app_passwords: {max_lifetime: 90d}"), "4: app_passwords.max_lifetime: must not be below app_passwords.default_lifetime (365d), so give that too"},
		{with("app_passwords: {max_lifetime: 90d, default_lifetime: 30d}"), ""},
		{with("app_passwords: {max_lifetime: 59m}"), "4: app_passwords.max_lifetime: must be from 1h to 36500d"},
		{with("app_passwords: {max_per_user: 0}"), "4: app_passwords.max_per_user: must be a number from 1 to 1000"},
		{with("app_passwords: {max_per_user: 1000, require_expiry: false, user_chosen: allow, self_service_ldap: allow}"), ""},
		{with("app_passwords: {user_chosen: true}"), "4: app_passwords.user_chosen: must be allow or deny"},
		{with("app_passwords: {self_service_ldap: yes}"), "4: app_passwords.self_service_ldap: must be allow or deny"},
		{with("managers: ['not a dn']"), "4: managers[0]: must be a DN such as ou=people,dc=example,dc=org"},
		{with("app_passwords: {snapshot: true, lookup: replica}"), ""},
		{with("app_passwords: {snapshot: false, max_stale: 0s}"), ""},
		{with("app_passwords: {snapshot: true}"), "4: app_passwords.snapshot: is of the copy of lookup: replica; give that too"},
		{with("app_passwords: {snapshot: true, lookup: replica, max_stale: 0s}"), "4: app_passwords.snapshot: is never used with max_stale: 0s"},
		{with("app_passwords: {default_lifetime: 36501d}"), "4: app_passwords.default_lifetime: must be from 1h to 36500d"},
		{with("app_passwords: {default_lifetime: 1year}"), "4: app_passwords.default_lifetime: must be a duration such as 10s, 15m, 24h or 365d, from 1h to 36500d"},
		{up("urls: ['ldap://a'], starttls: yes"), "2: upstream.starttls: must be true or false"},
		{up("urls: ['ldap://a'], starttls: True"), ""},
		{with("fallback: {max_failures: 0}"), ""},
		{with("fallback: {max_failures: off}"), "4: fallback.max_failures: must be auto, or a number from 0 to 1000000"},
		{with("fallback: {max_failures: -1}"), "4: fallback.max_failures: must be auto, or a number from 0 to 1000000"},
		{with("history: {retention: 1d, coalesce: 24h}"), ""},
		{with("history: {retention: 23h}"), "4: history.retention: must be from 1d to 3650d"},
		{with("history: {coalesce: 59s}"), "4: history.coalesce: must be from 1m to 24h"},
		{with("history: {store: mysql}"), "4: history.store: must be sqlite, postgres or none"},
		{with("history: {store: postgres, url: 'postgres://appbind@db.example.org/appbind?sslmode=verify-full'}"), ""},
		{with("history: {store: postgres, url: 'postgres://appbind@127.0.0.1:5433/appbind', password: x}"), ""},
		{with("history: {store: postgres, url: 'postgresql://appbind@/appbind?host=/run/postgresql', password_file: p}"), ""},
		{with("history: {store: postgres, url: 'postgres://appbind@db.example.org/appbind?sslmode=disable'}"), ""},
		{with("history: {store: postgres, url: 'postgres://a:hunter2@127.0.0.1/d'}"), "4: history.url: must not hold the password, which would stand in logs; give history.password_file"},
		{with("history: {store: postgres, url: 'postgres://a@127.0.0.1/d?password=hunter2'}"), "4: history.url: must not hold the password, which would stand in logs; give history.password_file"},
		{with("history: {store: postgres, url: 'postgres://127.0.0.1/d'}"), "4: history.url: must name the user: postgres://USER@HOST/DATABASE"},
		{with("history: {store: postgres, url: 'host=a user=b'}"), "4: history.url: must be postgres://USER@HOST/DATABASE"},
		{with("history: {store: postgres, url: 'postgres://a@b'}"), "4: history.url: must be postgres://USER@HOST/DATABASE"},
		{with("history: {store: postgres, url: 'postgres://a@b/c?%zz'}"), "4: history.url: must be postgres://USER@HOST/DATABASE, with options as ?name=value&name=value"},
		{with("history: {store: postgres, url: 'postgres://a@192.0.2.1/d'}"), "4: history.url: " + inClear},
		{with("history: {store: postgres, url: 'postgres://a@192.0.2.1/d?sslmode=prefer'}"), "4: history.url: " + inClear},
		{with("history: {store: postgres, url: 'postgres://a@/d?host=/run/postgresql,192.0.2.1'}"), "4: history.url: " + inClear},
		{with("history: {store: postgres}"), "4: history.url: is required: the database, such as postgres://appbind@/appbind?host=/run/postgresql"},
		{with("history: {store: postgres, url: 'postgres://a@/d', path: x}"), "4: history.path: is for history.store: sqlite"},
		{with("history: {url: 'postgres://a@/d'}"), "4: history.url: is for history.store: postgres"},
		{with("history: {password: x}"), "4: history.password: is for history.store: postgres"},
		{with("history: {store: postgres, url: 'postgres://a@/d', password: x, password_file: y}"), "4: history.password_file: contradicts history.password: give one of them"},
		{with("mail: {server: '127.0.0.1:25', from: appbind@example.org}"), ""},
		{with("mail: {server: 'mail.example.org:587', from: 'Example <appbind@example.org>', username: u, password: p}"), ""},
		{with("mail: {server: 'mail.example.org:465', from: a@b, username: u, password_file: p, ca: c, link: 'https://x/', language: de}"), ""},
		{with("mail: {server: 127.0.0.1, from: a@b}"), "4: mail.server: must be HOST:PORT such as 127.0.0.1:9390"},
		{with("mail: {server: '127.0.0.1:0', from: a@b}"), "4: mail.server: the port must not be 0"},
		{with("mail: {server: '127.0.0.1:25'}"), "4: mail.from: is required: the sender, such as appbind@example.org"},
		{with("mail: {server: '127.0.0.1:25', from: nobody}"), `4: mail.from: must be an address such as appbind@example.org, or "Example Mail <appbind@example.org>"`},
		{with("mail: {username: u}"), "4: mail.username: is for mail.server, which is not given"},
		{with("mail: {server: 'a:25', from: a@b, username: u}"), "4: mail.username: needs its password: give mail.password_file"},
		{with("mail: {server: 'a:25', from: a@b, password: u}"), "4: mail.username: is required: the name that goes with the password"},
		{with("mail: {server: 'a:25', from: a@b, username: u, password: p, password_file: f}"), "4: mail.password_file: contradicts mail.password: give one of them"},
		{with("mail: {server: 'a:25', from: a@b, username: u, password: p, tls: none}"), "4: mail.tls: none would send the password of mail.username in clear to another machine"},
		{with("mail: {server: 'localhost:25', from: a@b, username: u, password: p, tls: none}"), ""},
		{with("mail: {server: 'a:25', from: a@b, tls: none}"), ""},
		{with("mail: {server: 'localhost:25', from: a@b, ca: c}"), "4: mail.ca: is for TLS, and the server is reached without it (see mail.tls)"},
		{with("mail: {tls: ssl}"), "4: mail.tls: must be auto, starttls, implicit or none"},
		{with("mail: {link: 'javascript:x'}"), "4: mail.link: must be the address of a page, such as https://passwords.example.org/"},
		{with("mail: {link: 'https://user:hunter2@x/'}"), "4: mail.link: must be the address of a page, such as https://passwords.example.org/"},
		{with("mail: {language: German}"), "4: mail.language: must be a language such as en or de"},
		{with("mail: {timeout: 0s}"), "4: mail.timeout: must be from 1s to 10m"},
		{with("jobs: {enabled: false, remove_expired: false, notify: false, purge_history: false, interval: 1s}"), ""},
		{with("jobs: {remove_after: 0s, notify_before: 365d}"), ""},
		{with("jobs: {remove_after: 3651d}"), "4: jobs.remove_after: must be from 0s to 3650d"},
		{with("jobs: {notify_before: 59m}"), "4: jobs.notify_before: must be from 1h to 365d"},
		{with("jobs: {interval: 25h}"), "4: jobs.interval: must be from 1s to 24h"},
		// the webhook
		{with("audit: {file: stdout}"), ""},
		{with("audit: {file: ''}"), ""},
		{with("webhook: {url: 'https://portal.example.org/hook', secret: 0123456789abcdef01234567, events: []}"), ""},
		{with("webhook: {url: 'http://127.0.0.1:8080/', secret_file: p, events: [issued, new_network]}"), ""},
		{with("webhook: {url: 'http://[::1]/', secret: 0123456789abcdef01234567}"), ""},
		{with("webhook: {url: 'http://portal.example.org/', secret: 0123456789abcdef01234567}"), "4: webhook.url: must be https: http only to this machine (127.0.0.1, ::1, localhost)"},
		{with("webhook: {url: 'http://localhost.example.org/', secret: 0123456789abcdef01234567}"), "4: webhook.url: must be https: http only to this machine (127.0.0.1, ::1, localhost)"},
		{with("webhook: {url: 'ftp://localhost/', secret: 0123456789abcdef01234567}"), "4: webhook.url: must be https://HOST/PATH"},
		{with("webhook: {url: 'https:///x', secret: 0123456789abcdef01234567}"), "4: webhook.url: must be https://HOST/PATH"},
		{with("webhook: {url: 'https://a:hunter2@b/', secret: 0123456789abcdef01234567}"), "4: webhook.url: must not hold a user or password, which would stand in logs; requests are signed"},
		{with("webhook: {url: 'https://a/'}"), "4: webhook.secret_file: is required: a file with the key of the signatures, such as openssl rand -hex 32 makes"},
		{with("webhook: {secret: 0123456789abcdef01234567}"), "4: webhook.secret: needs webhook.url"},
		{with("webhook: {secret_file: p}"), "4: webhook.secret_file: needs webhook.url"},
		{with("webhook: {url: 'https://a/', secret: x, secret_file: y}"), "4: webhook.secret_file: contradicts webhook.secret: give one of them"},
		{with("webhook: {url: 'https://a/', secret: 0123456789abcdef01234567, events: [login]}"), "4: webhook.events[0]: must be issued, renewed, changed, revoked, expired, expiring, purged, refused, new_network, stale_device, factor_proved, factor_refused, factor_added, factor_removed, recovery_codes, enrol_code, signed_out, signed_in, sign_in_refused, account_added or accounts_removed"},
		// texts by kind
		{with("app_passwords: {lookup: cached}"), "4: app_passwords.lookup: must be live or replica"},
		{with("app_passwords: {algorithm: argon}"), "4: app_passwords.algorithm: must be sha256, bcrypt, argon2i or argon2id"},
		{with("app_passwords: {attribute: 1.2.3}"), "4: app_passwords.attribute: must be the name of one attribute, such as mail; no OID, no option, no *"},
		{with("own_entry_attributes: ['*']"), "4: own_entry_attributes[0]: must be the name of one attribute, such as mail; no OID, no option, no *"},
		{with("passthrough: ['admin']"), "4: passthrough[0]: must be a DN such as ou=people,dc=example,dc=org"},
		{instead(3, "users: {bases: ['ou=people,']}"), "3: users.bases[0]: must be a DN such as ou=people,dc=example,dc=org"},
		{with("fallback: {deny_filter: uid=a}"), "4: fallback.deny_filter: must be a filter such as (objectClass=inetOrgPerson), in parentheses"},
		{with("fallback: {deny_filter: '((uid=a)'}"), "4: fallback.deny_filter: must be a filter such as (objectClass=inetOrgPerson); this one has 2 ( and 1 )"},
		{with("fallback: {deny_filter: '(uid)'}"), "4: fallback.deny_filter: must be a filter such as (objectClass=inetOrgPerson)"},
		{with("fallback: {deny_filter: '(my attr=a)'}"), "4: fallback.deny_filter: must be a filter such as (objectClass=inetOrgPerson)"},
		{with("fallback: {deny_filter: '(userAccountControl:1.2.840.113556.1.4.803:=2)'}"), ""},
		{with("fallback: {deny_filter: '(2.5.4.3;lang-de=x)'}"), ""},
		{listener("url: 'ldap://127.0.0.1', service: IMAP"), "1: listeners[0].service: must be a service in lower case, such as imap or smtp"},
		{listener("url: 'ldapi://%2Fa', mode: rw"), `1: listeners[0].mode: must be permission bits in octal, such as "0660"`},
		{listener("url: 'ldapi://%2Fa', mode: 0888"), `1: listeners[0].mode: must be permission bits in octal, such as "0660"`},
		{listener("url: 'ldap://127.0.0.1', proxy_protocol_from: [192.0.2.1/24]"), "1: listeners[0].proxy_protocol_from[0]: has bits after the prefix length; the network is 192.0.2.0/24"},
		{listener("url: 'ldap://127.0.0.1', proxy_protocol_from: [lan]"), "1: listeners[0].proxy_protocol_from[0]: must be a network such as 192.0.2.0/24 or 2001:db8::/32"},
		{listener("url: 'ldap://127.0.0.1', proxy_protocol_from: ['::ffff:192.0.2.1']"), "1: listeners[0].proxy_protocol_from[0]: must be written as an IPv4 network, without ::ffff:"},
		{up("urls: ['ldaps://a'], server_name: 'a b'"), "2: upstream.server_name: must be a host name, such as ldap.example.org"},
	} {
		want := c.want
		if want != "" {
			want = "c.yaml:" + want
		}
		if got := strings.Join(mistakesOf(c.text), "\n"); got != want {
			t.Errorf("%s:\n got %s\nwant %s", c.text, got, want)
		}
	}
}

// TestContradictions: what one key demands of another.
func TestContradictions(t *testing.T) {
	t.Parallel()
	const (
		cert    = "tls: {certificate: c.pem, key: k.pem}"
		ca      = "tls: {certificate: c.pem, key: k.pem, client_ca: ca.pem}"
		trusted = "trusted is for peers that are vouched for (an ldapi or loopback listener, or tls.client_ca): "
	)
	for _, c := range []struct{ text, want string }{
		// the portal
		{portal("listen: '127.0.0.1:1', url: 'http://localhost:1'"), ""},
		{portal("listen: '192.0.2.1:1', url: 'https://a.example', trusted_proxies: [192.0.2.0/28]"), ""},
		{portal("listen: '127.0.0.1:1'"), "4: portal.url: is required: the address by which browsers reach the pages, such as https://passwords.example.org"},
		{portal("listen: '127.0.0.1:1', url: 'http://a.example'"), "4: portal.url: must be an address without a path, such as https://passwords.example.org; http is for localhost only"},
		{portal("listen: '127.0.0.1:1', url: 'https://a.example/x'"), "4: portal.url: must be an address without a path, such as https://passwords.example.org"},
		{portal("listen: '127.0.0.1:1', url: 'https://u@a.example'"), "4: portal.url: must be an address without a path, such as https://passwords.example.org"},
		{portal("listen: '127.0.0.1:1', url: 'https://A.example'"), "4: portal.url: must be an address without a path, such as https://passwords.example.org"},
		{portal("listen: '192.0.2.1:1', url: 'https://a.example'"), "4: portal.listen: needs portal.certificate and portal.key, or portal.trusted_proxies that do TLS, where it is no loopback address"},
		{portal("listen: '192.0.2.1:1', url: 'http://localhost', certificate: c.pem, key: k.pem"), "4: portal.url: must be https, since portal.certificate is given"},
		{portal("certificate: c.pem"), "4: portal.key: is required: the private key of portal.certificate"},
		{portal("openid: {issuer: 'https://id.example/realms/a', client_id: appbind, client_secret_file: p, acr: ['urn:mfa'], amr: [mfa, hwk], require: true, password: false}"), ""},
		{portal("openid: {issuer: 'http://127.0.0.1:1', client_id: appbind, client_secret: p, scopes: [profile, openid], claim: 'https://a.example/uid', attribute: uid}"), ""},
		{portal("openid: {issuer: 'https://id.example', client_secret: p}"), "4: portal.openid.client_id: is required: the name by which the provider knows appbind"},
		{portal("openid: {issuer: 'https://id.example', client_id: a}"), "4: portal.openid.client_secret_file: is required: a file with what the provider gave with the client_id"},
		{portal("openid: {issuer: 'https://id.example', client_id: a, client_secret: p, client_secret_file: p}"), "4: portal.openid.client_secret_file: contradicts portal.openid.client_secret: give one of them"},
		{portal("openid: {issuer: 'https://id.example', client_id: a, client_secret: p, scopes: [email]}"), "4: portal.openid.scopes: must hold openid"},
		{portal("openid: {issuer: 'https://id.example', client_id: a, client_secret: p, scopes: [openid, 'e mail']}"), "4: portal.openid.scopes[1]: must be one word, without spaces and quotes"},
		{portal("openid: {issuer: 'https://id.example', client_id: a, client_secret: p, require: true}"), "4: portal.openid.require: needs portal.openid.acr or portal.openid.amr: what the provider says of a sign-in with a second factor"},
		{portal("openid: {issuer: 'https://id.example', client_id: a, client_secret: p, claim: 'e mail'}"), "4: portal.openid.claim: must be the name of a claim, such as email"},
		{portal("openid: {issuer: 'https://id.example', client_id: a, client_secret: p, attribute: 'mail;x'}"), "4: portal.openid.attribute: must be the name of one attribute, such as mail; no OID, no option, no *"},
		{portal("openid: {issuer: 'http://id.example', client_id: a, client_secret: p}"), "4: portal.openid.issuer: must be https: http only to this machine (localhost, 127.0.0.1, ::1)"},
		{portal("openid: {issuer: 'https://id.example/?a=b', client_id: a}"), "4: portal.openid.issuer: must be the issuer of a provider, such as https://login.example.org/realms/example"},
		{portal("openid: {issuer: 'https://u:hunter2@id.example', client_id: a}"), "4: portal.openid.issuer: must not hold a user or password"},
		{portal("openid: {issuer: 'id.example', client_id: a}"), "4: portal.openid.issuer: must be the issuer of a provider, such as https://login.example.org/realms/example"},
		{portal("openid: {password: false}"), "4: portal.openid.password: needs portal.openid.issuer"},
		{portal("openid: {amr: [mfa]}"), "4: portal.openid.amr: needs portal.openid.issuer"},
		{portal("listen: '127.0.0.1:1', url: 'https://a.example', idle: 1h, lifetime: 30m"), "4: portal.lifetime: must not be below portal.idle (1h)"},
		{portal("listen: '127.0.0.1:1', url: 'https://a.example'") + "history: {store: none}\n", "4: portal.listen: needs a store for sessions and factors: history.store must not be none"},
		{strings.Replace(portal("listen: '127.0.0.1:1', url: 'https://a.example'"), `, name_filter: "(uid=%s)"`, "", 1),
			"4: portal.listen: needs users.name_filter, by which people sign in, such as (|(uid=%s)(mail=%s))"},
		// required
		{instead(1, ""), "1: listeners: is required: at least one address to serve, such as [{url: ldap://127.0.0.1:3389}]"},
		{instead(1, "listeners: []"), "1: listeners: is required: at least one address to serve, such as [{url: ldap://127.0.0.1:3389}]"},
		{instead(3, "users: {}"), `3: users.bases: is required: the DNs below which users stand, such as ["ou=people,dc=example,dc=org"]`},
		{up("urls: []"), "2: upstream.urls: is required: the directory's servers, such as [ldaps://ldap.example.org] (or upstream.embedded)"},
		{up("urls: ['ldap://a'], embedded: a.ldif"), "2: upstream.embedded: contradicts upstream.urls: give one of them"},
		{instead(2, "upstream: {embedded: a.ldif}"), ""},
		{instead(2, "upstream: {urls: ['ldap://a']}"), "2: upstream.bind_dn: is required: the identity that looks up users and reads their app passwords"},
		// credentials
		{instead(2, "upstream: {urls: ['ldap://a'], bind_dn: cn=a}"), "2: upstream.bind_dn: needs its password: give upstream.bind_password_file"},
		{up("urls: ['ldap://a'], bind_password_file: p"), "2: upstream.bind_password_file: contradicts upstream.bind_password: give one of them"},
		{up("urls: ['ldap://a'], manage_password: p"), "2: upstream.manage_password: is the password of upstream.manage_dn, which is not given"},
		{up("urls: ['ldap://a'], manage_password_file: p"), "2: upstream.manage_password_file: is the password of upstream.manage_dn, which is not given"},
		{up("urls: ['ldap://a'], manage_dn: cn=m"), "2: upstream.manage_dn: needs its password: give upstream.manage_password_file"},
		{up("urls: ['ldap://a'], manage_dn: cn=m, manage_password: p"), ""},
		// servers
		{up("urls: ['ldaps://a'], starttls: true"), "2: upstream.urls[0]: ldaps contradicts upstream.starttls, which is for ldap:// servers"},
		{up("urls: ['ldap://b', 'ldaps://a'], starttls: true"), "2: upstream.urls[1]: ldaps contradicts upstream.starttls, which is for ldap:// servers"},
		{up("urls: ['ldapi://%2Fa'], starttls: true"), "2: upstream.starttls: is for ldap:// servers, and upstream.urls has none"},
		{up("urls: ['ldap://']"), "2: upstream.urls[0]: the host is missing"},
		{up("urls: ['ldap://a:0']"), "2: upstream.urls[0]: the port must not be 0"},
		{up("urls: ['ldap://a'], ca: ca.pem"), "2: upstream.ca: is for TLS, and no server in upstream.urls is reached by it: use ldaps://, or starttls: true"},
		{up("urls: ['ldap://a'], ca: ca.pem, starttls: true"), ""},
		{up("urls: ['ldaps://a'], certificate: c.pem"), "2: upstream.key: is required: the private key of upstream.certificate"},
		{up("urls: ['ldap://a'], connect_timeout: 5s"), "2: upstream.connect_timeout: must be shorter than upstream.bind_timeout (5s), which includes it"},
		// the server's TLS
		{with("tls: {certificate: c.pem}"), "4: tls.key: is required: the private key of tls.certificate"},
		{with("tls: {key: c.pem}"), "4: tls.certificate: is required: the certificate of tls.key"},
		{with("tls: {client_ca: ca.pem}"), "4: tls.client_ca: client certificates come over TLS, which needs tls.certificate and tls.key"},
		{listener("url: 'ldaps://127.0.0.1'"), "1: listeners[0].url: an ldaps listener needs tls.certificate and tls.key"},
		{listener("url: 'ldaps://127.0.0.1'") + cert, ""},
		{listener("url: 'ldap://127.0.0.1', cleartext: refuse"), "1: listeners[0].cleartext: refuse leaves StartTLS only, which needs tls.certificate and tls.key"},
		{listener("url: 'ldap://127.0.0.1', cleartext: refuse") + cert, ""},
		{listener("url: 'ldap://192.0.2.1'"), "1: listeners[0].cleartext: loopback means that passwords from other machines come over TLS, which needs tls.certificate and tls.key; allow takes them in clear"},
		{listener("url: 'ldap://192.0.2.1', cleartext: allow"), ""},
		{listener("url: 'ldap://192.0.2.1'") + cert, ""},
		// listeners
		{instead(1, "listeners: [{url: 'ldap://127.0.0.1'}, {url: 'ldap://127.0.0.1:389'}]"), "1: listeners[1].url: is the address of listeners[0] too"},
		{instead(1, "listeners: [{url: 'ldap://127.0.0.1:0'}, {url: 'ldap://127.0.0.1:0'}]"), ""},
		{listener("url: 'ldapi://%2Fa', allow_from: [192.0.2.1]"), "1: listeners[0].allow_from: an ldapi listener has no peer addresses; who may use the socket is said by mode and its directory"},
		{listener("url: 'ldap://127.0.0.1', allow_from: [lan]"), "1: listeners[0].allow_from[0]: must be a network such as 192.0.2.0/24 or 2001:db8::/32"},
		{listener("url: 'ldapi://%2Fa', proxy_protocol_from: [192.0.2.1]"), "1: listeners[0].proxy_protocol_from: an ldapi listener has no peer addresses; leave it out"},
		{listener("url: 'ldap://127.0.0.1', mode: 0600"), "1: listeners[0].mode: is for ldapi listeners: the permissions of the socket file"},
		// context
		{listener("url: 'ldap://127.0.0.1', context: trusted"), ""},
		{listener("url: 'ldap://localhost', context: trusted"), ""},
		{listener("url: 'ldapi://%2Fa', context: trusted"), ""},
		{listener("url: 'ldap://192.0.2.1', context: trusted") + cert, "1: listeners[0].context: " + trusted + "whoever reaches this address could claim to be any user's service and address"},
		{listener("url: 'ldaps://', context: trusted") + cert, "1: listeners[0].context: " + trusted + "whoever reaches this address could claim to be any user's service and address"},
		{listener("url: 'ldap://192.0.2.1', context: trusted") + ca, ""},
		{listener("url: 'ldap://127.0.0.1', context: trusted, proxy_protocol_from: [127.0.0.1]"), "1: listeners[0].context: " + trusted + "behind proxy_protocol_from the peers are not on this machine"},
		{listener("url: 'ldap://127.0.0.1', context: trusted, clients: direct"), "1: listeners[0].context: trusted contradicts clients: direct: users would name their own service and address"},
		// users
		{instead(3, "users: {bases: ['dc=a'], name_filter: (uid=*)}"), "3: users.name_filter: must have %s where the bind name goes, such as (|(uid=%s)(mail=%s))"},
		{instead(3, "users: {bases: ['dc=a'], name_filter: (%s=x)}"), "3: users.name_filter: must be a filter such as (objectClass=inetOrgPerson)"},
		{instead(3, "users: {bases: ['dc=a'], name_filter: (|(uid=%s)(mail=%s@example.org))}"), ""},
		{instead(3, "users: {bases: ['dc=a'], enabled_filter: none}"), ""},
		{instead(3, "users: {bases: ['dc=a'], enabled_filter: non}"), "3: users.enabled_filter: must be auto, none, or a filter such as (objectClass=inetOrgPerson), in parentheses"},
		// own entry
		{with("own_entry_attributes: [mail, APPPASSWORD]"), "4: own_entry_attributes[1]: is the secrets attribute (app_passwords.attribute); app-password sessions never read it"},
		{with("own_entry_attributes: [userpassword]"), "4: own_entry_attributes[0]: holds passwords, keys or their state; app-password sessions never read it"},
		{with("own_entry_attributes: [unicodePwd]"), "4: own_entry_attributes[0]: holds passwords, keys or their state; app-password sessions never read it"},
		// limits
		{with("limits: {message_before_bind: 4194305}"), "4: limits.message_before_bind: must not be above limits.message (4194304)"},
		{with("limits: {message_before_bind: 4194304}"), ""},
		{with("limits: {connections: 10}"), ""},
		{with("limits: {connections: 10, connections_per_address: 11}"), "4: limits.connections_per_address: must not be above limits.connections (10)"},
	} {
		want := c.want
		if want != "" {
			want = "c.yaml:" + want
		}
		if got := strings.Join(mistakesOf(c.text), "\n"); got != want {
			t.Errorf("%s:\n got %s\nwant %s", c.text, got, want)
		}
	}
}

// TestExternal: the map of SASL EXTERNAL.
func TestExternal(t *testing.T) {
	t.Parallel()
	const (
		accounts = "service_accounts: ['cn=dovecot,dc=example,dc=org']\n"
		account  = "dn: 'CN=Dovecot,DC=example,DC=org', password_file: p"
	)
	ldapi := listener("url: 'ldapi://%2Fa'") + accounts
	for _, c := range []struct{ text, want string }{
		{ldapi + "external: [{uid: 0, " + account + "}]", ""},
		{ldapi + "external: [{uid: -1, " + account + "}]", "5: external[0].uid: must be a number from 0 to 4294967294"},
		{ldapi + "external: [{" + account + "}]", "5: external[0]: must have either uid or subject"},
		{ldapi + "external: [{uid: 1, subject: cn=a, " + account + "}]", "5: external[0]: must have either uid or subject"},
		{ldapi + "external: [{subject: cn=a, " + account + "}]", "5: external[0].subject: needs tls.client_ca: without it no client certificate is asked for"},
		{with(accounts + "external: [{uid: 1, " + account + "}]"), "5: external[0].uid: needs an ldapi listener: no other connection has a uid"},
		{ldapi + "external: [{uid: 1, password_file: p}]", "5: external[0].dn: is required: the service account that the peer becomes"},
		{ldapi + "external: [{uid: 1, dn: cn=x, password_file: p}]", "5: external[0].dn: must stand in service_accounts"},
		{ldapi + "external: [{uid: 1, dn: 'cn=dovecot,dc=example,dc=org'}]", "5: external[0].password_file: is required: the password with which appbind binds as external[0].dn"},
		{ldapi + "external: [{uid: 1, " + account + "}, {uid: 1, " + account + "}]", "5: external[1].uid: is mapped by external[0] already"},
		{ldapi + "external: [{uid: 1, " + account + "}, {uid: 2, " + account + "}]", ""},
	} {
		want := c.want
		if want != "" {
			want = "c.yaml:" + want
		}
		if got := strings.Join(mistakesOf(c.text), "\n"); got != want {
			t.Errorf("%s:\n got %s\nwant %s", c.text, got, want)
		}
	}
}

// TestNoValueInMistakes: a password that slipped into any key is not repeated.
func TestNoValueInMistakes(t *testing.T) {
	t.Parallel()
	const canary = "hunter2canary"
	for _, value := range []string{canary, "'(" + canary + "'", "ldap://a:" + canary + "@b", "*" + canary, "'!" + canary + "'", "[" + canary + "]", "{" + canary + ": x}"} {
		for path := range allKeys() {
			if strings.Contains(path, "[]") || strings.HasSuffix(path, "by_service") {
				continue
			}
			section, key, nested := strings.Cut(path, ".")
			text := section + ": " + value
			if nested {
				text = section + ":\n  " + key + ": " + value
			}
			for _, m := range mistakesOf(text) {
				// A key in the place of a value is no value.
				if strings.Contains(m, canary) && !strings.Contains(m, "unknown key") {
					t.Errorf("%s: %s", path, m)
				}
			}
		}
	}
}
