# make run    the demo: appbind on its embedded directory, with commands to paste
# make test   everything: checks, unit and wire tests with the race detector, real servers, fuzzing
# make build  the binary, bin/appbind
# make screenshots  pictures of the self-service pages, in SHOTS
# make soak   a million binds with faults, each answer judged, and a million malformed hashes; some ten minutes
# make bench  measures appbind beside slapd, back-ldap and HAProxy; the figures go to doc/performance.md

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  = -s -w -X main.version=$(VERSION)

# How long each fuzz target runs.
FUZZTIME ?= 10s
# What the benchmark is told; '-quick -only search' prints a short look at some works.
BENCH_FLAGS ?= -o doc/performance.md
# What the soak is told; '-binds 50000 -users 2000' is a short one.
SOAK_FLAGS ?=

# Where pictures go.
SHOTS ?= $(CURDIR)/bin/screenshots

.PHONY: screenshots build run test tools check unit fuzz bench soak measure install clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/appbind ./cmd/appbind

run: build
	./bin/appbind demo

test: tools check unit fuzz

# What the tests need and the machine lacks, from apt and npm.
tools:
	sh test/tools.sh

check:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	 if [ -n "$$unformatted" ]; then echo "not formatted by gofmt:" $$unformatted; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) run ./test/measure

# The race detector changes how sockets are read and what is allocated: that is tested without it.
unit:
	$(GO) test -race -timeout 15m ./...
	$(GO) test ./wire ./backend ./proxy
	$(GO) test -run 'Alloc' ./auth ./secrets

# Every fuzz target in turn: "package target" lines come from the test binaries themselves.
fuzz:
	sh test/fuzz.sh $(FUZZTIME)

bench:
	sh test/tools.sh bench
	$(GO) run ./test/bench $(BENCH_FLAGS)

screenshots:
	sh test/tools.sh
	mkdir -p $(SHOTS)
	APPBIND_SCREENSHOTS=$(SHOTS) $(GO) test -count=1 -run 'TestPortal' ./test/integration

soak:
	sh test/tools.sh
	$(GO) run ./test/soak $(SOAK_FLAGS)
	$(GO) run ./test/soak -hashes 1000000

install: build
	install -D -m 755 bin/appbind $(DESTDIR)/usr/sbin/appbind
	install -D -m 644 contrib/systemd/appbind.service $(DESTDIR)/usr/lib/systemd/system/appbind.service
	install -D -m 644 config.example.yaml $(DESTDIR)/usr/share/doc/appbind/config.example.yaml
	install -D -m 644 -t $(DESTDIR)/usr/share/doc/appbind README.md doc/*.md
	install -D -m 644 -t $(DESTDIR)/usr/share/doc/appbind/texts mail/texts/*
	install -D -m 644 -t $(DESTDIR)/usr/share/man/man8 doc/man/appbind.8
	install -D -m 644 -t $(DESTDIR)/usr/share/man/man5 doc/man/appbind.yaml.5

clean:
	rm -rf bin
