package config

import (
	"net/url"
	"slices"
	"strings"
)

// history checks that each store has its keys, and none of another's.
func (d *decoder) history(h *History) {
	if d.wrong["history.store"] {
		return
	}
	const forPostgres = "is for history.store: postgres"
	postgres := h.Store == "postgres"
	if postgres {
		d.required("history.url", h.URL == "", "the database, such as postgres://appbind@/appbind?host=/run/postgresql")
	}
	for _, k := range []struct {
		key   string
		given bool
	}{{"history.url", h.URL != ""}, {"history.password", h.Password != ""}, {"history.password_file", h.PasswordFile != ""}} {
		if k.given && !postgres {
			d.mistakef(k.key, forPostgres)
		}
	}
	if h.Path != "" && h.Store != "sqlite" {
		d.mistakef("history.path", "is for history.store: sqlite")
	}
	if h.Password != "" && h.PasswordFile != "" {
		d.mistakef("history.password_file", "contradicts history.password: give one of them")
	}
}

// checkPostgres checks the URL of a database. Its library takes many forms, and by default goes on
// in clear when a server offers no TLS; here that has to be spelled out.
func checkPostgres(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Opaque != "" || strings.Trim(u.Path, "/") == "" {
		return "must be postgres://USER@HOST/DATABASE"
	}
	_, password := u.User.Password()
	query, err := url.ParseQuery(u.RawQuery)
	switch {
	case err != nil:
		return "must be postgres://USER@HOST/DATABASE, with options as ?name=value&name=value"
	case password || query.Has("password"):
		return "must not hold the password, which would stand in logs; give history.password_file"
	case u.User.Username() == "" && !query.Has("user"):
		return "must name the user: postgres://USER@HOST/DATABASE"
	}
	hosts := []string{u.Hostname()}
	if query.Has("host") {
		hosts = strings.Split(query.Get("host"), ",")
	}
	local := !slices.ContainsFunc(hosts, func(host string) bool {
		return host != "" && !strings.HasPrefix(host, "/") && !(URL{Host: host}).Loopback()
	})
	switch mode := query.Get("sslmode"); {
	case local, mode == "disable", mode == "require", mode == "verify-ca", mode == "verify-full":
		return ""
	}
	return "must say sslmode=verify-full (or disable, where the network is trusted): without it a connection may go on in clear"
}
