package config

import (
	"encoding/base64"
	"net/url"
	"strings"
)

// minWebhookKey is the least length of a webhook's key in bytes, by Standard Webhooks.
const minWebhookKey = 24

// webhook checks what the webhook's keys demand of each other. It comes after the files were read.
func (d *decoder) webhook(w *Webhook) {
	if d.wrong["webhook"] || d.wrong["webhook.url"] {
		return
	}
	if w.URL == "" {
		for _, k := range []struct {
			key   string
			given bool
		}{{"webhook.secret", w.Secret != ""}, {"webhook.secret_file", w.SecretFile != ""}} {
			if k.given {
				d.mistakef(k.key, "needs webhook.url")
			}
		}
		return
	}
	d.required("webhook.secret_file", w.Secret == "" && w.SecretFile == "", "a file with the key of the signatures, such as openssl rand -hex 32 makes")
	if w.Secret != "" && w.SecretFile != "" {
		d.mistakef("webhook.secret_file", "contradicts webhook.secret: give one of them")
	}
}

// webhookKey checks the key of the signatures, wherever it came from.
func (d *decoder) webhookKey(w *Webhook) {
	key := "webhook.secret"
	if w.SecretFile != "" {
		key = "webhook.secret_file"
	}
	if w.Secret == "" || d.wrong[key] {
		return
	}
	text := string(w.Secret)
	n := len(text)
	if encoded, is := strings.CutPrefix(text, "whsec_"); is {
		decoded, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			d.mistakef(key, "begins with whsec_, and what follows is not base64")
			return
		}
		n = len(decoded)
	}
	if n < minWebhookKey {
		d.mistakef(key, "must be a key of at least %d bytes; openssl rand -hex 32 makes one", minWebhookKey)
	}
}

// checkWebhook checks the URL of a webhook: what goes there says who logs in from where.
func checkWebhook(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Opaque != "" || u.Fragment != "":
		return "must be https://HOST/PATH"
	case u.User != nil:
		return "must not hold a user or password, which would stand in logs; requests are signed"
	case u.Scheme == "http" && !(URL{Host: u.Hostname()}).Loopback():
		return "must be https: http only to this machine (127.0.0.1, ::1, localhost)"
	}
	return ""
}
