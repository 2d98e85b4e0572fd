package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestNoSecretsInArguments: no option takes a password, which every user of the machine could read in the list of
// processes. Every command and option has a description.
func TestNoSecretsInArguments(t *testing.T) {
	t.Parallel()
	takes := map[string][]string{}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s has no description", c.CommandPath(), f.Name)
			}
			if f.Value.Type() != "bool" && !slices.Contains(takes[f.Name], c.CommandPath()) {
				takes[f.Name] = append(takes[f.Name], c.CommandPath())
			}
		})
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(rootCommand(streams{}))
	// What options take is public, all of it. Whoever adds one thinks of that here.
	public := strings.Fields("actor algorithm attribute class config dir dn entry event expires expiring grace id ip label language limit listen listener net only sample service since to unused until user")
	for name, where := range takes {
		if !slices.Contains(public, name) {
			t.Errorf("--%s of %q takes a value: is it no secret?", name, where)
		}
	}
	if len(takes) < 15 {
		t.Errorf("%d options", len(takes))
	}
}
