#!/usr/bin/env bash
# Resolves all packages together and writes the lock files: exact versions with hashes, no address of any index.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=.venv/bin/uv
$uv lock -q "$@"
$uv export -q --all-packages --all-extras --all-groups --no-emit-workspace --no-header --no-annotate \
  --format requirements-txt -o requirements/dev.lock
rm -f uv.lock # it names the index; the exported file is the lock
grep -E '^uv==' requirements/dev.lock | sed 's/ .*//' > /tmp/offhook-bootstrap.$$
$uv pip compile -q --generate-hashes --no-header --no-annotate --universal /tmp/offhook-bootstrap.$$ -o requirements/bootstrap.lock
rm -f /tmp/offhook-bootstrap.$$
if grep -nE 'https?://' requirements/*.lock; then echo "lock: an address got into a lock file" >&2; exit 1; fi
