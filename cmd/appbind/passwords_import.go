package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"appbind/manage"
	"appbind/secrets"
)

// importOptions are the flags of import.
type importOptions struct {
	desk
	expires string
	dryRun  bool
}

func importCommand(s streams) *cobra.Command {
	o := &importOptions{desk: desk{streams: s}}
	c := &cobra.Command{
		Use:   "import -c FILE CSV",
		Short: "Store app passwords that exist already",
		Long: `Store the app passwords of a CSV file (- is standard input), whose first line names
the columns, in any order and case:

  user         DN, or a name that users.name_filter finds   (also username, login)
  value        a whole value: $app$NAME$HASH, as Stalwart 0.15 keeps it
or, in its place:
  label        what it is for                                (also description, name)
  hash         a hash that doc/secret-format.md lists        (also password)
  salt         of a hash that is SHA-256 in hexadecimal, as IXP Manager has it
  expires      a day, a moment, or a lifetime                (or --expires for all)
  services     separated by commas or spaces
  networks     likewise

Other columns are ignored. Each row is judged by the rules of app_passwords by
itself; what is there already is passed over, so that an import can be repeated.
A password in clear is refused, but for a value, whose HASH is then hashed.`,
		Example: `  appbind passwords import -c /etc/appbind/appbind.yaml --dry-run passwords.csv`,
		Args:    cobra.ExactArgs(1),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		rows, err := readImport(args[0], s.in)
		if err != nil {
			return err
		}
		return o.run(c, func(ctx context.Context) error { return o.store(ctx, rows) })
	}
	o.flags(c)
	c.ValidArgsFunction = nil // a file
	c.Flags().StringVar(&o.expires, "expires", "", "expiry of what has none: `LIFETIME` such as 90d, or a day such as 2027-01-31")
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "say what would be stored, and do nothing")
	return c
}

// imported is one row of the file: column name to text.
type imported struct {
	line   int
	column map[string]string
}

// columns are the names of columns and what they mean.
var columns = map[string]string{
	"user": "user", "username": "user", "login": "user", "dn": "user",
	"value": "value", "secret": "value",
	"label": "label", "description": "label", "name": "label",
	"hash": "hash", "password": "hash", "salt": "salt",
	"expires": "expires", "services": "services", "networks": "networks",
}

// readImport reads a whole file before anything is stored.
func readImport(name string, in io.Reader) ([]imported, error) {
	text, err := io.ReadAll(in)
	if name != "-" {
		text, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, err
	}
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff")))) // spreadsheets begin with a byte order mark
	r.TrimLeadingSpace, r.ReuseRecord = true, true
	head, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("%s: no first line with the names of the columns: %w", name, noText(err))
	}
	meaning := make([]string, len(head))
	known := map[string]bool{}
	for i, h := range head {
		meaning[i] = columns[strings.ToLower(strings.TrimSpace(h))]
		if meaning[i] != "" && known[meaning[i]] {
			return nil, fmt.Errorf("%s: two columns are %q", name, meaning[i])
		}
		known[meaning[i]] = true
	}
	if !known["user"] || !known["value"] && !(known["label"] && known["hash"]) {
		return nil, fmt.Errorf("%s: the first line must name the columns user and value, or user, label and hash", name)
	}
	var rows []imported
	for {
		record, err := r.Read()
		if err == io.EOF {
			return rows, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, noText(err))
		}
		line, _ := r.FieldPos(0)
		row := imported{line: line, column: map[string]string{}}
		for i, field := range record {
			if meaning[i] != "" {
				row.column[meaning[i]] = strings.Clone(strings.TrimSpace(field))
			}
		}
		rows = append(rows, row)
	}
}

// noText is an error of csv, which holds lines and columns and nothing of the text.
func noText(err error) error {
	if e, ok := errors.AsType[*csv.ParseError](err); ok {
		return fmt.Errorf("line %d, column %d: %w", e.Line, e.Column, e.Err)
	}
	return err
}

