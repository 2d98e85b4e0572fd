package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"appbind/config"
	"appbind/secrets"
)

// hashOptions are the flags of hash.
type hashOptions struct {
	label     string
	services  []string
	networks  []string
	expires   string
	algorithm string
	attribute string
	user      string
	class     string
	stdin     bool
	json      bool
	file      string
}

// The attribute and the class of contrib/schema.
const (
	defaultAttribute = "appPassword"
	defaultClass     = "appPasswordAccount"
)

func hashCommand(s streams) *cobra.Command {
	o := &hashOptions{}
	c := &cobra.Command{
		Use:   "hash --label LABEL",
		Short: "Make an app password and the value to store for it",
		Long: `Make an app password. The value to store goes to standard output, the password
to standard error: it is shown once and kept nowhere. With --user the output is
LDIF for ldapmodify, which adds the class that allows the attribute too: a
directory that takes the permissive modify control (OpenLDAP, Active Directory)
leaves it alone where it is there already; for others say --class none then.
Nothing is written to any directory.`,
		Example: `  appbind hash --label phone
  appbind hash --label phone --service imap,smtp --expires 365d \
    --user uid=alice,ou=people,dc=example,dc=org |
    ldapmodify -x -H ldap://127.0.0.1 -D cn=admin,dc=example,dc=org -W`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.configured(c.Flags().Changed); err != nil {
				return err
			}
			if !c.Flags().Changed("class") && !strings.EqualFold(o.attribute, defaultAttribute) {
				o.class = "none" // which class allows another attribute is not known
			}
			return o.run(s, time.Now())
		},
	}
	f := c.Flags()
	f.StringVar(&o.label, "label", "", "what the password is for, shown to people (required)")
	f.StringSliceVar(&o.services, "service", nil, "services it is limited to, such as `imap,smtp`")
	f.StringSliceVar(&o.networks, "net", nil, "networks it is limited to, such as `192.0.2.0/24`")
	f.StringVarP(&o.file, "config", "c", "", "take algorithm, lifetime and attribute from the configuration `FILE`")
	f.StringVar(&o.expires, "expires", "365d", "`LIFETIME` such as 90d or 12h, or never")
	f.StringVar(&o.algorithm, "algorithm", "", "`NAME`: sha256, bcrypt, argon2i or argon2id (default sha256; bcrypt with --password-stdin)")
	f.StringVar(&o.attribute, "attribute", defaultAttribute, "the secrets attribute, for --user")
	f.StringVar(&o.user, "user", "", "write LDIF that adds the value to the entry `DN`")
	f.StringVar(&o.class, "class", defaultClass, "object class that the LDIF gives the entry, which allows the attribute; none: the entry allows it already")
	f.BoolVar(&o.stdin, "password-stdin", false, "read the password from standard input instead of generating one")
	f.BoolVar(&o.json, "json", false, "write one JSON object with password and value to standard output")
	return c
}

// configured takes from the configuration what the command line does not say.
func (o *hashOptions) configured(changed func(flag string) bool) error {
	if o.file == "" {
		return nil
	}
	cfg, err := config.Load(o.file)
	if err != nil {
		return err
	}
	app := cfg.AppPasswords
	if !changed("algorithm") {
		o.algorithm = app.Algorithm
		if o.stdin {
			o.algorithm = app.ChosenAlgorithm
		}
	}
	if !changed("expires") {
		o.expires = app.DefaultLifetime.String()
	}
	if !changed("attribute") {
		o.attribute = app.Attribute
	}
	return nil
}

// run makes the password and prints it.
func (o *hashOptions) run(s streams, now time.Time) error {
	p, err := o.parameters(now)
	if err != nil {
		return &usageError{err}
	}
	password, err := o.password(s.in, &p)
	if err != nil {
		return err
	}
	if p.Hash, err = secrets.Hash(o.algorithm, password, nil); err != nil {
		return err
	}
	value, err := secrets.New(p)
	if err != nil {
		return err
	}
	switch {
	case o.json:
		return json.NewEncoder(s.out).Encode(map[string]string{"label": o.label, "id": p.ID, "password": string(password), "value": value})
	case o.user != "":
		_, err = io.WriteString(s.out, modifyLDIF(o.user, o.class, o.attribute, value))
	default:
		_, err = fmt.Fprintln(s.out, value)
	}
	if err == nil && !o.stdin {
		_, err = fmt.Fprintf(s.err, "password: %s\n", password)
	}
	return err
}

