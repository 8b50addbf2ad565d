#!/usr/bin/env bash
# Resolves all packages together and writes the lock files: exact versions with hashes, no address of any index.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=.venv/bin/uv
$uv lock -q "$@"
$uv export -q --all-packages --all-extras --all-groups --no-emit-workspace --no-header --no-annotate \
  --format requirements-txt -o requirements/dev.lock
# The same versions, and only what is needed there: to install the rest, and in the images.
for group in bootstrap services simulator; do
  $uv export -q --only-group $group --no-emit-workspace --no-header --no-annotate \
    --format requirements-txt -o requirements/$group.lock
done
rm -f uv.lock # it names the index; the exported files are the lock
$uv pip compile -q --generate-hashes --no-header --no-annotate --universal --python-version 3.11 dev/checkov/requirements.in -o dev/checkov/requirements.lock
if grep -nE 'https?://' requirements/*.lock dev/checkov/*.lock; then echo "lock: an address got into a lock file" >&2; exit 1; fi
