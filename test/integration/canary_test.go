package integration

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// forms are the spellings in which a secret could slip out: as it is, quoted,
// in hex, and in base64 wherever it begins in what was encoded.
func forms(secret string) []string {
	list := []string{secret, strings.ToUpper(secret), url.QueryEscape(secret), hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))),
		strings.Trim(fmt.Sprint([]byte(secret)), "[]"), fmt.Sprintf("% x", secret)}
	for shift := range 3 {
		text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + secret))
		// The first and the last group depend on the neighbours too.
		list = append(list, text[4*((shift+2)/3):4*((shift+len(secret))/3)])
	}
	return list
}

// leaks are the secrets that stand in text in some form.
func leaks(text string, secrets []string) (found []string) {
	for _, secret := range secrets {
		for _, form := range forms(secret) {
			if strings.Contains(text, form) {
				found = append(found, secret+" as "+form)
			}
		}
	}
	return found
}

// TestForms: the search for leaks finds them.
func TestForms(t *testing.T) {
	t.Parallel()
	const secret = "canary-4711-xyz"
	for _, text := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%q", []string{secret}), fmt.Sprint([]byte(secret))} {
		if len(leaks("before "+text+" after", []string{secret})) == 0 {
			t.Errorf("not found in %s", text)
		}
	}
	for _, before := range []string{"", "a", "ab", "abc", "abcd"} {
		for _, after := range []string{"", "a", "ab", "abc"} {
			if len(leaks(base64.StdEncoding.EncodeToString([]byte(before+secret+after)), []string{secret})) == 0 {
				t.Errorf("not found in base64 between %q and %q", before, after)
			}
		}
	}
	if found := leaks("nothing of the kind, canary-4711", []string{secret}); len(found) != 0 {
		t.Errorf("found %q", found)
	}
}

// canaries are the secrets of one run, by role.
type canaries struct {
	phone, revoked         appPassword
	main, wrong, changed   string
	chosen, stored, factor string
}

// list is all of them, in every spelling that was sent or stored.
func (c *canaries) list() []string {
	list := []string{c.main, c.wrong, c.changed, c.chosen, c.stored, c.factor, servicePW, mailPW, totpSecret}
	for _, p := range []appPassword{c.phone, c.revoked} {
		hash := p.Value[strings.LastIndexByte(p.Value, '$')+1:]
		list = append(list, p.Password, strings.ReplaceAll(p.Password, "-", ""), strings.ReplaceAll(p.Password, "-", " "), hash, hash[strings.IndexByte(hash, '}')+1:])
	}
	return list
}

// TestCanaries: at log level debug, in text and in JSON, no password, hash or
// second factor of any role stands in anything that appbind prints, in its
// arguments or in its environment; and each bind is exactly one line.
func TestCanaries(t *testing.T) {
	t.Parallel()
	c := &canaries{phone: newPassword(t, "phone"), revoked: newPassword(t, "revoked"), main: "canary-main-1f6c", wrong: "canary-wrong-92ab",
		changed: "canary-changed-77e1", chosen: "canary chosen 3b55"}
	c.stored = "$app$chosen$" + bcryptOf(t, c.chosen, 4)
	c.factor = otpauth("alice")
	s := startSlapd(t, slapdOptions{LDIF: person("victor", c.main)})
	s.modify("dn: " + userDN("alice") + "\nchangetype: modify\nreplace: userPassword\nuserPassword: " + c.main + "\n")
	for _, value := range []string{c.phone.Value, c.stored, c.factor, "$app$clear$" + c.wrong} {
		s.addSecret("alice", value)
	}
	secret := shortDir(t) + "/password"
	write(t, secret, servicePW+"\n")
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			config := baseConfig(s, "", "log:\n  level: debug\n  format: "+format+"\n")
			config = replaceOnce(t, config, "bind_password: "+servicePW, "bind_password_file: "+secret)
			a := startAppbind(t, config)
			binds := c.binds(t, a.uri())
			binds += c.operations(t, a.uri())
			c.garbage(t, a.uri())
			a.hangup(strings.Replace(config, "bind_password_file: "+secret, "bind_password: ["+servicePW+"]", 1), refused)
			a.hangup(config, reloaded)
			said := a.output() + c.commands(t, a)
			s.stopAndRestart(t, func() {
				simpleBind(t, a.uri(), userDN("alice"), c.main)
				simpleBind(t, a.uri(), userDN("alice"), c.phone.Password)
				binds += 2
			})
			said += processFiles(t, a)
			a.stop(syscall.SIGTERM)
			said += a.output()
			if found := leaks(said, c.list()); len(found) > 0 {
				t.Errorf("%d leaks: %q", len(found), found)
			}
			checkLines(t, a.output(), format, binds)
		})
	}
}

