package main

import "appbind/config"

// switchedOff are the parts that a configuration switches off, each with the key that does.
func switchedOff(cfg *config.Config) (list []string) {
	if !cfg.AppPasswords.Enabled {
		return []string{"app passwords, the self-service pages and jobs (app_passwords.enabled)"}
	}
	if !cfg.AppPasswords.Accept {
		list = append(list, "app passwords at binds (app_passwords.accept)")
	}
	if !cfg.Portal.Enabled && cfg.Portal.Listen != "" {
		list = append(list, "the self-service pages (portal.enabled)")
	}
	if !cfg.Jobs.Enabled {
		list = append(list, "jobs (jobs.enabled)")
	}
	return list
}

// warnOff logs what is switched off: it is easily forgotten.
func (h *house) warnOff(cfg *config.Config) {
	for _, what := range switchedOff(cfg) {
		h.log.Warn("switched off", "what", what)
	}
}
