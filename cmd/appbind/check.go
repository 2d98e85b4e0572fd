package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/spf13/cobra"

	"appbind/backend"
	"appbind/config"
)

// checkOptions are the flags of check.
type checkOptions struct {
	file, user string
	stdin      bool
}

func checkCommand(s streams) *cobra.Command {
	o := &checkOptions{}
	c := &cobra.Command{
		Use:   "check -c FILE",
		Short: "Check the configuration and the directory behind it",
		Long: `Check the configuration file, connect to each server, bind, and read the secrets
attribute of one entry. It must be readable for appbind's own identity, and for
nobody else: check tries it anonymously and, with --user, as that user. Nothing
is written. The exit status is 1 when something is wrong, 2 for mistakes in the file.`,
		Example: `  appbind check -c /etc/appbind/appbind.yaml
  appbind check -c /etc/appbind/appbind.yaml --user uid=alice,ou=people,dc=example,dc=org --password-stdin`,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context(), s) },
	}
	configFlag(c, &o.file)
	c.Flags().StringVar(&o.user, "user", "", "try to read the secrets attribute as the user `DN` too")
	c.Flags().BoolVar(&o.stdin, "password-stdin", false, "read that user's main password from standard input")
	return c
}

// checkTimeout bounds each question to a server.
const checkTimeout = 10 * time.Second

// check is one run of the command.
type check struct {
	out    io.Writer
	cfg    *config.Config
	up     *backend.Upstream
	failed bool
}

func (o *checkOptions) run(ctx context.Context, s streams) error {
	if (o.user == "") == o.stdin {
		return &usageError{errors.New("--user and --password-stdin go together")}
	}
	var password []byte
	if o.stdin {
		var err error
		if password, err = readPassword(s.in); err != nil {
			return &usageError{err}
		}
	}
	cfg, err := config.Load(o.file)
	if err != nil {
		return err
	}
	h := guestHouse(cfg.Log)
	defer h.close()
	core, err := h.build(ctx, cfg)
	if err != nil {
		return err
	}
	defer core.Upstream.Close()
	c := &check{out: s.out, cfg: cfg, up: core.Upstream}
	c.ok("configuration", "%s", o.file)
	for _, what := range switchedOff(cfg) {
		c.warn("switched off", "%s", what)
	}
	c.history(ctx)
	c.audit()
	c.mail(ctx)
	c.servers(ctx)
	if !c.failed {
		c.directory(ctx, o.user, string(password))
	}
	if c.failed {
		return errReported
	}
	return nil
}

func (c *check) ok(what, format string, args ...any) { c.line("ok", what, format, args...) }

func (c *check) warn(what, format string, args ...any) { c.line("warn", what, format, args...) }

func (c *check) fail(what, format string, args ...any) {
	c.failed = true
	c.line("FAIL", what, format, args...)
}

func (c *check) line(verdict, what, format string, args ...any) {
	fmt.Fprintf(c.out, "%-5s %-18s %s\n", verdict, what, printable(fmt.Sprintf(format, args...)))
}

// servers connects and binds to each server.
func (c *check) servers(ctx context.Context) {
	up := c.cfg.Upstream
	for _, url := range inClear(up) {
		c.warn("connect", "%s: passwords travel in clear; use ldaps:// or upstream.starttls: true", url)
	}
	for _, url := range up.URLs {
		conn, err := c.connect(ctx, url)
		if err != nil {
			c.fail("connect", "%s: %v%s", url, err, connectHint(url, up))
			continue
		}
		c.bind(conn, url, "bind_dn", up.BindDN, string(up.BindPassword))
		if up.ManageDN != "" && up.ManageDN != up.BindDN {
			c.bind(conn, url, "manage_dn", up.ManageDN, string(up.ManagePassword))
		}
		conn.Close()
	}
}

// connect opens a connection that nobody has bound on.
func (c *check) connect(ctx context.Context, url config.URL) (*ldap.Conn, error) {
	raw, err := c.up.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	conn := ldap.NewConn(raw, url.Scheme == "ldaps")
	conn.Start()
	conn.SetTimeout(checkTimeout)
	return conn, nil
}

// connectHint guesses how a failed connection is mended.
func connectHint(url config.URL, up config.Upstream) string {
	switch {
	case url.Scheme == "ldaps" || up.StartTLS:
		return "; is upstream.ca the authority of the server's certificate, and the host name the one in it?"
	case url.Scheme == "ldapi":
		return "; does the server listen on this socket, and may appbind open it?"
	}
	return "; does the server listen there?"
}

// bind tries one of appbind's identities.
func (c *check) bind(conn *ldap.Conn, url config.URL, key, dn, password string) {
	if dn == "" {
		c.warn("bind", "%s: upstream.%s is empty: lookups are anonymous, so the secrets attribute must be readable for everybody", url, key)
		return
	}
	err := conn.Bind(dn, password)
	switch {
	case err == nil:
		c.ok("bind", "%s: %s", url, dn)
	case ldap.IsErrorWithCode(err, ldap.LDAPResultInvalidCredentials):
		c.fail("bind", "%s: %s: the password is wrong, or there is no such entry; look at upstream.%s and its password", url, dn, key)
	case ldap.IsErrorAnyOf(err, ldap.LDAPResultConfidentialityRequired, ldap.LDAPResultStrongAuthRequired):
		c.fail("bind", "%s: %s: the server wants TLS; use ldaps:// or upstream.starttls: true", url, dn)
	default:
		c.fail("bind", "%s: %s: %v", url, dn, err)
	}
}
