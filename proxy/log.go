package proxy

import (
	"context"
	"log/slog"
	"strconv"
	"time"
	"unicode/utf8"

	"appbind/auth"
)

// maxLoggedName bounds the user in a log line: a bind name may have as many bytes as a message.
const maxLoggedName = 512

// Outcomes of a bind for the log.
const (
	outcomeAccepted = "accepted"
	outcomeDenied   = "denied" // judged, or not allowed
	outcomeFailed   = "failed" // could not be judged
)

// serviceBindError says that the directory does not take appbind's own password.
type serviceBindError struct{ code int32 }

func (e *serviceBindError) Error() string {
	return "bind as upstream.bind_dn refused with result " + strconv.Itoa(int(e.code))
}

func outcomeOf(k auth.Kind) (string, slog.Level) {
	switch k {
	case auth.Accepted, auth.Anonymous:
		return outcomeAccepted, slog.LevelInfo
	case auth.Busy, auth.Unavailable:
		return outcomeFailed, slog.LevelWarn
	}
	return outcomeDenied, slog.LevelInfo
}

// bindEnd is how a bind ended, for the log and the counters.
func bindEnd(d *auth.Decision, unsupported bool) (outcome, reason string, level slog.Level) {
	outcome, level = outcomeOf(d.Kind)
	if unsupported {
		return outcomeDenied, reasonControl, level
	}
	return outcome, d.Reason, level
}

// logBind writes the one line of a bind. The order of the attributes is part of
// the interface: filters such as fail2ban's match the text. slog quotes values
// with control characters and escapes those, so that one bind is one line.
func (c *conn) logBind(b *auth.Bind, d *auth.Decision, up *upstreamBinder, unsupported bool, now time.Time, took time.Duration) {
	outcome, reason, level := bindEnd(d, unsupported)
	ctx := context.Background()
	if !c.srv.log.Enabled(ctx, level) {
		return
	}
	var room [14]slog.Attr
	attrs := append(room[:0], slog.String("outcome", outcome), slog.Int("row", d.Row), slog.String("reason", reason))
	// Only where it is known to be the user's: whoever bans by it must not ban the mail server.
	if b.Client.Addr.IsValid() {
		attrs = append(attrs, slog.String("client", b.Client.Addr.String()))
	}
	attrs = append(attrs, slog.String("service", b.Client.Service), slog.String("user", loggedUser(b, d)))
	app := d.App
	if app == nil {
		app = d.Denied
	}
	if app != nil {
		attrs = append(attrs, slog.String("label", app.Label), slog.String("id", app.ID))
	}
	attrs = append(attrs,
		slog.String("peer", c.peerName()),
		slog.String("listener", c.policy().name),
		slog.String("session", b.Client.Session),
		slog.String("upstream", up.server),
		slog.Duration("duration", took))
	if d.Err != nil {
		attrs = append(attrs, slog.String("err", d.Err.Error()))
	}
	// Without the caller's place in the source, which costs more than it tells: it is always here.
	r := slog.NewRecord(now, level, "bind", 0)
	r.AddAttrs(attrs...)
	_ = c.srv.log.Handler().Handle(ctx, r) // nobody could be told, as in slog.Logger
}

// loggedUser is who the bind was for: the entry, where one was found, else the name as it came.
func loggedUser(b *auth.Bind, d *auth.Decision) string {
	name := b.Name
	switch {
	case d.DN != "":
		name = d.DN
	case d.Entry != nil:
		name = d.Entry.DN
	}
	if len(name) <= maxLoggedName {
		return name
	}
	cut := maxLoggedName
	for cut > 0 && !utf8.RuneStart(name[cut]) {
		cut--
	}
	return name[:cut] + "..."
}
