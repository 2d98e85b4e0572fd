package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"appbind/backend/embedded"
	"appbind/config"
	"appbind/proxy"
)

// demoConfig is the configuration of the demo; %s is the address.
const demoConfig = `listeners:
  - url: ldap://%s
upstream:
  embedded: demo.ldif
  bind_dn: cn=appbind,ou=services,dc=example,dc=org
  bind_password: ` + embedded.DemoService + `
  manage_dn: cn=admin,dc=example,dc=org
  manage_password: ` + embedded.DemoAdmin + `
users:
  bases: ["ou=people,dc=example,dc=org"]
  filter: (objectClass=inetOrgPerson)
  name_filter: (|(uid=%%s)(mail=%%s))
service_accounts: ["cn=dovecot,ou=services,dc=example,dc=org"]
passthrough: ["cn=admin,dc=example,dc=org"]
state_dir: .
`

func demoCommand(s streams) *cobra.Command {
	var dir, address string
	c := &cobra.Command{
		Use:   "demo",
		Short: "Serve a small directory with app passwords, to try things out",
		Long: `Serve an embedded directory with three users and their app passwords on loopback,
and print commands to try. Without --dir everything is in a temporary directory
and gone afterwards.`,
		RunE: func(c *cobra.Command, _ []string) error {
			return demo(c.Context(), s, dir, address)
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "keep configuration and directory in `DIR`, and use what is there")
	c.Flags().StringVar(&address, "listen", "127.0.0.1:3389", "`ADDRESS` to serve on")
	return c
}

// demo serves the demo until ctx ends.
func demo(ctx context.Context, s streams, dir, address string) error {
	if dir == "" {
		temporary, err := os.MkdirTemp("", "appbind-demo")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temporary)
		dir = temporary
	}
	file, err := demoFiles(dir, address)
	if err != nil {
		return err
	}
	cfg, err := config.Load(file)
	if err != nil {
		return err
	}
	err = serve(ctx, newHouse(s.err, cfg.Log), cfg, nil, func(server *proxy.Server) {
		fmt.Fprint(s.out, demoText(server.Addrs()[0].String(), file))
	})
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%w; choose another address with --listen, and an empty --dir", err)
	}
	return err
}

// demoFiles writes the configuration and the directory where they are missing.
func demoFiles(dir, address string) (file string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	file = filepath.Join(dir, "appbind.yaml")
	if err := writeNew(file, fmt.Appendf(nil, demoConfig, address)); err != nil {
		return "", err
	}
	return file, writeNew(filepath.Join(dir, "demo.ldif"), embedded.DemoLDIF)
}

// writeNew writes a file for the owner's eyes, unless it is there.
func writeNew(file string, text []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if os.IsExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// demoText says what there is and what to try.
func demoText(address, file string) string {
	return strings.NewReplacer(
		"URL", "ldap://"+address, "FILE", file, "APPBIND", executable(),
		"MAIN", embedded.DemoMain, "PHONE", embedded.DemoPhone, "EXPIRED", embedded.DemoExpired,
		"SMTP", embedded.DemoSMTP, "ADMIN", embedded.DemoAdmin, "DOVECOT", embedded.DemoDovecot,
	).Replace(`
appbind serves a demo directory on URL. Stop it with Ctrl-C.
Try these in another terminal (ldapwhoami and its kin are in the package ldap-utils):

  # alice's phone logs in with its app password ...
  ldapwhoami -x -H URL -D uid=alice,ou=people,dc=example,dc=org -w PHONE
  # ... and alice with the main password, which the directory itself checks
  ldapwhoami -x -H URL -D uid=alice,ou=people,dc=example,dc=org -w MAIN
  # an expired app password, and one that is for sending mail only: Invalid credentials (49)
  ldapwhoami -x -H URL -D uid=alice,ou=people,dc=example,dc=org -w EXPIRED
  ldapwhoami -x -H URL -D uid=alice,ou=people,dc=example,dc=org -w SMTP

  # a mail server looks alice up: the app passwords do not show
  ldapsearch -x -LLL -H URL -D cn=dovecot,ou=services,dc=example,dc=org -w DOVECOT -b ou=people,dc=example,dc=org '(uid=alice)'

  # make an app password for bob's tablet and store it; then log in as bob with what is printed
  APPBIND hash --label tablet --expires 90d --user uid=bob,ou=people,dc=example,dc=org |
    ldapmodify -x -H URL -D cn=admin,dc=example,dc=org -w ADMIN
  ldapwhoami -x -H URL -D uid=bob,ou=people,dc=example,dc=org -W

  # why would a bind end as it does?
  echo EXPIRED | APPBIND explain -c FILE --dn alice --password-stdin

`)
}

// executable is how this program was called, for commands to paste.
func executable() string {
	path, err := os.Executable()
	if err != nil {
		return "appbind"
	}
	if wd, err := os.Getwd(); err == nil {
		if relative, err := filepath.Rel(wd, path); err == nil && !strings.HasPrefix(relative, "..") {
			return "./" + relative
		}
	}
	return path
}
