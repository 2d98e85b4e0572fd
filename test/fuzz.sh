#!/bin/sh
# fuzz.sh DURATION: runs every fuzz target of the repository for DURATION.
# New inputs that fail are written to the package's testdata and fail the run.
set -eu
go=${GO:-go}
for package in $($go list ./...); do
	for target in $($go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		echo "fuzz $package $target"
		$go test -run '^$' -fuzz "^$target\$" -fuzztime "$1" "$package"
	done
done
