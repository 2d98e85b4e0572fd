package integration

import (
	"strings"
	"testing"
)

// TestReloadMistakes: each mistake of a file that is refused on SIGHUP has a line of the log.
func TestReloadMistakes(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	config := baseConfig(s, "", "fallback:\n  mode: deny\n")
	a := startAppbind(t, config)
	bad := strings.Replace(config, "mode: deny", "mode: perhaps", 1)
	bad = strings.Replace(bad, "users:\n", "users:\n  basis: x\n", 1) + "limits:\n  connections: -1\n"
	before := len(a.output())
	a.hangup(bad, refused)
	expectBind(t, a.uri(), userDN("bob"), "bob-main", 49) // the old file holds, and all lines are there
	said := a.output()[before:]
	for _, key := range []string{"fallback.mode", "users.basis", "limits.connections"} {
		lines := 0
		for line := range strings.Lines(said) {
			if strings.Contains(line, key) && strings.Count(line, a.file+":") == 1 {
				lines++
			}
		}
		if lines != 1 {
			t.Errorf("%d lines tell of %s, want one of its own:\n%s", lines, key, said)
		}
	}
}
