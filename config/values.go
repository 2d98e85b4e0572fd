package config

import (
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-ldap/ldap/v3"
	"gopkg.in/yaml.v3"

	"appbind/wire"
)

// scalar decodes one value into a URL, Duration, prefix, number, truth value or text.
func (d *decoder) scalar(path string, n *yaml.Node, v reflect.Value, tag reflect.StructTag) {
	switch {
	case isNull(n):
		d.mistake(n.Line, path, "has no value; leave the key out for the default")
		return
	case n.Kind != yaml.ScalarNode:
		d.mistake(n.Line, path, "must be one value, not a list or a section")
		return
	}
	reason := ""
	switch target := v.Addr().Interface().(type) {
	case *URL:
		u, err := ParseURL(n.Value)
		if err != nil {
			reason = err.Error()
		}
		*target = u
	case *Duration:
		reason = setDuration(target, n.Value, tag)
	case *netip.Prefix:
		reason = setPrefix(target, n.Value)
	case *int:
		reason = setInt(target, n, tag)
	case *bool:
		if n.Tag != "!!bool" {
			reason = "must be true or false"
		}
		*target = strings.EqualFold(n.Value, "true")
	case *Secret:
		*target = Secret(n.Value)
	case *string:
		reason = d.setText(path, n.Value, target, tag)
	default:
		panic("appbind: internal error: no decoder for " + v.Type().String())
	}
	if reason != "" {
		d.mistake(n.Line, path, reason)
	}
}

// setDuration reads a duration within the tag's range.
func setDuration(target *Duration, text string, tag reflect.StructTag) string {
	low, high, _ := strings.Cut(tag.Get("range"), "..")
	least, err1 := ParseDuration(low)
	most, err2 := ParseDuration(high)
	if err1 != nil || err2 != nil {
		panic("appbind: internal error: bad range " + string(tag))
	}
	value, err := ParseDuration(text)
	if err != nil {
		return err.Error() + ", from " + low + " to " + high
	}
	if value < least || value > most {
		return "must be from " + low + " to " + high
	}
	*target = value
	return ""
}

