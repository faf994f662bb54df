#!/usr/bin/env bash
# Runs every check and every test, as CI does: format, lints, docs, tests, dependencies, and the
# end-to-end tests with the real claude against a mock of the model API.
#
#   bash tests/all.sh            everything
#   bash tests/all.sh quick      without the dependencies' check and the end-to-end tests
#
# On a new machine it installs what it needs (as root: strace and e2fsprogs by apt-get; cargo-deny by cargo;
# claude, its mock, a Telegram Bot API server and Node.js by npm).
set -euo pipefail
cd "$(dirname "$0")/.."
started=$SECONDS
step() { printf '\n== %s (%d s)\n' "$1" "$((SECONDS - started))"; }

DENY_VERSION=0.20.2
cache=${XDG_CACHE_HOME:-$HOME/.cache}/octo-tests

packages() {
  local missing=() program package
  while read -r program package; do
    command -v "$program" > /dev/null || missing+=("$package")
  done <<< 'strace strace
mkfs.ext4 e2fsprogs
setsid util-linux
ps procps
git git'
  [ ${#missing[@]} -eq 0 ] && return
  if [ "$(id -u)" -ne 0 ]; then
    printf 'error: missing: %s\nhint: install them with your package manager\n' "${missing[*]}" >&2
    exit 1
  fi
  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"
}

deny() {
  local program=$cache/bin/cargo-deny
  command -v cargo-deny > /dev/null && program=cargo-deny
  if ! "$program" --version 2> /dev/null | grep -q "$DENY_VERSION"; then
    # Unoptimized: it is built in a third of the time and runs for some seconds only.
    cargo install cargo-deny --version "$DENY_VERSION" --locked --debug --root "$cache"
    program=$cache/bin/cargo-deny
  fi
  cargo fetch --locked
  "$program" --offline --all-features check bans licenses sources
}

step 'packages'; packages
step 'format'; cargo fmt --check
step 'lints'; cargo clippy --locked --all-targets -- -D warnings
step 'documentation'; RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items
step 'tests'; cargo test --locked --no-fail-fast
if [ "${1:-}" != quick ]; then
  step 'dependencies'; deny
  step 'end to end'
  tests/e2e/setup.sh > /dev/null
  cargo test --locked --test e2e -- --ignored
fi
step 'all is well'
