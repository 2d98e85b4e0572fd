#!/bin/sh
# fuzz.sh DURATION: runs every fuzz target of the repository for DURATION.
# New inputs that fail are written to the package's testdata and fail the run.
set -eu
go=${GO:-go}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# spurious: the target failed of Go's own end of the time and of nothing else. Until Go 1.27 the clock that ends it can be taken for a
# failure (golang/go#75804).
spurious() {
	grep -q '^ *context deadline exceeded$' "$log" && ! grep -q -e 'Failing input' -e 'panic:' -e '_test.go:' "$log"
}

for package in $($go list ./...); do
	for target in $($go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		echo "fuzz $package $target"
		tries=1
		until $go test -run '^$' -fuzz "^$target\$" -fuzztime "$1" "$package" >"$log" 2>&1; do
			cat "$log"
			if [ "$tries" -ge 3 ] || ! spurious; then
				exit 1
			fi
			tries=$((tries + 1))
			echo "fuzz $package $target, again: nothing failed but Go's own clock"
		done
		cat "$log"
	done
done