// parameters checks the flags.
func (o *hashOptions) parameters(now time.Time) (secrets.Params, error) {
	p := secrets.Params{Label: o.label, Services: o.services, Created: now.UTC().Truncate(time.Second)}
	if o.label == "" {
		return p, fmt.Errorf("--label is required (see 'appbind hash --help')")
	}
	if o.algorithm == "" {
		o.algorithm = secrets.SHA256
		if o.stdin {
			o.algorithm = secrets.Bcrypt
		}
	}
	if o.stdin && o.algorithm == secrets.SHA256 {
		return p, fmt.Errorf("--algorithm sha256 is for generated passwords only; use bcrypt or argon2id")
	}
	if o.expires != "never" {
		lifetime, err := config.ParseDuration(o.expires)
		if err != nil || lifetime <= 0 {
			return p, fmt.Errorf("--expires %s: not a lifetime such as 90d or 12h, and not never", o.expires)
		}
		p.Expires = p.Created.Add(time.Duration(lifetime))
	}
	for i, service := range p.Services {
		p.Services[i] = secrets.CanonicalService(service)
	}
	for _, n := range o.networks {
		prefix, err := netip.ParsePrefix(n)
		if addr, e := netip.ParseAddr(n); e == nil {
			prefix, err = addr.Prefix(addr.BitLen())
		}
		if err != nil {
			return p, fmt.Errorf("--net %s: not a network such as 192.0.2.0/24, nor an address", n)
		}
		p.Networks = append(p.Networks, prefix.Masked())
	}
	return p, nil
}

// password generates the password, or reads the first line of in.
func (o *hashOptions) password(in io.Reader, p *secrets.Params) ([]byte, error) {
	if !o.stdin {
		g, err := secrets.Generate(nil)
		if err != nil {
			return nil, err
		}
		p.ID = g.ID
		return []byte(g.Password), nil
	}
	return readPassword(in)
}

// readPassword reads one line, without its end.
func readPassword(in io.Reader) ([]byte, error) {
	line, err := bufio.NewReader(in).ReadBytes('\n')
	if err != nil && err != io.EOF {
		return nil, err
	}
	line = []byte(strings.TrimRight(string(line), "\r\n"))
	if len(line) == 0 {
		return nil, fmt.Errorf("no password on standard input")
	}
	return line, nil
}

// permissiveModify is the control that makes a modify leave alone what is as it should be already (Active Directory, OpenLDAP).
const permissiveModify = "1.2.840.113556.1.4.1413"

// modifyLDIF is an LDIF record (RFC 2849) that adds one value of attribute, and the class that allows it.
// The control is not critical: a directory without it answers 20 where the class is there.
func modifyLDIF(dn, class, attribute, value string) string {
	control, addClass := "", ""
	if class != "none" {
		control = "control: " + permissiveModify + " false\n"
		addClass = "add: objectClass\n" + ldifLine("objectClass", class) + "-\n"
	}
	return ldifLine("dn", dn) + control + "changetype: modify\n" + addClass + "add: " + attribute + "\n" + ldifLine(attribute, value) + "\n"
}

// ldifLine writes name and value, in base64 where RFC 2849 demands it.
func ldifLine(name, value string) string {
	for i := range len(value) {
		c := value[i]
		if c < ' ' || c > '~' || i == 0 && strings.ContainsRune(" :<", rune(c)) || i == len(value)-1 && c == ' ' {
			return name + ":: " + base64.StdEncoding.EncodeToString([]byte(value)) + "\n"
		}
	}
	return name + ": " + value + "\n"
}