// injected is a name that tries to write lines of its own.
const injected = "uid=x\r\ntime=2026-01-01 level=INFO msg=bind outcome=accepted \x1b[31m\x00\u2028,ou=people"

// binds binds with every canary in every role, and returns how many binds that were.
func (c *canaries) binds(t testing.TB, uri string) (n int) {
	t.Helper()
	loud := strings.ToUpper(strings.ReplaceAll(c.phone.Password, "-", " "))
	logins := [][2]string{
		{userDN("alice"), c.main + "$" + otpCode(t, 0)}, {userDN("alice"), c.main}, {userDN("alice"), c.wrong}, {userDN("alice"), c.wrong + "$" + otpCode(t, 1)},
		{userDN("alice"), c.phone.Password}, {userDN("alice"), loud}, {userDN("alice"), c.phone.Password + "$123456"}, {userDN("alice"), c.chosen},
		{userDN("alice"), c.revoked.Password}, {userDN("alice"), c.phone.Value}, {userDN("alice"), c.factor}, {userDN("alice"), c.stored},
		{userDN("victor"), c.main}, {userDN("victor"), c.wrong}, {userDN("victor"), c.wrong}, {userDN("nobody"), c.main}, {userDN("carol"), c.phone.Password},
		{mailDN, mailPW}, {mailDN, c.wrong}, {serviceDN, servicePW}, {serviceDN, c.wrong}, {adminDN, c.wrong},
		{"alice", c.main}, {"uid=alice,,", c.main}, {injected, c.main}, {injected, c.phone.Password}, {userDN("alice") + ",svc=imap,cn=appbind", c.main},
		{"", c.main}, {strings.Repeat("x", 3000), c.wrong}, {userDN("alice"), strings.Repeat(c.wrong, 100)}, {"", ""}, {userDN("alice"), ""},
	}
	for _, login := range logins {
		simpleBind(t, uri, login[0], login[1])
	}
	saslBind(t, uri, "PLAIN")
	saslBind(t, uri, "EXTERNAL\nmsg=bind")
	return len(logins) + 2
}

// operations sends canaries in everything that is not a bind, and returns how
// many binds it needs for that. The results do not matter.
func (c *canaries) operations(t testing.TB, uri string) (n int) {
	t.Helper()
	for _, login := range [][2]string{{mailDN, mailPW}, {userDN("alice"), c.phone.Password}} {
		conn := bound(t, uri, login[0], login[1])
		n++
		m := ldap.NewModifyRequest(userDN("alice"), nil)
		m.Replace("userPassword", []string{c.changed})
		_ = conn.Modify(m)
		_, _ = conn.PasswordModify(ldap.NewPasswordModifyRequest(userDN("alice"), c.main, c.changed))
		_, _ = conn.Compare(userDN("alice"), "userPassword", c.changed)
		_, _ = conn.Compare(userDN("alice"), "appPassword", c.phone.Value)
		_, _ = search(conn, suffix, "(userPassword="+ldap.EscapeFilter(c.main)+")", nil)
		_, _ = search(conn, suffix, "(appPassword="+ldap.EscapeFilter(c.phone.Value)+")", nil)
		_ = conn.Add(&ldap.AddRequest{DN: "uid=" + c.changed + "," + people, Attributes: []ldap.Attribute{{Type: "objectClass", Vals: []string{"inetOrgPerson"}}, {Type: "userPassword", Vals: []string{c.changed}}}})
	}
	return n
}