// value is what the row asks to store. The error says what is wrong and holds no material.
func (i imported) value(now time.Time, expires string) ([]byte, error) {
	c := i.column
	if c["user"] == "" {
		return nil, errors.New("no user")
	}
	if v := c["value"]; v != "" {
		parsed := secrets.Parse([]byte(v))
		if parsed.Kind != secrets.App {
			return nil, errors.New("the value is not $app$NAME$HASH")
		}
		if expires == "" || !parsed.Expires.IsZero() || parsed.Err != nil {
			return []byte(v), nil
		}
		p := parsed.Params()
		at, never, err := parseExpiry(expires, now)
		if err != nil || never {
			return []byte(v), err
		}
		p.Expires = at.UTC().Truncate(time.Second)
		text, err := secrets.New(p)
		return []byte(text), err
	}
	p := secrets.Params{Label: c["label"], Services: list(c["services"]), Created: now.UTC().Truncate(time.Second)}
	if c["expires"] != "" {
		expires = c["expires"]
	}
	at, _, err := importedExpiry(expires, now)
	if err != nil {
		return nil, err
	}
	if p.Expires = at.UTC().Truncate(time.Second); at.IsZero() {
		p.Expires = time.Time{}
	}
	if p.Networks, err = parseNetworks(list(c["networks"])); err != nil {
		return nil, errors.New("networks are not all networks such as 192.0.2.0/24, or addresses")
	}
	for n, s := range p.Services {
		p.Services[n] = secrets.CanonicalService(s)
	}
	if p.Hash, err = hashOf(c["hash"], c["salt"]); err != nil {
		return nil, err
	}
	text, err := secrets.New(p)
	return []byte(text), err
}

// importedExpiry is parseExpiry, and the form of databases (2027-01-31 00:00:00, in UTC).
func importedExpiry(text string, now time.Time) (time.Time, bool, error) {
	if at, err := time.Parse(time.DateTime, text); err == nil {
		return at, false, nil
	}
	at, never, err := parseExpiry(text, now)
	if err != nil {
		// Not what stands there: in a file with a column too few it may be anything.
		return at, never, errors.New("expires is not a day, a moment or a lifetime")
	}
	return at, never, nil
}

// list splits at commas and spaces.
func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == ';' })
}

// hashOf is a hash as it is stored. IXP Manager has SHA-256 of the password with the salt behind it, both in
// hexadecimal: that is {SSHA256} with the text of the salt.
func hashOf(hash, salt string) (string, error) {
	if salt != "" {
		sum, err := hex.DecodeString(hash)
		if err != nil || len(sum) != 32 {
			return "", errors.New("a hash with a salt must be SHA-256 in hexadecimal")
		}
		return "{SSHA256}" + base64.StdEncoding.EncodeToString(append(sum, salt...)), nil
	}
	if !strings.HasPrefix(hash, "$") && !strings.HasPrefix(hash, "{") && !strings.HasPrefix(hash, "_") {
		return "", errors.New("the hash is none of doc/secret-format.md; passwords in clear are not imported")
	}
	return hash, nil
}

// refusal is a row that was not stored.
type refusal struct {
	Line   int    `json:"line"`
	User   string `json:"user"`
	Label  string `json:"label,omitempty"`
	Reason string `json:"reason"`
}

// store stores the rows, each by itself.
func (o *importOptions) store(ctx context.Context, rows []imported) error {
	if _, _, err := parseExpiry(o.expires, o.m.Now()); err != nil {
		return &usageError{err}
	}
	result := struct {
		Imported int       `json:"imported"`
		Present  int       `json:"present"`
		Refused  []refusal `json:"refused"`
	}{Refused: []refusal{}}
	p := newProgress(o.err, "imported", len(rows))
	for _, r := range rows {
		label, present, err := o.storeRow(ctx, r)
		switch {
		case err != nil && (ctx.Err() != nil || exitStatus(err) == exitUnavailable):
			p.end()
			return fmt.Errorf("line %d: %w; %d rows were stored before, and import passes over them the next time", r.line, err, result.Imported)
		case err != nil:
			result.Refused = append(result.Refused, refusal{r.line, r.column["user"], label, err.Error()})
		case present:
			result.Present++
		default:
			result.Imported++
		}
		p.step()
	}
	p.end()
	if o.json {
		if err := o.print(result); err != nil {
			return err
		}
	} else {
		for _, r := range result.Refused {
			fmt.Fprintf(o.err, "line %d: %s: %s: %s\n", r.Line, printable(r.User), printable(r.Label), r.Reason)
		}
		would := map[bool]string{true: "would be ", false: ""}[o.dryRun]
		fmt.Fprintf(o.out, "%simported %d, there already %d, refused %d\n", would, result.Imported, result.Present, len(result.Refused))
	}
	if len(result.Refused) > 0 {
		return errReported
	}
	return nil
}

