package directories

import (
	"os"
	"testing"
	"time"
)

// TestStart starts both, stops them, and starts them on the same data.
func TestStart(t *testing.T) {
	for name, start := range map[string]func(string) (*Server, error){"389": Start389, "samba": StartSamba} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp("/tmp", "ab")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			began := time.Now()
			s, err := start(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Stop()
			t.Logf("started in %v", time.Since(began))
			s.Stop()
			if s.answers() {
				t.Error("it answers after Stop")
			}
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
			if err := s.tool("", "ldapsearch", "-b", Service, "-s", "base", "1.1"); err != nil {
				t.Error(err)
			}
		})
	}
}
