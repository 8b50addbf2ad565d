#!/bin/sh
# Writes `.env` from `.env.example` with fresh secrets, readable by you alone, and shows the API key once. Needs openssl.
set -eu
cd "$(dirname "$0")/../.."
target=${1:-.env}
if [ -e "$target" ]; then
  echo "$target exists and is left as it is: its secrets belong to the data in the volumes." >&2
  exit 1
fi
key() { openssl rand -base64 32; }
word() { openssl rand -hex 24; }
api_key=ohk_$(openssl rand -base64 32 | tr '+/' '-_' | tr -d '=')
digest=$(printf %s "$api_key" | openssl dgst -sha256 -r | cut -d' ' -f1)
umask 077
sed -e "s|^OFFHOOK_KEYRING=$|OFFHOOK_KEYRING=first:$(key)|" \
    -e "s|^OFFHOOK_TOKEN_KEY=$|OFFHOOK_TOKEN_KEY=$(key)|" \
    -e "s|^OFFHOOK_SESSION_KEY=$|OFFHOOK_SESSION_KEY=$(key)|" \
    -e "s|^OFFHOOK_API_KEYS=$|OFFHOOK_API_KEYS=admin:$digest|" \
    -e "s|^POSTGRES_PASSWORD=$|POSTGRES_PASSWORD=$(word)|" \
    -e "s|^OFFHOOK_CALL_TRACKER_DB_PASSWORD=$|OFFHOOK_CALL_TRACKER_DB_PASSWORD=$(word)|" \
    -e "s|^OFFHOOK_NUMBER_SYNC_DB_PASSWORD=$|OFFHOOK_NUMBER_SYNC_DB_PASSWORD=$(word)|" \
    .env.example > "$target"
echo "$target is made. The API key of the user admin, which is kept nowhere else:"
echo "$api_key"
