package portal

import (
	"context"
	"time"

	"appbind/config"
	"appbind/manage"
)

// IssueEnrolCode makes a one-time code with which a user can enrol a second factor after signing in, and is
// until when. It takes the place of an earlier one. It is shown to nobody again.
func IssueEnrolCode(ctx context.Context, s *Store, cfg *config.Portal, u *manage.User, now time.Time) (shown string, until time.Time, err error) {
	shown, bare := NewCode()
	until = now.Add(time.Duration(cfg.EnrolCode))
	return shown, until, s.addCodes(ctx, u.Key, codeEnrol, []string{bare}, until)
}

// Note stores an event of the audit; for the command line.
func (s *Store) Note(ctx context.Context, e Event) error { return s.note(ctx, e) }
