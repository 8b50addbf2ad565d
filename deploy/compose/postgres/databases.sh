#!/usr/bin/env bash
# Runs once, when the server's data directory is made: a database and a role for each of the two services that store.
set -euo pipefail
make() { # role and database, password
  psql --set ON_ERROR_STOP=1 --username postgres --dbname postgres --set role="$1" --set password="$2" <<'SQL'
CREATE ROLE :"role" LOGIN PASSWORD :'password';
CREATE DATABASE :"role" OWNER :"role";
REVOKE CONNECT ON DATABASE :"role" FROM PUBLIC;
SQL
}
make call_tracker "$OFFHOOK_CALL_TRACKER_DB_PASSWORD"
make number_sync "$OFFHOOK_NUMBER_SYNC_DB_PASSWORD"