// garbage sends canaries in what is no LDAP, or not all of it.
func (c *canaries) garbage(t testing.TB, uri string) {
	t.Helper()
	whole := c.message()
	cut := bytes.Clone(whole)
	cut[1] += 5 // the length promises more
	bad := bytes.Clone(whole)
	bad[7] = 0x99 // no such type
	for _, text := range []string{string(whole[:len(whole)-3]), string(cut), string(bad), "\x30\x80" + c.main, "\x30\x84\x7f\xff\xff\xff" + c.main, c.main + "\n", "PROXY " + c.main + "\r\n"} {
		conn := dialRaw(t, uri, text)
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		for b := make([]byte, 512); ; {
			if _, err := conn.Read(b); err != nil {
				break
			}
		}
	}
}

// message is a bind with the main password, as bytes.
func (c *canaries) message() []byte {
	m := ldapMessage(1, bindOp(userDN("victor"), c.main))
	return m.Bytes()
}

// commands runs the other commands with canaries, and returns what they print.
func (c *canaries) commands(t testing.TB, a *appbind) string {
	t.Helper()
	var b strings.Builder
	for _, run := range []struct {
		stdin string
		args  []string
	}{
		{"", []string{"check", "-c", a.file}},
		{c.main + "\n", []string{"check", "-c", a.file, "--user", userDN("victor"), "--password-stdin"}},
		{c.wrong + "\n", []string{"check", "-c", a.file, "--user", userDN("victor"), "--password-stdin"}},
		{"", []string{"explain", "-c", a.file, "--dn", userDN("alice")}},
		{c.main + "\n", []string{"explain", "-c", a.file, "--dn", userDN("alice"), "--password-stdin"}},
		{c.phone.Password + "\n", []string{"explain", "-c", a.file, "--dn", userDN("alice"), "--password-stdin"}},
		{c.phone.Value + "\n", []string{"explain", "-c", a.file, "--dn", userDN("alice"), "--password-stdin"}},
	} {
		r := command(t, run.stdin, binary, run.args...)
		if r.code == 2 {
			t.Errorf("appbind %v: exit status %d\n%s%s", run.args, r.code, r.out, r.err)
		}
		b.WriteString(r.out + r.err)
	}
	return b.String()
}

// processFiles are what other processes of the machine may see of appbind. Its
// environment is for root alone, and for nobody where the kernel protects it.
func processFiles(t testing.TB, a *appbind) string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/", a.cmd.Process.Pid)
	cmdline, err := os.ReadFile(dir + "cmdline")
	if err != nil || len(cmdline) == 0 {
		t.Fatalf("cmdline: %v", err)
	}
	environ, err := os.ReadFile(dir + "environ")
	if err != nil && !os.IsPermission(err) {
		t.Fatal(err)
	}
	return string(cmdline) + string(environ)
}

// checkLines demands one line for each bind, and no control character in any.
func checkLines(t testing.TB, log, format string, binds int) {
	t.Helper()
	n := 0
	for line := range strings.Lines(log) {
		line = strings.TrimSuffix(line, "\n")
		if i := strings.IndexFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
			t.Errorf("a control character in %q", line)
		}
		if format == "json" {
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Errorf("no JSON: %v in %q", err, line)
			}
			if fields["msg"] == "bind" {
				n++
			}
			continue
		}
		if !strings.HasPrefix(line, "time=") {
			t.Errorf("a line that is not appbind's: %q", line)
		}
		if strings.Contains(line, " msg=bind outcome=") && strings.Index(line, " msg=bind outcome=") == strings.Index(line, " msg=") {
			n++
		}
	}
	if n != binds {
		t.Errorf("%d lines of binds, want %d", n, binds)
	}
}

// stopAndRestart runs f while the server is down.
func (s *slapd) stopAndRestart(t testing.TB, f func()) {
	t.Helper()
	s.kill()
	f()
	s.run()
}
