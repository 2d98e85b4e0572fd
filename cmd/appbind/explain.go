package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"appbind/auth"
	"appbind/backend"
	"appbind/config"
	"appbind/proxy"
	"appbind/secrets"
)

// explainOptions are the flags of explain.
type explainOptions struct {
	file, name, service, ip, listener string
	stdin, send                       bool
}

func explainCommand(s streams) *cobra.Command {
	o := &explainOptions{}
	c := &cobra.Command{
		Use:   "explain -c FILE --dn DN",
		Short: "Say how a bind would end, and why",
		Long: `Look up a bind name as serve does, list the app passwords of its entry, and, with
a password on standard input, say in which row of the decision table a bind
would end and why. A password that would be passed through to the directory is
not sent, unless --send says so. A context in the name (,svc=imap,...,cn=appbind)
is read as the listener reads it, so that names can be pasted from the log of a
mail server; --service and --ip count more. Nothing is remembered: the failures
that a running appbind has seen do not count here.`,
		Example: `  appbind explain -c /etc/appbind/appbind.yaml --dn uid=alice,ou=people,dc=example,dc=org
  appbind explain -c /etc/appbind/appbind.yaml --dn alice@example.org --service imap --ip 192.0.2.7 --password-stdin`,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context(), s) },
	}
	configFlag(c, &o.file)
	f := c.Flags()
	f.StringVar(&o.name, "dn", "", "bind `NAME`: a DN, or what users.name_filter finds (required)")
	f.StringVar(&o.service, "service", "", "the user's service, such as `imap`")
	f.StringVar(&o.ip, "ip", "", "the user's `ADDRESS`")
	f.StringVar(&o.listener, "listener", "", "`URL` of the listener whose rules count (default: the first; for a name with a context, the first that believes it)")
	f.BoolVar(&o.stdin, "password-stdin", false, "read the password from standard input")
	f.BoolVar(&o.send, "send", false, "pass the password through to the directory where the decision says so")
	return c
}

// run explains one bind.
func (o *explainOptions) run(ctx context.Context, s streams) error {
	bind, err := o.bind(s.in)
	if err != nil {
		return &usageError{err}
	}
	cfg, err := config.Load(o.file)
	if err != nil {
		return err
	}
	listener, err := o.rules(cfg, bind.Context != "" || bind.ContextInvalid)
	if err != nil {
		return &usageError{err}
	}
	bind.obey(listener)
	h := guestHouse(cfg.Log)
	defer h.close()
	core, err := h.build(ctx, cfg)
	if err != nil {
		return err
	}
	defer core.Upstream.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(cfg.Upstream.BindTimeout))
	defer cancel()

	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	defer w.Flush()
	bind.explain(w)
	if err := explainEntry(ctx, w, core.Upstream, bind.Name, bind.Client); err != nil {
		return err
	}
	if !o.stdin {
		fmt.Fprintf(w, "decision\tdepends on the password; give it with --password-stdin\n")
		return nil
	}
	binder := &explainBinder{upstream: core.Upstream, send: o.send}
	d := core.Verifier.Verify(ctx, bind.Bind, binder)
	explainDecision(w, d, binder)
	return nil
}

// explainedBind is the bind that the flags describe.
type explainedBind struct {
	auth.Bind
	Context string // what was taken off the name; "" where it has none
	wrong   error  // why its context is not believed
}

// bind makes the bind request of the flags.
func (o *explainOptions) bind(in io.Reader) (explainedBind, error) {
	b := explainedBind{Bind: auth.Bind{Secure: true}}
	if o.name == "" {
		return b, fmt.Errorf("--dn is required (see 'appbind explain --help')")
	}
	b.Name, b.Context, b.wrong = proxy.TakeContext(o.name, &b.Client)
	b.ContextInvalid = b.wrong != nil
	if o.service != "" {
		b.Client.Service = o.service
	}
	if o.ip != "" {
		addr, err := netip.ParseAddr(o.ip)
		if err != nil {
			return b, fmt.Errorf("--ip %s: not an address", o.ip)
		}
		b.Client.Addr = addr.Unmap()
	}
	if !o.stdin {
		return b, nil
	}
	password, err := readPassword(in)
	b.Password = password
	return b, err
}

// obey has the rules of a listener count.
func (b *explainedBind) obey(l *config.Listener) {
	b.Listener = auth.Listener{Anonymous: l.Anonymous == "allow", Fallback: l.Fallback, TOTP: l.TOTP}
	if b.Client.Service == "" {
		b.Client.Service = l.Service
	}
	b.Client.Service = secrets.CanonicalService(b.Client.Service)
	if b.Context != "" && l.Context != "trusted" {
		b.ContextInvalid = true
		b.wrong = fmt.Errorf("listener %s has context: refuse, so that a bind with this name is refused", l.URL)
	}
}

// explain prints what is read out of the name.
func (b *explainedBind) explain(w io.Writer) {
	fmt.Fprintf(w, "name\t%s\n", printable(b.Name))
	if b.Context != "" {
		fmt.Fprintf(w, "context\t%s\n", printable(b.Context))
	}
	if b.wrong != nil {
		fmt.Fprintf(w, "context\tnot believed: %v\n", b.wrong)
	}
	if b.Client.Service != "" {
		fmt.Fprintf(w, "service\t%s\n", printable(b.Client.Service))
	}
	if b.Client.Addr.IsValid() {
		fmt.Fprintf(w, "address\t%s\n", b.Client.Addr)
	}
}

