package portal

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// claims are those of a token. One of a type that it must not have counts as absent.
type claims map[string]any

func (c claims) text(name string) string {
	text, _ := c[name].(string)
	return text
}

// list is a list of texts; some providers send one text for a list of one.
func (c claims) list(name string) (list []string) {
	if one := c.text(name); one != "" {
		return []string{one}
	}
	several, _ := c[name].([]any)
	for _, item := range several {
		if text, is := item.(string); is {
			list = append(list, text)
		}
	}
	return list
}

// time is a moment in seconds since 1970.
func (c claims) time(name string) time.Time {
	seconds, is := c[name].(float64)
	if !is || seconds <= 0 || seconds > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0)
}

// who is the value of the claim that says who signed in. A mail address that the provider has not verified is what
// somebody has typed. Errors: errClaims.
func (c claims) who(name string) (string, error) {
	value := c.text(name)
	verified := c["email_verified"]
	switch {
	case value == "":
		return "", fmt.Errorf("%w: no %s", errClaims, name)
	case name == "email" && verified != true && verified != "true": // a text at some providers
		return "", fmt.Errorf("%w: email is not verified", errClaims)
	case !plain(value):
		return "", fmt.Errorf("%w: %s has characters that are none of a name's", errClaims, name)
	}
	return value, nil
}

// plain reports whether a text is what it looks like. Directories compare texts after they have dropped invisible characters,
// put others in the place of their look-alikes and made one space of many (RFC 4518): a name that needs this is not believed.
func plain(text string) bool {
	return len(text) <= maxClaim && utf8.ValidString(text) && norm.NFKC.IsNormalString(text) && text == strings.TrimSpace(text) &&
		!strings.Contains(text, "  ") && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsGraphic(r) || r != ' ' && unicode.IsSpace(r) })
}

// spelled reports whether one of an entry's values is a text, but for the case of letters.
func spelled(values []string, text string) bool {
	for _, v := range values {
		if strings.EqualFold(v, text) {
			return true
		}
	}
	return false
}
