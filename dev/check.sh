#!/usr/bin/env bash
# All the checks that need no server, each named, all of them run even when one fails.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
failed=()
check() { # name, command…
  local name=$1 started=$SECONDS; shift
  local out
  if out=$("$@" 2>&1); then printf '  \033[32mok\033[0m   %-18s %ss\n' "$name" $((SECONDS - started))
  else printf '  \033[31mFAIL\033[0m %-18s\n%s\n' "$name" "$out"; failed+=("$name"); fi
}
check "ruff"             $bin/ruff check -q .
check "format"           $bin/ruff format -q --check .
check "types"            $bin/mypy libs/common/src libs/agent/src libs/carrier-sim/src services/webhook-gateway/src \
                                   services/media-bridge/src services/call-tracker/src services/number-sync/src dev/src
check "import contracts" $bin/lint-imports --no-cache
check "names"            $bin/python -m offhook_dev names
check "generated docs"   $bin/python -m offhook_dev docs --check
if [ ${#failed[@]} -gt 0 ]; then printf '\ncheck: %s failed\n' "$(IFS=,; echo "${failed[*]}")" >&2; exit 1; fi