// rules is the chosen listener.
func (o *explainOptions) rules(cfg *config.Config, withContext bool) (*config.Listener, error) {
	var first *config.Listener
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		switch {
		case o.listener == l.URL.String(), o.listener == "" && withContext && l.Context == "trusted":
			return l, nil
		case o.listener == "" && first == nil:
			first = l
		}
	}
	if first == nil {
		return nil, fmt.Errorf("--listener %s: no such listener in %s", o.listener, cfg.File)
	}
	return first, nil
}

// explainEntry prints what the lookup finds.
func explainEntry(ctx context.Context, w io.Writer, dir auth.Directory, name string, client auth.Client) error {
	e, err := dir.Find(ctx, name)
	switch {
	case errors.Is(err, auth.ErrNotFound), errors.Is(err, auth.ErrAmbiguous):
		fmt.Fprintf(w, "entry\t%v\n", err)
		return nil
	case err != nil:
		return fmt.Errorf("lookup: %w", err)
	}
	fmt.Fprintf(w, "entry\t%s\n", printable(e.DN))
	fmt.Fprintf(w, "user\t%s\n", yesNo(e.User, "below users.bases", "outside users.bases: passed through"))
	if !e.User {
		return nil
	}
	fmt.Fprintf(w, "eligible\t%s\n", yesNo(e.Eligible, "matches users.filter and enabled_filter", "disabled, or no match of users.filter"))
	if !e.Ends.IsZero() {
		over := ""
		if !e.Enabled(time.Now()) {
			over = ": may not log in"
		}
		fmt.Fprintf(w, "ends\t%s%s\n", e.Ends.UTC().Format(time.RFC3339), over)
	}
	if e.State.Locked {
		fmt.Fprintf(w, "locked\tyes, the directory shows a lock\n")
	}
	for _, raw := range e.Values {
		v := secrets.Parse(raw)
		fmt.Fprintf(w, "value\t%s\n", describeValue(v, time.Now(), client))
	}
	return nil
}

// describeValue is one line about a value, without material.
func describeValue(v *secrets.Value, now time.Time, client auth.Client) string {
	switch v.Kind {
	case secrets.Foreign:
		return "not an app password"
	case secrets.TOTP:
		if v.Err != nil {
			return "one-time codes, unusable: " + v.Err.Error()
		}
		return "one-time codes (TOTP)"
	}
	parts := []string{"app password " + printable(v.Label)}
	if v.ID != "" {
		parts = append(parts, "id "+v.ID)
	}
	if !v.Expires.IsZero() {
		parts = append(parts, "expires "+v.Expires.UTC().Format(time.RFC3339))
	}
	if len(v.Services) > 0 {
		parts = append(parts, "services "+strings.Join(v.Services, ","))
	}
	if len(v.Networks) > 0 {
		parts = append(parts, fmt.Sprintf("networks %v", v.Networks))
	}
	if v.Err != nil {
		parts = append(parts, "unusable: "+v.Err.Error())
	} else if err := v.Allows(now, client.Service, client.Addr); err != nil {
		parts = append(parts, "not now: "+err.Error())
	}
	return strings.Join(parts, "; ")
}

// explainDecision prints the row.
func explainDecision(w io.Writer, d auth.Decision, b *explainBinder) {
	absent := b.asked && b.dn == b.upstream.AbsentDN()
	if b.asked && !b.send && !absent {
		fmt.Fprintf(w, "row\t%d\noutcome\tpassed through to the directory as %s (not sent; --send sends it)\n", d.Row, printable(b.dn))
		return
	}
	if absent && !b.send {
		d.Kind, d.Reason, d.Err = auth.InvalidCredentials, "no such user, or not eligible; a bind to a name that nobody has would be sent, for its cost", nil
	}
	fmt.Fprintf(w, "row\t%d\noutcome\t%s\nreason\t%s\n", d.Row, outcome(d.Kind), d.Reason)
	for _, app := range []*secrets.Value{d.App, d.Denied} {
		if app != nil {
			fmt.Fprintf(w, "label\t%s\n", printable(app.Label))
		}
	}
	if d.Err != nil {
		fmt.Fprintf(w, "trouble\t%v\n", d.Err)
	}
}

// outcome is a kind for people.
func outcome(k auth.Kind) string {
	switch k {
	case auth.Accepted:
		return "accepted"
	case auth.Anonymous:
		return "accepted as anonymous"
	case auth.Busy, auth.Unavailable:
		return "not decided: the client is told to try again"
	}
	return "refused"
}

// errNotSent stands for an answer that was not asked for.
var errNotSent = errors.New("not sent")

// explainBinder sends a bind only when it is told to.
type explainBinder struct {
	upstream *backend.Upstream
	send     bool
	asked    bool
	dn       string
}

// Bind is auth.Binder.
func (b *explainBinder) Bind(ctx context.Context, dn string, password auth.Password) (*auth.Answer, error) {
	b.asked, b.dn = true, dn
	if !b.send {
		return nil, errNotSent
	}
	link, err := b.upstream.BindLink(ctx)
	if err != nil {
		return nil, err
	}
	defer link.Close()
	return link.Bind(ctx, dn, password, nil)
}

// yesNo is yes or no with what it means.
func yesNo(is bool, yes, no string) string {
	if is {
		return "yes, " + yes
	}
	return "no, " + no
}

// printable keeps away from the terminal what is not shown as itself: control characters, and those that turn the
// direction of writing around.
func printable(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return s
	}
	return strconv.Quote(s)
}