// storeRow stores one row. present: the user has this password already.
func (o *importOptions) storeRow(ctx context.Context, r imported) (label string, present bool, err error) {
	label = r.column["label"]
	raw, err := r.value(o.m.Now(), o.expires)
	if err != nil {
		return label, false, err
	}
	v := secrets.Parse(raw)
	label = v.Label
	u, err := o.m.Find(ctx, r.column["user"])
	if err != nil {
		return label, false, err
	}
	for _, other := range u.Set.Values {
		if other.Kind == secrets.App && manage.SameLabel(other.Label, v.Label) && other.Params().Hash == v.Params().Hash {
			return label, true, nil
		}
	}
	if o.dryRun {
		_, err := o.m.Rules().Admit(u.Set, raw, o.m.Now())
		return label, false, err
	}
	// Its maker may not have put down when it was made; that it is told to the history says since when it is here.
	_, err = o.managing().Add(ctx, u.DN, [][]byte{raw})
	return label, false, err
}

// exportOptions are the flags of export.
type exportOptions struct {
	desk
	user   string
	values bool
}

func exportCommand(s streams) *cobra.Command {
	o := &exportOptions{desk: desk{streams: s}}
	c := &cobra.Command{
		Use:   "export -c FILE",
		Short: "Write app passwords as CSV or JSON",
		Long: `Write the app passwords of all users, or of one, as CSV, or with --json as JSON. With
--values each row holds the stored value, and import takes the file: it holds
hashes then, so keep it like a password file.`,
		Example: "  appbind passwords export -c /etc/appbind/appbind.yaml --values > passwords.csv",
		RunE:    func(c *cobra.Command, _ []string) error { return o.run(c, o.export) },
	}
	o.flags(c)
	c.Flags().StringVarP(&o.user, "user", "u", "", "of this user alone: a DN, or a `NAME` that users.name_filter finds")
	c.Flags().BoolVar(&o.values, "values", false, "with the stored values, which are hashes")
	return c
}

// exported is a row with its value.
type exported struct {
	row
	Value string `json:"value,omitempty"`
}

func (o *exportOptions) export(ctx context.Context) error {
	now := o.m.Now()
	rows := []exported{}
	p := newProgress(o.err, "read", 0)
	err := o.each(ctx, o.user, func(u *manage.User) error {
		p.step()
		for _, v := range chosen(u, all) {
			e := exported{row: rowOf(u, v, now)}
			if o.values {
				e.Value = v.Raw
			}
			rows = append(rows, e)
		}
		return nil
	})
	p.end()
	switch {
	case err != nil:
		return err
	case o.json:
		return o.print(rows)
	}
	w := csv.NewWriter(o.out)
	head := []string{"user", "label", "id", "state", "created", "expires", "services", "networks"}
	if o.values {
		head = append(head, "value")
	}
	_ = w.Write(head) // Error tells below
	for _, r := range rows {
		record := []string{r.User, r.Label, r.ID, r.State, stampOf(r.Created), stampOf(r.Expires), strings.Join(r.Services, ","), strings.Join(r.Networks, ",")}
		if o.values {
			record = append(record, r.Value) // which import takes, and not the label
		}
		for i, cell := range record {
			record[i] = noFormula(cell)
		}
		_ = w.Write(record)
	}
	w.Flush()
	return w.Error()
}

// stampOf is a moment in a file; "" for none.
func stampOf(at *time.Time) string {
	if at == nil {
		return ""
	}
	return at.Format(time.RFC3339)
}
