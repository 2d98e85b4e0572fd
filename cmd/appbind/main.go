// Command appbind is an LDAP proxy that gives any LDAP directory app passwords.
//
// Mail servers bind against appbind. It tries the user's app passwords first,
// values of one attribute of the user's entry in the directory, and passes the
// bind through to the directory when none fits. All other operations pass.
//
// Exit status: 0 success; 1 failure; 2 a mistake in the configuration or on the
// command line; of passwords, history and report also 3 to 6, see exitStatus.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"appbind/config"
)

// The exit statuses.
const (
	exitFailure = 1
	exitMistake = 2
)

// streams are the standard streams, named so that tests can bring their own.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// run is the whole command: it parses args, does what they say until ctx ends, and returns the exit status.
func run(ctx context.Context, args []string, s streams) int {
	root := rootCommand(s)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if mistakes, ok := errors.AsType[config.Mistakes](err); ok {
		fmt.Fprintln(s.err, mistakes.Error())
		return exitMistake
	}
	if !errors.Is(err, errReported) {
		fmt.Fprintln(s.err, "appbind:", err)
	}
	return exitStatus(err)
}

// errReported ends the command after it has said itself what is wrong.
var errReported = errors.New("reported")

// usageError is a mistake on the command line.
type usageError struct{ error }

// rootCommand is the command tree.
func rootCommand(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "appbind",
		Short: "App passwords for any LDAP directory",
		Long: `appbind is an LDAP proxy for mail servers. It checks a user's app passwords,
kept in the user's own directory entry, and passes every other bind and all
other operations through to the directory.`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &usageError{fmt.Errorf("%w (see '%s --help')", err, c.CommandPath())}
	})
	root.AddCommand(serveCommand(s), demoCommand(s), checkCommand(s), explainCommand(s), hashCommand(s), passwordsCommand(s), historyCommand(s), reportCommand(s), auditCommand(s), portalCommand(s),
		purgeJobsCommand(s), notifyCommand(s), versionCommand(s))
	for _, c := range root.Commands() {
		if !c.HasSubCommands() {
			c.Args = usageArgs(c.Args)
		}
	}
	root.Args = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return &usageError{fmt.Errorf("unknown command %q (see 'appbind --help')", args[0])}
		}
		return nil
	}
	root.RunE = func(c *cobra.Command, args []string) error { return c.Help() }
	return root
}

// usageArgs makes what an argument check finds a mistake on the command line; nil takes no arguments.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	if check == nil {
		check = cobra.NoArgs
	}
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return &usageError{fmt.Errorf("%w (see '%s --help')", err, c.CommandPath())}
		}
		return nil
	}
}

// configFlag adds -c, which every command that reads the configuration demands.
func configFlag(c *cobra.Command, file *string) {
	c.Flags().StringVarP(file, "config", "c", "", "configuration `FILE` (required)")
	c.PreRunE = func(c *cobra.Command, _ []string) error {
		if *file == "" {
			return &usageError{fmt.Errorf("-c FILE is required (see '%s --help')", c.CommandPath())}
		}
		return nil
	}
}
