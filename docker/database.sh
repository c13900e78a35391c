#!/usr/bin/env bash
# The application's role, which is no superuser, its database, and the extension that only a superuser may add. Runs in the
# database's container when it makes its cluster, and at each docker/start.sh, so that a new password takes effect.
set -euo pipefail

case ${1:-} in -h | --help) echo "usage: docker/database.sh    (inside the container of PostgreSQL)"; exit 0 ;; esac

if [ -n "${APPLICATION_PASSWORD_FILE:-}" ]; then APPLICATION_PASSWORD=$(cat "$APPLICATION_PASSWORD_FILE"); fi
export APPLICATION_PASSWORD

psql -X -q -v ON_ERROR_STOP=1 -U petiole_admin -d postgres <<'SQL'
\getenv user APPLICATION_USER
\getenv password APPLICATION_PASSWORD
\getenv database APPLICATION_DB
SELECT format('CREATE ROLE %I', :'user') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'user') \gexec
ALTER ROLE :"user" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'password';
SELECT format('CREATE DATABASE %I OWNER %I', :'database', :'user')
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
-- Others have no business there.
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
\connect :"database"
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS vector;
SQL
