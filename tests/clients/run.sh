#!/usr/bin/env bash
# Lints the running API's description, generates clients from it, in Python and TypeScript, compiles them, and lets each do the
# tour.
#
#   tests/clients/run.sh [URL]      default http://localhost:8080; API_KEY: a key, where one is needed
#
# Needs Python 3.11, Node 20 with npm, and the packages of requirements.txt and package.json, which it installs into a temporary
# folder (CLIENTS_DIR to keep it).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export API_URL=${1:-${API_URL:-http://localhost:8080}}
dir=${CLIENTS_DIR:-$(mktemp -d "${TMPDIR:-/tmp}/petiole-clients.XXXXXX")}
[ -n "${CLIENTS_DIR:-}" ] || trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir"
cp "$here"/{package.json,tsconfig.json,tour.ts,tour.py} "$dir"
cd "$dir"
python3 - "$API_URL/openapi.json" >openapi.json <<'P'
import sys, urllib.request
sys.stdout.write(urllib.request.urlopen(sys.argv[1]).read().decode())
P

[ -x venv/bin/mypy ] || { python3 -m venv venv && venv/bin/pip install --quiet -r "$here/requirements.txt"; }
cat >generator.yaml <<'Y'
content_type_overrides: {"application/openmetrics-text; version=1.0.0; charset=utf-8": text/plain}
post_hooks: []
Y
venv/bin/openapi-python-client generate --path openapi.json --output-path python --overwrite --config generator.yaml --fail-on-warning
# the generator forgets an import where a body may be of two types and no parameter may be left out
grep -rlE '\| Unset\b' python --include='*.py' | xargs sed -i -E 's/^(from \.\.\.types import Response, UNSET)$/\1, Unset/'
venv/bin/python -m compileall -q python
MYPYPATH=python venv/bin/mypy --strict --follow-imports=silent tour.py
PYTHONPATH=python venv/bin/python tour.py

npm install --no-audit --no-fund --silent
# health and readiness take nothing that could be wrong
REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true npx redocly lint --skip-rule operation-4xx-response openapi.json
# a field that has a default need not be sent
npx openapi-typescript openapi.json --default-non-nullable=false --output schema.d.ts
npx tsc --project .
node out/tour.js
