package jobs

import (
	"slices"
	"testing"
	"time"

	"appbind/config"
)

// TestNew: what of a configuration the jobs go by.
func TestNew(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(c *config.Config)
		on     []string
		link   string
	}{
		"no mail server":   {func(*config.Config) {}, []string{RemoveExpired, PurgeHistory}, ""},
		"all":              {func(c *config.Config) { c.Mail.Server, c.Mail.From = "127.0.0.1:25", "a@b" }, Names(), ""},
		"off":              {func(c *config.Config) { c.Jobs.Enabled = false }, nil, ""},
		"one off":          {func(c *config.Config) { c.Jobs.RemoveExpired = false }, []string{PurgeHistory}, ""},
		"the portal":       {func(c *config.Config) { c.Portal.URL = "https://p" }, []string{RemoveExpired, PurgeHistory}, "https://p"},
		"a page elsewhere": {func(c *config.Config) { c.Portal.URL, c.Mail.Link = "https://p", "https://l" }, []string{RemoveExpired, PurgeHistory}, "https://l"},
	} {
		cfg := config.Default()
		c.change(cfg)
		r, err := New(cfg, Options{Counts: &Counts{}, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		var on []string
		for _, job := range Names() {
			if r.on(job) {
				on = append(on, job)
			}
		}
		if !slices.Equal(on, c.on) || r.link != c.link || (r.mail == nil) != (cfg.Mail.Server == "") {
			t.Errorf("%s: %q, %q", name, on, r.link)
		}
	}
	cfg := config.Default()
	cfg.Mail.Language = "tlh"
	if _, err := New(cfg, Options{Counts: &Counts{}, Now: time.Now}); err == nil {
		t.Error("a language without texts")
	}
}
