package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"appbind/secrets"
)

// The identities of the directory.
const (
	suffix    = "dc=example,dc=org"
	people    = "ou=people," + suffix
	adminDN   = "cn=admin," + suffix
	serviceDN = "cn=appbind,ou=services," + suffix // appbind's own
	servicePW = "appbind-secret"
	mailDN    = "cn=mail,ou=services," + suffix // the mail servers'
	mailPW    = "mail-secret"
)

// How many users there are, by the number of their app passwords.
const (
	usersWith1  = 6000
	usersWith10 = 3000
	usersWith50 = 1000
	users       = usersWith1 + usersWith10 + usersWith50
	perAlgo     = 64  // further users with one app password of each algorithm
	department  = 100 // users of one department
	largeUsers  = 100 // entries of 10 KB, which are no users
)

// secretsOf is how many app passwords a user has.
func secretsOf(user int) int {
	switch {
	case user < usersWith1:
		return 1
	case user < usersWith1+usersWith10:
		return 10
	}
	return 50
}

// account is one user: the text that it logs in with.
type account struct {
	dn, uid, main string
	apps          []string // app passwords, by 'appbind hash'
	revoked       string   // one that was made for it and is not stored
	wrong         string   // a live selector with another secret
}

// site is what the directory holds.
type site struct {
	accounts []account
	algo     map[string][]account
}

// account makes the names of a user.
func newAccount(uid string) account {
	return account{dn: "uid=" + uid + "," + people, uid: uid, main: "main password of " + uid}
}

// writeSite makes the users and writes the whole directory as LDIF.
func writeSite(path string) (*site, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	writeTree(w)
	s := &site{algo: map[string][]account{}}
	for i := range users {
		a := newAccount(fmt.Sprintf("user%d", i))
		values, err := a.addSecrets(secretsOf(i))
		if err != nil {
			return nil, err
		}
		a.write(w, i/department, values)
		s.accounts = append(s.accounts, a)
	}
	for _, algorithm := range []string{secrets.Bcrypt, secrets.Argon2i, secrets.Argon2id} {
		if err := s.addSlow(w, algorithm); err != nil {
			return nil, err
		}
	}
	if err := w.Flush(); err != nil {
		return nil, err
	}
	return s, f.Close()
}

// addSecrets gives an account n app passwords, a revoked and a wrong one, and
// returns the values to store.
func (a *account) addSecrets(n int) ([]string, error) {
	var values, taken []string
	var last secrets.Generated
	for i := range n {
		g, value, err := newSecret(secrets.SHA256, fmt.Sprint("device ", i), taken)
		if err != nil {
			return nil, err
		}
		a.apps, values, taken, last = append(a.apps, g.Password), append(values, value), append(taken, g.ID), g
	}
	revoked, err := secrets.Generate(nil, taken...)
	if err != nil {
		return nil, err
	}
	wrong, err := secrets.Generate(io.MultiReader(strings.NewReader(drawing(last.ID)), rand.Reader))
	if err != nil {
		return nil, err
	}
	a.revoked, a.wrong = revoked.Password, wrong.Password
	return values, nil
}

// drawing is the random bytes from which secrets.Generate makes this selector:
// each is the place of a character in the alphabet.
func drawing(selector string) string {
	const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	b := []byte(selector)
	for i, c := range b {
		b[i] = byte(strings.IndexByte(alphabet, c))
	}
	return string(b)
}

// newSecret generates an app password and its stored value.
func newSecret(algorithm, label string, taken []string) (secrets.Generated, string, error) {
	g, err := secrets.Generate(nil, taken...)
	if err != nil {
		return g, "", err
	}
	hash, err := secrets.Hash(algorithm, []byte(g.Password), nil)
	if err != nil {
		return g, "", err
	}
	value, err := secrets.New(secrets.Params{Label: label, ID: g.ID, Hash: hash})
	return g, value, err
}

// addSlow adds the users of one slow algorithm; their hashes are made on all cores.
func (s *site) addSlow(w io.Writer, algorithm string) error {
	list := make([]account, perAlgo)
	values, errs := make([]string, perAlgo), make([]error, perAlgo)
	var wg sync.WaitGroup
	for i := range list {
		list[i] = newAccount(fmt.Sprintf("%s%d", algorithm, i))
		wg.Go(func() {
			var g secrets.Generated
			g, values[i], errs[i] = newSecret(algorithm, "device", nil)
			list[i].apps = []string{g.Password}
		})
	}
	wg.Wait()
	for i := range list {
		if errs[i] != nil {
			return errs[i]
		}
		list[i].write(w, users, values[i:i+1])
	}
	s.algo[algorithm] = list
	return nil
}

// writeTree writes what is no user.
func writeTree(w io.Writer) {
	fmt.Fprintf(w, "dn: %s\nobjectClass: dcObject\nobjectClass: organization\no: example\ndc: example\n\n", suffix)
	for _, ou := range []string{"people", "services", "large"} {
		fmt.Fprintf(w, "dn: ou=%s,%s\nobjectClass: organizationalUnit\nou: %s\n\n", ou, suffix, ou)
	}
	for dn, password := range map[string]string{serviceDN: servicePW, mailDN: mailPW} {
		cn, _, _ := strings.Cut(strings.TrimPrefix(dn, "cn="), ",")
		fmt.Fprintf(w, "dn: %s\nobjectClass: applicationProcess\nobjectClass: simpleSecurityObject\ncn: %s\nuserPassword: %s\n\n", dn, cn, ssha(password))
	}
	text := bytes.Repeat([]byte("0123456789abcde "), 10<<10/16)
	for i := range largeUsers {
		fmt.Fprintf(w, "dn: uid=large%d,ou=large,%s\nobjectClass: inetOrgPerson\nuid: large%d\ncn: Large\nsn: Large\ndescription: %s\n\n", i, suffix, i, text)
	}
}

// write writes the user's entry.
func (a *account) write(w io.Writer, dept int, values []string) {
	fmt.Fprintf(w, "dn: %s\nobjectClass: inetOrgPerson\nobjectClass: appPasswordAccount\nuid: %s\ncn: User %s\nsn: Example\nmail: %s@example.org\n"+
		"departmentNumber: %d\nuserPassword: %s\n", a.dn, a.uid, a.uid, a.uid, dept, ssha(a.main))
	for _, v := range values {
		fmt.Fprintf(w, "appPassword: %s\n", v)
	}
	fmt.Fprintln(w)
}

// ssha hashes as slapd does by default: salted SHA-1.
func ssha(password string) string {
	salt := make([]byte, 8)
	_, _ = rand.Read(salt) // never fails
	sum := sha1.Sum(append([]byte(password), salt...))
	return "{SSHA}" + base64.StdEncoding.EncodeToString(append(sum[:], salt...))
}
