#!/usr/bin/env bash
# Makes the virtual environment: a Python, the locked packages (checked by hash), and our own packages in place.
# Does nothing when it is already up to date. Say what is wrong in one sentence, never in a traceback.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv
stamp=$venv/.ready

wanted=$(cat requirements/*.lock libs/*/pyproject.toml services/*/pyproject.toml dev/pyproject.toml dev/setup.sh | sha256sum | cut -d' ' -f1)
[ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ] && exit 0

fail() { printf 'setup: %s\n' "$1" >&2; exit 1; }
step() { printf '\033[2m  setup: %s\033[0m\n' "$1" >&2; }

find_python() {
  local name
  for name in ${PYTHON:-} python3.13 python3.12 python3.11 python3; do
    if command -v "$name" >/dev/null 2>&1 && "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
      printf '%s' "$name"; return 0
    fi
  done
  return 1
}

install_python() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
  step "installing Python (apt-get)"
  apt-get update -qq >/dev/null 2>&1 && apt-get install -y -qq python3 python3-venv >/dev/null 2>&1
}

python=$(find_python) || { install_python && python=$(find_python); } ||
  fail "Python 3.11, 3.12 or 3.13 is needed and was not found. Install one, or name it: make PYTHON=/path/to/python3.12 …"

if ! [ -x "$venv/bin/python" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then
  step "creating $venv with $("$python" --version 2>&1)"
  rm -rf "$venv"
  "$python" -m venv "$venv" >/dev/null 2>&1 || { install_python && "$python" -m venv "$venv" >/dev/null; } ||
    fail "$python cannot create a virtual environment. On Debian and Ubuntu: apt-get install python3-venv"
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
run() { # what it is, command…
  local what=$1; shift
  step "$what"
  "$@" >"$log" 2>&1 && return 0
  if grep -qiE 'resolve|connection|network|unreachable|timed out' "$log"; then
    fail "the package index could not be reached. The first run downloads packages: check the network, then run it again."
  fi
  sed 's/^/    /' "$log" | tail -n 15 >&2
  fail "$what failed (the last lines are above)"
}

run "installing the installer" "$venv/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r requirements/bootstrap.lock
export UV_PYTHON=$venv/bin/python UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180} UV_LINK_MODE=copy
# Native TLS: the machine's own certificates, so that a company's proxy works.
export UV_NATIVE_TLS=${UV_NATIVE_TLS:-1}
run "installing $(grep -cE '^[a-z]' requirements/dev.lock) locked packages" "$venv/bin/uv" pip sync -q --compile-bytecode --require-hashes requirements/bootstrap.lock requirements/dev.lock
own=(); for file in libs/*/pyproject.toml services/*/pyproject.toml dev/pyproject.toml; do own+=(-e "$(dirname "$file")"); done
run "installing our own packages" "$venv/bin/uv" pip install -q --no-deps --no-build-isolation "${own[@]}"
run "compiling" "$venv/bin/python" -m compileall -q -j 0 libs services dev/src
# Once now, instead of in every process at its first start.
run "compiling the audio kernels" "$venv/bin/python" -c 'from offhook.audio import warm_up; warm_up()'
printf '%s' "$wanted" >"$stamp"
step "done"
