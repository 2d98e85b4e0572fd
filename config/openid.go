package config

import (
	"net/url"
	"regexp"
	"slices"
)

// OpenID is the sign-in to the self-service pages at an OpenID Connect provider.
type OpenID struct {
	// Issuer is the provider, spelled as it spells itself (iss): https://login.example.org/realms/example; empty: there is no such sign-in. http is for this machine only.
	Issuer string `yaml:"issuer" is:"issuer"`
	// Label is the provider's name for people; empty: the host of issuer.
	Label string `yaml:"label"`
	// ClientID is the name by which the provider knows appbind. The address to send users back to is portal.url with /openid/callback.
	ClientID string `yaml:"client_id"`
	// ClientSecret goes with it; better client_secret_file.
	ClientSecret Secret `yaml:"client_secret"`
	// ClientSecretFile is a file that holds it.
	ClientSecretFile string `yaml:"client_secret_file" is:"passwordfile"`
	// CA is a PEM file of authorities that the provider's certificate must come from; empty: the system's.
	CA string `yaml:"ca" is:"file"`
	// Scopes are what is asked for; openid is among them.
	Scopes []string `yaml:"scopes" is:"scope"`
	// Claim says who signed in; default email, which counts only where the provider says that it was verified (email_verified).
	Claim string `yaml:"claim" is:"claim"`
	// Attribute must have the claim's value in the entry of exactly one user; default mail.
	Attribute string `yaml:"attribute" is:"attribute"`
	// ACR are the levels (acr) that stand for a second factor; they are asked for. With acr and amr both must fit; without either the provider's sign-in is one factor, and appbind asks for a second.
	ACR []string `yaml:"acr" is:"scope"`
	// AMR are the methods (amr) of which each stands for a second factor, such as mfa.
	AMR []string `yaml:"amr" is:"scope"`
	// Require refuses a sign-in without that second factor, where appbind would ask for one of its own; default false.
	Require bool `yaml:"require"`
	// Password says whether users may sign in with the directory's password as well; default true.
	Password bool `yaml:"password"`
}

// On reports whether users can sign in at a provider.
func (o *OpenID) On() bool { return o.Issuer != "" }

// Factors reports whether some sign-in at the provider counts as one with two factors.
func (o *OpenID) Factors() bool { return len(o.ACR) > 0 || len(o.AMR) > 0 }

// Name is the provider's name for people.
func (o *OpenID) Name() string {
	if u, err := url.Parse(o.Issuer); o.Label == "" && err == nil {
		return u.Hostname()
	}
	return o.Label
}

// openID checks what the keys of a provider demand of each other.
func (d *decoder) openID(o *OpenID) {
	const at = "portal.openid"
	if d.wrong[at] || d.wrong[at+".issuer"] {
		return
	}
	if !o.On() {
		for _, k := range []struct {
			key   string
			given bool
		}{{"client_id", o.ClientID != ""}, {"client_secret", o.ClientSecret != ""}, {"client_secret_file", o.ClientSecretFile != ""}, {"acr", len(o.ACR) > 0},
			{"amr", len(o.AMR) > 0}, {"require", o.Require}, {"password", !o.Password}} {
			if k.given {
				d.mistakef(at+"."+k.key, "needs portal.openid.issuer")
			}
		}
		return
	}
	d.required(at+".client_id", o.ClientID == "", "the name by which the provider knows appbind")
	d.required(at+".client_secret_file", o.ClientSecret == "" && o.ClientSecretFile == "" && !d.wrong[at+".client_secret"], "a file with what the provider gave with the client_id")
	if o.ClientSecret != "" && o.ClientSecretFile != "" {
		d.mistakef(at+".client_secret_file", "contradicts portal.openid.client_secret: give one of them")
	}
	if !slices.Contains(o.Scopes, "openid") && !d.wrong[at+".scopes"] {
		d.mistakef(at+".scopes", "must hold openid")
	}
	if o.Require && !o.Factors() && !d.wrong[at+".acr"] && !d.wrong[at+".amr"] {
		d.mistakef(at+".require", "needs portal.openid.acr or portal.openid.amr: what the provider says of a sign-in with a second factor")
	}
}

// checkIssuer checks the address of a provider: what comes from there says who somebody is.
func checkIssuer(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Opaque != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "must be the issuer of a provider, such as https://login.example.org/realms/example"
	case u.User != nil:
		return "must not hold a user or password"
	case u.Scheme == "http" && !(URL{Host: u.Hostname()}).Loopback():
		return "must be https: http only to this machine (localhost, 127.0.0.1, ::1)"
	}
	return ""
}

var (
	claimName = regexp.MustCompile(`^[A-Za-z0-9_:./-]{1,200}$`)
	scopeName = regexp.MustCompile(`^[\x21\x23-\x5b\x5d-\x7e]{1,200}$`) // RFC 6749 3.3
)
