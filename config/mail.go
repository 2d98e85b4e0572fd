package config

import (
	"net"
	"net/mail"
	"net/url"
	"strings"
)

// mail checks that what is sent has a sender, and that no password travels in clear to another machine.
func (d *decoder) mail(m *Mail) {
	const server = "mail.server"
	if m.Server == "" && !d.wrong[server] {
		for _, k := range []struct {
			key   string
			given bool
		}{{"mail.username", m.Username != ""}, {"mail.ca", m.CA != ""}} {
			if k.given {
				d.mistakef(k.key, "is for mail.server, which is not given")
			}
		}
		return
	}
	d.required("mail.from", m.From == "", "the sender, such as appbind@example.org")
	if _, port, _ := net.SplitHostPort(m.Server); port == "0" {
		d.mistakef(server, "the port must not be 0")
	}
	d.mailLogin(m)
	if m.CA != "" && m.Security() == "none" && !d.wrong["mail.tls"] && !d.wrong[server] {
		d.mistakef("mail.ca", "is for TLS, and the server is reached without it (see mail.tls)")
	}
}

// mailLogin checks that the login is complete.
func (d *decoder) mailLogin(m *Mail) {
	has := m.Password != "" || m.PasswordFile != ""
	switch {
	case m.Password != "" && m.PasswordFile != "":
		d.mistakef("mail.password_file", "contradicts mail.password: give one of them")
	case d.wrong["mail.username"] || d.wrong["mail.password"] || d.wrong["mail.password_file"]:
	case m.Username != "" && !has:
		d.mistakef("mail.username", "needs its password: give mail.password_file")
	case m.Username == "" && has:
		d.mistakef("mail.username", "is required: the name that goes with the password")
	case m.Username != "" && m.Security() == "none" && !m.loopback():
		d.mistakef("mail.tls", "none would send the password of mail.username in clear to another machine")
	}
}

// Security is how the server is reached: starttls, implicit or none.
func (m *Mail) Security() string {
	_, port, _ := net.SplitHostPort(m.Server)
	switch {
	case m.TLS != "auto":
		return m.TLS
	case port == "465":
		return "implicit"
	case m.loopback():
		return "none"
	}
	return "starttls"
}

// loopback reports whether the server is on this machine.
func (m *Mail) loopback() bool {
	host, _, _ := net.SplitHostPort(m.Server)
	return (URL{Host: host}).Loopback()
}

// checkAddress checks the sender of a mail.
func checkAddress(text string) string {
	a, err := mail.ParseAddress(text)
	if err != nil || !strings.Contains(a.Address, "@") {
		return `must be an address such as appbind@example.org, or "Example Mail <appbind@example.org>"`
	}
	return ""
}

// checkWebURL checks the address of a page.
func checkWebURL(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		return "must be the address of a page, such as https://passwords.example.org/"
	}
	return ""
}
