# shellcheck shell=bash
# What the scripts of this folder share; needs ROOT (the checkout).
: "${ROOT:?}"
# shellcheck source=../docker/lib/settings.sh
. "$ROOT/docker/lib/settings.sh"
RUN=$(mktemp -d "${TMPDIR:-/tmp}/petiole-benches.XXXXXX")
trap 'rm -rf "$RUN"' EXIT
# shellcheck disable=SC2034 # for the files below
DATA=$RUN LOGS=$RUN
# shellcheck source=../docker/lib/process.sh
. "$ROOT/docker/lib/process.sh"
# shellcheck source=../docker/lib/python.sh
. "$ROOT/docker/lib/python.sh"
# shellcheck source=../docker/lib/redis.sh
. "$ROOT/docker/lib/redis.sh"

# prepare [REQUIREMENTS]: Redis in REDIS_SERVER, Python with Celery in PYTHON
prepare() {
  local requirements=${1:-$ROOT/benches/requirements.txt}
  if ! redis_prepare >"$RUN/redis" 2>&1; then cat "$RUN/redis" >&2; exit 1; fi
  need_python && make_venv "$requirements" || die "Python Celery cannot be had"
  PYTHON=$(venv_folder "$requirements")/bin/python
  export PYTHON REDIS_SERVER="${REDIS_COMMAND[*]}" PYTHONDONTWRITEBYTECODE=1
}

# read_arguments ARGUMENT…: sets `scenarios`, and QUICK; needs a function `usage`
read_arguments() {
  local argument
  scenarios=()
  for argument; do
    case $argument in
      --quick) export QUICK=1 ;;
      -h | --help) usage; exit 0 ;;
      -*) usage >&2; exit 2 ;;
      *) scenarios+=("$argument") ;;
    esac
  done
}
