#!/usr/bin/env bash
# Installs what the end-to-end tests need: the real claude, a mock of the model API, a Telegram Bot API server, the
# inspector of MCP, and Node.js for the last three.
#
#   tests/e2e/setup.sh && cargo test --test e2e -- --ignored
#
# Everything comes from npm, in pinned versions, into a cache folder (OCTO_E2E_CACHE, else octo-e2e in the
# user's cache). Prints the paths for sourcing and leaves them in its file `env`, where the tests read them.
# Running it again installs nothing that is there already.
set -euo pipefail

CLAUDE=@anthropic-ai/claude-code@2.1.329
AIMOCK=@copilotkit/aimock@1.43.0
BOTAPI=telegram-test-api@4.2.1
INSPECTOR=@modelcontextprotocol/inspector@2.12.0
NODE_LEAST=2219 # 22.19, which the inspector wants
NODE_VERSION=22.23.3

cache=${OCTO_E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/octo-e2e}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

die() { printf 'error: %s\nhint: %s\n' "$1" "$2" >&2; exit 1; }

[ "$(uname -s)" = Linux ] || die "the end-to-end tests run on Linux only" "use a Linux machine or container"
case $(uname -m) in
  x86_64) arch=x64 ;;
  aarch64) arch=arm64 ;;
  *) die "there is no claude for $(uname -m)" "use an x86_64 or aarch64 machine" ;;
esac
command -v npm > /dev/null || die "npm is not installed" "install Node.js with npm (any version from 18 on)"

exec 9> "$cache/lock"
flock 9

# package NAME SPEC: installs SPEC into its own folder of that name; all of it or nothing.
package() {
  local dir=$cache/$1 new=$cache/$1.new
  [ -e "$dir/installed" ] && [ "$(cat "$dir/installed")" = "$2" ] && return
  echo "installing $2" >&2
  rm -rf "$dir" "$new"
  mkdir -p "$new"
  echo '{"private":true}' > "$new/package.json"
  # Install scripts are not needed: claude's is run from its platform package.
  (cd "$new" && npm install --no-audit --no-fund --ignore-scripts --save-exact "$2") > "$cache/$1.log" 2>&1 \
    || die "npm could not install $2" "see $cache/$1.log"
  echo "$2" > "$new/installed"
  mv "$new" "$dir"
}

package claude "$CLAUDE"
package aimock "$AIMOCK"
package inspector "$INSPECTOR"
package botapi "$BOTAPI"

node=$(command -v node || true)
version=$([ -z "$node" ] && echo 0 || "$node" -p 'process.versions.node.split(".").map(Number).reduce((major, minor, at) => at == 1 ? major * 100 + minor : major)')
if [ "$version" -lt "$NODE_LEAST" ]; then
  package node "node-linux-$arch@$NODE_VERSION"
  node=$cache/node/node_modules/node-linux-$arch/bin/node
fi

# Of the packages for glibc and musl, npm installed the one that fits, or both: the first that runs is it.
claude=
for candidate in "$cache"/claude/node_modules/@anthropic-ai/claude-code-linux-*/claude; do
  if "$candidate" --version > /dev/null 2>&1 < /dev/null; then claude=$candidate; break; fi
done
[ -n "$claude" ] || die "no installed claude runs here" "remove $cache/claude and run this again"

{
  printf 'export OCTO_E2E_CACHE=%q\n' "$cache"
  printf 'export OCTO_E2E_CLAUDE=%q\n' "$claude"
  printf 'export OCTO_E2E_NODE=%q\n' "$node"
  printf 'export OCTO_E2E_INSPECTOR=%q\n' "$cache/inspector/node_modules/.bin/mcp-inspector"
  printf 'export OCTO_E2E_AIMOCK=%q\n' "$cache/aimock/node_modules/@copilotkit/aimock/dist/cli.js"
  printf 'export OCTO_E2E_BOTAPI=%q\n' "$cache/botapi/node_modules/telegram-test-api"
} > "$cache/env.new"
mv "$cache/env.new" "$cache/env"
cat "$cache/env"
