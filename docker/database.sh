#!/usr/bin/env bash
# Runs once, when the database container makes its cluster: the application's role, which is no superuser, its database, and
# the extension that only a superuser may add.
set -euo pipefail

psql -X -q -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d postgres <<'SQL'
\getenv user APPLICATION_USER
\getenv password POSTGRES_PASSWORD
\getenv database APPLICATION_DB
CREATE ROLE :"user" LOGIN PASSWORD :'password';
CREATE DATABASE :"database" OWNER :"user";
\connect :"database"
CREATE EXTENSION IF NOT EXISTS vector;
SQL
