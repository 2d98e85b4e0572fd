package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"appbind/history"
	"appbind/test/loopback"
)

// TestMain makes the test binary serve as appbind in the scripts.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"appbind": func() {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			code := run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
			if code != 0 {
				os.Exit(code)
			}
		},
	})
}

// TestScripts runs the command from outside: arguments, files, output, exit status.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			var first, second string
			if err := loopback.Free(&first, &second); err != nil {
				return err
			}
			e.Setenv("PORT", portOf(first))
			e.Setenv("PORT2", portOf(second))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await":  await,
			"busy":   busy,
			"code":   exitCode,
			"record": recordBinds,
		},
	})
}

// portOf is the port of an address of loopback.
func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// await PORT waits until something listens on the port.
func await(ts *testscript.TestScript, neg bool, args []string) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		c, err := net.Dial("tcp", "127.0.0.1:"+args[0])
		if err == nil {
			c.Close()
			return
		}
		<-tick.C
	}
	ts.Fatalf("nothing listens on port %s", args[0])
}

// busy PORT occupies the port until the script ends.
func busy(ts *testscript.TestScript, neg bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:"+args[0])
	ts.Check(err)
	ts.Defer(func() { l.Close() })
}

// exitCode N COMMAND ... runs the command and demands its exit status.
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(fmt.Sprint(err), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit status %s, want %s", got, args[0])
	}
}

// recordBinds is the command record CONFIG FILE: it writes binds into the history, each line "user kind id label ago service address [reason]", with - for
// what is not there and _ for spaces. A user who is not in the directory is one who was.
func recordBinds(ts *testscript.TestScript, neg bool, args []string) {
	ctx := context.Background()
	d := &desk{file: ts.MkAbs(args[0])}
	ts.Check(d.open(ctx))
	defer d.close()
	r := history.New(d.cfg, &history.Counts{}, slog.New(slog.DiscardHandler), nil)
	defer r.Close(ctx)
	now := time.Now()
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		f := strings.Fields(line)
		for i := range f {
			f[i] = strings.ReplaceAll(strings.TrimPrefix(f[i], "-"), "_", " ")
		}
		at, err := parsePast(f[4], now)
		ts.Check(err)
		e := history.Event{Time: at, Entry: "gone:" + f[0], DN: f[0], Kind: f[1], ID: f[2], Label: f[3], Service: f[5], Peer: netip.MustParseAddr("127.0.0.1"), Listener: "ldap://test"}
		if f[6] != "" {
			e.Addr = netip.MustParseAddr(f[6])
		}
		if len(f) > 7 {
			e.Denied = f[7]
		}
		if u, err := d.m.Find(ctx, f[0]); err == nil {
			e.Entry, e.DN = u.Key, u.DN
		}
		r.Record(e)
	}
}
