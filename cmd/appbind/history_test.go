package main

import (
	"slices"
	"testing"

	"appbind/auth"
	"appbind/history"
)

// TestHistoryKnowsTheReasons: the history tells stale devices by the words of the decision.
func TestHistoryKnowsTheReasons(t *testing.T) {
	t.Parallel()
	if history.ReasonGone != auth.ReasonNoAppPassword {
		t.Errorf("%q is not %q", history.ReasonGone, auth.ReasonNoAppPassword)
	}
	for _, reason := range history.StaleReasons() {
		if !slices.Contains(auth.Reasons(), reason) {
			t.Errorf("no decision has the reason %q", reason)
		}
	}
}
