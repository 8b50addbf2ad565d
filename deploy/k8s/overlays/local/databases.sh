#!/usr/bin/env bash
# Runs once, when the server's data directory is made: a database and a role for each of the two services that store.
set -euo pipefail
for name in call_tracker number_sync; do
  psql --set ON_ERROR_STOP=1 --username postgres --dbname postgres --set name="$name" --set password="$SERVICES_PASSWORD" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
SQL
done
