package portal

import (
	"bytes"
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"text/template"

	"appbind/manage"
)

// mailServer is one mail server, as a person types it into a mail program.
type mailServer struct {
	Name     string // IMAP, POP3, SMTP
	Host     string
	Port     int
	StartTLS bool
}

// servers are those of the configuration.
func (p *Portal) servers() (list []mailServer) {
	for _, s := range []struct{ name, address string }{{"IMAP", p.cfg.IMAP}, {"POP3", p.cfg.POP3}, {"SMTP", p.cfg.SMTP}} {
		host, port, err := net.SplitHostPort(s.address)
		if err != nil {
			continue // not configured
		}
		n, _ := strconv.Atoi(port) // checked by config
		list = append(list, mailServer{s.name, host, n, n == 143 || n == 110 || n == 25 || n == 587})
	}
	return list
}

// Profiles reports whether a configuration profile for Apple's programs can be made: they need a server to read mail and one to send it.
func (w *view) Profiles() bool {
	_, _, ok := w.v.p.profileServers()
	return ok
}

func (p *Portal) profileServers() (in, out mailServer, ok bool) {
	for _, s := range p.servers() {
		switch {
		case s.Name == "SMTP":
			out = s
		case in.Name == "":
			in = s
		}
	}
	return in, out, in.Name != "" && out.Name != ""
}

// profileText is Apple's "Mail" payload. Every value is escaped by x.
var profileText = template.Must(template.New("profile").Funcs(template.FuncMap{"x": escapeXML}).Parse(`<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>PayloadType</key><string>Configuration</string>
	<key>PayloadVersion</key><integer>1</integer>
	<key>PayloadIdentifier</key><string>{{x .Identifier}}</string>
	<key>PayloadUUID</key><string>{{x .Outer}}</string>
	<key>PayloadDisplayName</key><string>{{x .Title}}</string>
	<key>PayloadOrganization</key><string>{{x .Site}}</string>
	<key>PayloadContent</key>
	<array>
		<dict>
			<key>PayloadType</key><string>com.apple.mail.managed</string>
			<key>PayloadVersion</key><integer>1</integer>
			<key>PayloadIdentifier</key><string>{{x .Identifier}}.mail</string>
			<key>PayloadUUID</key><string>{{x .Inner}}</string>
			<key>PayloadDisplayName</key><string>{{x .Title}}</string>
			<key>EmailAccountDescription</key><string>{{x .Site}}</string>
			<key>EmailAccountName</key><string>{{x .Name}}</string>
			<key>EmailAccountType</key><string>{{x .Kind}}</string>
			<key>EmailAddress</key><string>{{x .Mail}}</string>
			<key>IncomingMailServerAuthentication</key><string>EmailAuthPassword</string>
			<key>IncomingMailServerHostName</key><string>{{x .In.Host}}</string>
			<key>IncomingMailServerPortNumber</key><integer>{{.In.Port}}</integer>
			<key>IncomingMailServerUseSSL</key><true/>
			<key>IncomingMailServerUsername</key><string>{{x .Login}}</string>
			<key>IncomingPassword</key><string>{{x .Password}}</string>
			<key>OutgoingMailServerAuthentication</key><string>EmailAuthPassword</string>
			<key>OutgoingMailServerHostName</key><string>{{x .Out.Host}}</string>
			<key>OutgoingMailServerPortNumber</key><integer>{{.Out.Port}}</integer>
			<key>OutgoingMailServerUseSSL</key><true/>
			<key>OutgoingMailServerUsername</key><string>{{x .Login}}</string>
			<key>OutgoingPasswordSameAsIncomingPassword</key><true/>
		</dict>
	</array>
</dict>
</plist>
`))

func escapeXML(text string) (string, error) {
	var b bytes.Buffer
	err := xml.EscapeText(&b, []byte(text))
	return b.String(), err
}

// profile answers with a configuration profile that carries the account and the new app password.
func (v *visit) profile(made manage.Issued) error {
	in, out, ok := v.p.profileServers()
	if !ok {
		return fmt.Errorf("a configuration profile needs portal.smtp and portal.imap or portal.pop3")
	}
	kind := "EmailTypeIMAP"
	if in.Name == "POP3" {
		kind = "EmailTypePOP"
	}
	mail := v.person.mail
	if mail == "" {
		mail = v.person.login
	}
	id := v.user.Key + "\x00" + made.Value.ID
	var b bytes.Buffer
	err := profileText.Execute(&b, map[string]any{
		"Identifier": "appbind." + made.Value.ID, "Outer": uuidOf("outer", id), "Inner": uuidOf("inner", id), "Title": v.p.site + " (" + made.Value.Label + ")",
		"Site": v.p.site, "Name": v.person.name, "Kind": kind, "Mail": mail, "In": in, "Out": out, "Login": v.person.login, "Password": made.Password,
	})
	if err != nil {
		return err
	}
	h := v.w.Header()
	h.Set("Content-Type", "application/x-apple-aspen-config")
	h.Set("Content-Disposition", `attachment; filename="mail.mobileconfig"`)
	v.w.WriteHeader(http.StatusCreated)
	_, _ = v.w.Write(b.Bytes()) // the browser has gone, then
	return nil
}

// uuidOf is a UUID (version 8, RFC 9562) that is the same for the same app password: a profile that is installed again replaces itself.
func uuidOf(use, text string) string {
	b := sha256.Sum256([]byte(use + "\x00" + text))
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return fmt.Sprintf("%X-%X-%X-%X-%X", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
