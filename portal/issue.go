package portal

import (
	"context"
	"time"

	"appbind/config"
	"appbind/events"
	"appbind/manage"
)

// IssueEnrolCode makes a one-time code with which a user can enrol a second factor after signing in, and is
// until when. It takes the place of an earlier one. It is shown to nobody again.
func IssueEnrolCode(ctx context.Context, s *Store, cfg *config.Portal, u *manage.User, now time.Time) (shown string, until time.Time, err error) {
	shown, bare := NewCode()
	until = now.Add(time.Duration(cfg.EnrolCode))
	return shown, until, s.addCodes(ctx, u.Key, codeEnrol, []string{bare}, until)
}

// Issued notes, for the command line, that such a code was issued to a user: in the store, for the pages, and in the audit log.
func Issued(ctx context.Context, s *Store, journal manage.Journal, u *manage.User, by events.Actor, now time.Time) error {
	e := Event{Time: now, Entry: u.Key, DN: u.DN, Actor: by.Name + ", " + by.Via, Action: didIssue}
	journal.Emit(events.Event{Time: now, Kind: told[didIssue], Entry: u.Key, DN: u.DN}.By(by))
	return s.note(ctx, e)
}
