package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"appbind/backend"
	"appbind/config"
	"appbind/secrets"
)

// directory looks at what the directory holds, through its first server.
func (c *check) directory(ctx context.Context, user, password string) {
	url := c.cfg.Upstream.URLs[0]
	conn, err := c.connect(ctx, url)
	if err != nil {
		c.fail("connect", "%s: %v", url, err)
		return
	}
	defer conn.Close()
	if up := c.cfg.Upstream; up.BindDN != "" {
		if err := conn.Bind(up.BindDN, string(up.BindPassword)); err != nil {
			c.fail("bind", "%s: %v", url, err)
			return
		}
	}
	counts, err := c.up.Count(ctx)
	if err != nil {
		c.fail("directory", "%v", err)
		return
	}
	c.kind()
	c.users(counts)
	c.replica(ctx)
	holder := c.secrets(conn)
	c.stranger(ctx, url, "anonymous", "", "", holder)
	if user != "" {
		c.stranger(ctx, url, user, user, password, holder)
	}
}

// kind prints what the servers say of themselves.
func (c *check) kind() {
	info := c.up.Info()
	if !info.Read {
		c.fail("directory", "the root DSE or the schema could not be read; may %s read them?", c.cfg.Upstream.BindDN)
		return
	}
	c.ok("kind", "%s", strings.TrimSpace(fmt.Sprintf("%v %s", info.Kind, info.Vendor)))
	if n := info.Lockout.MaxFailures; n > 0 {
		forgotten := "never forgotten"
		if info.Lockout.Interval > 0 {
			forgotten = "forgotten after " + info.Lockout.Interval.String()
		}
		c.ok("lock-out", "after %d failures, %s; fallback.max_failures is %s", n, forgotten, c.cfg.Fallback.MaxFailures)
	} else {
		c.ok("lock-out", "none, or not readable for appbind; fallback.max_failures is %s", c.cfg.Fallback.MaxFailures)
	}
	for _, note := range info.Notes {
		c.warn("directory", "%s", note)
	}
	attribute := c.cfg.AppPasswords.Attribute
	if !info.SecretsKnown {
		c.fail("schema", "the directory's schema does not know %s; see contrib/schema", attribute)
		return
	}
	if info.Kind == backend.KindOpenLDAP && strings.EqualFold(attribute, "userPassword") {
		c.fail("schema", "userPassword must not hold app passwords: OpenLDAP takes a value without {SCHEME} for a password in clear")
	}
	c.ok("schema", "%s is known as %s", c.cfg.AppPasswords.Attribute, strings.Join(info.SecretsNames, ", "))
}

// replica tells whether app_passwords.lookup: replica works with this directory.
func (c *check) replica(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	switch r := c.up.Replica(ctx); {
	case !r.On:
	case r.Current:
		c.ok("replica", "holds %d users, by %s", r.Users, r.Source)
	case errors.Is(r.Err, context.DeadlineExceeded):
		c.warn("replica", "%v; until then binds are looked up live", r.Err)
	default:
		c.fail("replica", "binds are looked up live: %v", r.Err)
	}
}

// users tells what the filters match.
func (c *check) users(n backend.Counts) {
	least := ""
	if n.Limit != nil {
		least = "at least "
		c.warn("size limit", "binds are looked up all the same; what reads all users (jobs, passwords list, report) fails: %v", n.Limit)
	} else {
		c.ok("size limit", "none met")
	}
	if n.Users == 0 {
		c.fail("users.filter", "no entry below users.bases matches %s, or %s may not see them", c.cfg.Users.Filter, c.cfg.Upstream.BindDN)
		return
	}
	c.ok("users.filter", "%s%d entries match %s", least, n.Users, c.cfg.Users.Filter)
	filter := c.up.Info().EnabledFilter
	switch {
	case filter == "" || filter == "none":
		c.ok("enabled_filter", "none: every user is enabled")
	case n.Eligible == 0:
		c.fail("enabled_filter", "none of them is enabled by %s; may %s read the attribute in it?", filter, c.cfg.Upstream.BindDN)
	default:
		c.ok("enabled_filter", "%s%d of them are enabled by %s", least, n.Eligible, filter)
	}
	c.ok("app passwords", "%s%d enabled users have some", least, n.Readable)
}

// secrets reads the attribute of one entry that has it, and returns that entry's DN.
func (c *check) secrets(conn *ldap.Conn) string {
	attribute := c.cfg.AppPasswords.Attribute
	filter := "(&" + c.cfg.Users.Filter + "(" + attribute + "=*))"
	for _, base := range c.cfg.Users.Bases {
		r, err := conn.Search(ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 1, 0, false, filter, []string{attribute}, nil))
		if err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) {
			c.fail("secrets", "%s below %s: %v", filter, base, err)
			return ""
		}
		if len(r.Entries) == 0 {
			continue
		}
		e := r.Entries[0]
		values := e.GetEqualFoldRawAttributeValues(attribute)
		if len(values) == 0 {
			c.fail("secrets", "%s: filters see %s, but its values are not readable for %s", e.DN, attribute, c.cfg.Upstream.BindDN)
			return ""
		}
		usable := 0
		for _, raw := range values {
			if v := secrets.Parse(raw); v.Err == nil && v.Kind != secrets.Foreign {
				usable++
			}
		}
		c.ok("secrets", "read %d values of %s, %d of them usable: %s", len(values), attribute, usable, e.DN)
		return e.DN
	}
	c.warn("secrets", "no user has a value of %s that %s can see; if one should, look at the access rules in contrib/schema", attribute, c.cfg.Upstream.BindDN)
	return ""
}

// stranger tries to read the attribute as somebody who must not.
func (c *check) stranger(ctx context.Context, url config.URL, who, dn, password, holder string) {
	conn, err := c.connect(ctx, url)
	if err != nil {
		c.fail("connect", "%s: %v", url, err)
		return
	}
	defer conn.Close()
	targets := []string{holder}
	if dn != "" {
		if err := conn.Bind(dn, password); err != nil {
			c.fail("access", "bind as %s: %v", dn, err)
			return
		}
		targets = append(targets, dn)
	}
	attribute := c.cfg.AppPasswords.Attribute
	for _, target := range targets {
		if target == "" {
			continue
		}
		if what := exposed(conn, target, attribute); what != "" {
			c.fail("access", "%s can %s %s of %s; only appbind may: see the access rules in contrib/schema", who, what, attribute, target)
			return
		}
	}
	if holder == "" {
		c.warn("access", "%s: not tried, as no user has a value yet; check again after the first app password", who)
		return
	}
	c.ok("access", "%s cannot read %s", who, attribute)
}

// exposed says how the attribute of an entry shows; "" when it does not.
func exposed(conn *ldap.Conn, dn, attribute string) string {
	for _, probe := range []struct{ what, filter string }{
		{"read", "(objectClass=*)"},
		{"search by", "(" + attribute + "=*)"},
	} {
		r, err := conn.Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, probe.filter, []string{attribute}, nil))
		if err != nil || len(r.Entries) == 0 {
			continue
		}
		if probe.what == "search by" || len(r.Entries[0].GetEqualFoldRawAttributeValues(attribute)) > 0 {
			return probe.what
		}
	}
	return ""
}