// setPrefix reads a network, or one address.
func setPrefix(target *netip.Prefix, text string) string {
	prefix, err := netip.ParsePrefix(text)
	if a, addrErr := netip.ParseAddr(text); addrErr == nil && a.Zone() == "" {
		prefix, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	switch {
	case err != nil:
		return "must be a network such as 192.0.2.0/24 or 2001:db8::/32"
	case prefix.Addr().Is4In6():
		return "must be written as an IPv4 network, without ::ffff:"
	case prefix != prefix.Masked():
		return "has bits after the prefix length; the network is " + prefix.Masked().String()
	}
	*target = prefix
	return ""
}

// wholeNumber is a number as people write it: YAML's 0x10, 010 and 1_000 are not.
var wholeNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

// setInt reads a number within the tag's range.
func setInt(target *int, n *yaml.Node, tag reflect.StructTag) string {
	if n.Tag != "!!int" || checkRange(tag, n.Value) != "" {
		return "must be " + rangeText(tag)
	}
	*target, _ = strconv.Atoi(n.Value)
	return ""
}

// rangeText describes the tag's range.
func rangeText(tag reflect.StructTag) string {
	low, high, _ := strings.Cut(tag.Get("range"), "..")
	return "a number from " + low + " to " + high
}

// checkRange checks a whole number against the tag's range.
func checkRange(tag reflect.StructTag, text string) string {
	low, high, _ := strings.Cut(tag.Get("range"), "..")
	least, err1 := strconv.Atoi(low)
	most, err2 := strconv.Atoi(high)
	if err1 != nil || err2 != nil {
		panic("appbind: internal error: bad range " + string(tag))
	}
	value, err := strconv.Atoi(text)
	if err != nil || !wholeNumber.MatchString(text) || value < least || value > most {
		return "must be " + rangeText(tag)
	}
	return ""
}

// setText reads a text and checks it by the tags. A text may be emptied where
// its default is empty.
func (d *decoder) setText(path, text string, target *string, tag reflect.StructTag) string {
	if text == "" {
		if *target != "" {
			return "must not be empty"
		}
		return ""
	}
	if strings.ContainsFunc(text, unicode.IsControl) {
		return "must not hold control characters or line ends"
	}
	if reason := checkTags(tag, text); reason != "" {
		return reason
	}
	if slices.Contains(strings.Split(tag.Get("oneof"), ","), text) { // a word, not a name
		*target = text
		return ""
	}
	switch kind := tag.Get("is"); kind {
	case "path", "file", "secretfile", "passwordfile":
		if !filepath.IsAbs(text) {
			text = filepath.Join(d.dir, text)
		}
		if kind == "path" { // need not exist
			break
		}
		d.named = append(d.named, namedFile{key: path, name: text, kind: kind})
	}
	*target = text
	return ""
}

// checkTags holds a text against oneof, range and is. One of those that the tag has must fit.
func checkTags(tag reflect.StructTag, text string) string {
	var words []string
	if list := tag.Get("oneof"); list != "" {
		words = strings.Split(list, ",")
	}
	if slices.Contains(words, text) {
		return ""
	}
	reason := ""
	switch {
	case tag.Get("range") != "":
		reason = checkRange(tag, text)
	case tag.Get("is") != "":
		reason = checkText(tag.Get("is"), text)
	case len(words) > 0:
		last := len(words) - 1
		reason = "must be " + words[last]
		if last > 0 {
			reason = "must be " + strings.Join(words[:last], ", ") + " or " + words[last]
		}
		if meant := nearest(text, words); meant != "" && last > 0 {
			reason += "; did you mean " + meant + "?"
		}
		return reason
	}
	if reason != "" && len(words) > 0 {
		return "must be " + strings.Join(words, ", ") + ", or " + strings.TrimPrefix(reason, "must be ")
	}
	return reason
}

var (
	attributeName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*$`)
	attributeOID  = regexp.MustCompile(`^[0-2](\.(0|[1-9][0-9]*))+$`)
	serviceName   = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)
	languageName  = regexp.MustCompile(`^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$`)
	modeBits      = regexp.MustCompile(`^0?[0-7]{3}$`)
)

// checkText checks a text by its kind, the tag "is". The reason begins with "must be" or stands for itself.
func checkText(kind, text string) string {
	switch kind {
	case "", "path", "file", "secretfile", "passwordfile":
	case "dn":
		if dn, err := wire.ParseDN(text); err != nil || len(dn) == 0 {
			return "must be a DN such as ou=people,dc=example,dc=org"
		}
	case "filter":
		return checkFilter(text)
	case "attribute":
		if !attributeName.MatchString(text) {
			return "must be the name of one attribute, such as mail; no OID, no option, no *"
		}
	case "service":
		if !serviceName.MatchString(text) {
			return "must be a service in lower case, such as imap or smtp"
		}
	case "host":
		if _, err := netip.ParseAddr(text); err != nil && !isHost(text) {
			return "must be a host name, such as ldap.example.org"
		}
	case "hostport":
		return checkHostPort(text)
	case "postgres":
		return checkPostgres(text)
	case "address":
		return checkAddress(text)
	case "weburl":
		return checkWebURL(text)
	case "language":
		if !languageName.MatchString(text) {
			return "must be a language such as en or de"
		}
	case "webhook":
		return checkWebhook(text)
	case "origin":
		return checkOrigin(text)
	case "issuer":
		return checkIssuer(text)
	case "claim":
		if !claimName.MatchString(text) {
			return "must be the name of a claim, such as email"
		}
	case "scope":
		if !scopeName.MatchString(text) {
			return "must be one word, without spaces and quotes"
		}
	case "mode":
		if !modeBits.MatchString(text) {
			return `must be permission bits in octal, such as "0660"`
		}
	default:
		panic("appbind: internal error: no check for " + kind)
	}
	return ""
}

// checkFilter checks a filter of RFC 4515. The library takes any text as an
// attribute; a server would take a filter with an impossible one as false.
func checkFilter(text string) string {
	const must = "must be a filter such as (objectClass=inetOrgPerson)"
	if !strings.HasPrefix(text, "(") || !strings.HasSuffix(text, ")") {
		return must + ", in parentheses"
	}
	packet, err := ldap.CompileFilter(text)
	if err != nil {
		if open, closed := strings.Count(text, "("), strings.Count(text, ")"); open != closed {
			return must + "; this one has " + strconv.Itoa(open) + " ( and " + strconv.Itoa(closed) + " )"
		}
		return must
	}
	sound := true
	err = wire.EachFilterItem(packet.Bytes(), func(item wire.FilterItem) bool {
		name, _, _ := strings.Cut(string(item.Attribute), ";")
		sound = item.Attribute == nil || attributeName.MatchString(name) || attributeOID.MatchString(name)
		return sound
	})
	if err != nil || !sound {
		return must
	}
	return ""
}

// checkHostPort checks an address to listen on. An empty host would be every address of the machine.
func checkHostPort(text string) string {
	host, port, err := net.SplitHostPort(text)
	if err != nil || host == "" {
		return "must be HOST:PORT such as 127.0.0.1:9390"
	}
	if _, err := netip.ParseAddr(host); err != nil && !isHost(host) {
		return "must be HOST:PORT such as 127.0.0.1:9390"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return "must end with a port, a number from 0 to 65535"
	}
	return ""
}
