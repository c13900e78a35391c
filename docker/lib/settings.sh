# shellcheck shell=bash
# Where things are, and which setting holds: process environment, then docker/.env, then .env.<APP_ENV>.
# Sourced by the scripts of docker/; needs ROOT (the checkout, without symbolic links).
: "${ROOT:?}"

DATA=$ROOT/docker/.data
# shellcheck disable=SC2034 # used by the scripts that source this file
LOGS=$DATA/logs
# shellcheck disable=SC2034
RUN=$DATA/run
SECRETS=$ROOT/docker/.env

# Names of settings that the API and the worker read. A change of one of them is a reason to start them anew.
SETTINGS='^(TIMEZONE|RUST_LOG|RUST_BACKTRACE|(ACCEPT|AI|ALLOWED|API|APP|BEAT|BROKER|CACHE|CELERY|CHUNK|CONTROL|DATABASE|EMBEDDING|ENABLE|EVENT|GLOBAL|LANGUAGE|LOG|MODEL|OPENAI|OTEL|OUTBOX|POSTGRES|REDIS|REDBEAT|RESULT|SEARCH|SECURITY|TASK|VISIBILITY|WORKER)_[A-Z0-9_]+)='
# What a client of the stack may have in its environment, or what is for the scripts alone: the programs do not read it.
CLIENTS='^(API_URL|API_KEY|POSTGRES_ADMIN_PASSWORD|(API|WORKER|DATABASE|REDIS)_(CPUS|MEMORY|PIDS|REPLICAS|IMAGE|STOP_GRACE))='
# What must not be seen by others. Each may be given as a file: NAME_FILE holds its path.
SECRET_NAMES=(POSTGRES_PASSWORD POSTGRES_ADMIN_PASSWORD REDIS_PASSWORD API_KEYS FLOWER_BASIC_AUTH OPENAI_API_KEY GRAFANA_PASSWORD)
# The settings that are in the environment, each NAME=VALUE ended by a zero byte
settings_in_environment() { env -0 | { grep -zE "$SETTINGS" || true; } | { grep -zvE "$CLIENTS" || true; } | sort -z; }

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# The folder for what can be fetched or built again; shared by all checkouts.
if [ -n "${XDG_CACHE_HOME:-}" ]; then CACHE=$XDG_CACHE_HOME/petiole
elif [ -n "${HOME:-}" ] && [ "$HOME" != / ]; then CACHE=$HOME/.cache/petiole
else CACHE=/var/cache/petiole
fi

random_word() { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }

# choose_environment [NAME]: sets and exports APP_ENV
choose_environment() {
  APP_ENV=${1:-${APP_ENV:-development}}
  case $APP_ENV in
    development | staging | production) export APP_ENV ;;
    *) die "unknown environment '$APP_ENV'; it may be development, staging or production" ;;
  esac
}

# load_file FILE: exports each NAME=VALUE of FILE that the environment does not have yet
load_file() {
  local line name value
  [ -f "$1" ] || return 0
  while IFS= read -r line || [ -n "$line" ]; do
    line=${line%$'\r'}
    line=${line#"${line%%[![:space:]]*}"}
    line=${line#export }
    case $line in '' | '#'* ) continue ;; *=*) ;; *) continue ;; esac
    name=${line%%=*}
    name=${name%"${name##*[![:space:]]}"}
    value=${line#*=}
    [[ $name =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] || die "$1: '$name' is not the name of a setting"
    value=${value#"${value%%[![:space:]]*}"}
    case $value in
      '"'*'"'*) value=${value#\"}; value=${value%%\"*} ;;
      "'"*"'"*) value=${value#\'}; value=${value%%\'*} ;;
      '#'*) value= ;;
      *) value=${value%%[[:space:]]#*}; value=${value%"${value##*[![:space:]]}"} ;;
    esac
    [ -n "${!name+set}" ] || export "$name=$value"
  done <"$1"
}

# set_secret NAME VALUE: puts NAME=VALUE into docker/.env, in the place of an empty one
set_secret() {
  local new
  new=$(mktemp "$SECRETS.XXXXXX")
  NAME=$1 VALUE=$2 awk '
    $0 ~ "^#? ?" ENVIRON["NAME"] "=$" && !done { print ENVIRON["NAME"] "=" ENVIRON["VALUE"]; done = 1; next }
    { print }
    END { if (!done) print ENVIRON["NAME"] "=" ENVIRON["VALUE"] }' "$SECRETS" >"$new"
  chmod 600 "$new"
  mv -f "$new" "$SECRETS"
}

# chosen NAME: somebody set NAME or NAME_FILE, in the environment or in docker/.env, be it to nothing
chosen() {
  local file=${1}_FILE
  [ -n "${!1:-}" ] || [ -n "${!file:-}" ] || grep -qE "^[[:space:]]*(export )?$1(_FILE)?=" "$SECRETS"
}

# make_secrets: docker/.env with random passwords, when there is none; what nobody has chosen is made
make_secrets() {
  local name
  if [ ! -f "$SECRETS" ]; then
    (umask 077; cp "$ROOT/docker/.env.example" "$SECRETS")
    chmod 600 "$SECRETS"
    for name in POSTGRES_PASSWORD POSTGRES_ADMIN_PASSWORD REDIS_PASSWORD; do set_secret "$name" "$(random_word)"; done
    say "Made docker/.env with random passwords."
  fi
  # What an earlier version did not have, or what somebody took out
  for name in POSTGRES_PASSWORD POSTGRES_ADMIN_PASSWORD REDIS_PASSWORD; do chosen "$name" || set_secret "$name" "$(random_word)"; done
  if [[ ,${COMPOSE_PROFILES:-$(sed -n 's/^COMPOSE_PROFILES=//p' "$SECRETS")}, == *,monitoring,* ]] && ! chosen GRAFANA_PASSWORD; then
    set_secret GRAFANA_PASSWORD "$(random_word)"
    say "Added a random GRAFANA_PASSWORD to docker/.env."
  fi
  # Outside development nothing is open: what protects the API and Flower is made when nobody chose it.
  [ "$APP_ENV" != development ] || return 0
  if ! chosen API_KEYS; then
    set_secret API_KEYS "$(random_word)"
    say "Added a random API_KEYS to docker/.env."
  fi
  if ! chosen FLOWER_BASIC_AUTH; then
    set_secret FLOWER_BASIC_AUTH "flower:$(random_word)"
    say "Added a random FLOWER_BASIC_AUTH to docker/.env."
  fi
}

# quote_url TEXT: percent-encoded for a part of a URL
quote_url() {
  local LC_ALL=C text=$1 out='' i c
  for ((i = 0; i < ${#text}; i++)); do
    c=${text:i:1}
    case $c in [A-Za-z0-9._~-]) out+=$c ;; *) printf -v c '%%%02X' "'$c"; out+=$c ;; esac
  done
  printf '%s' "$out"
}

# load_settings: everything from the files, and what follows from it
load_settings() {
  load_file "$SECRETS"
  load_file "$ROOT/.env.$APP_ENV"
  local name
  export API_PORT=${API_PORT:-8080} FLOWER_PORT=${FLOWER_PORT:-5555}
  export POSTGRES_PORT=${POSTGRES_PORT:-5432} REDIS_PORT=${REDIS_PORT:-6379}
  for name in API_PORT FLOWER_PORT POSTGRES_PORT REDIS_PORT; do
    [[ ${!name} =~ ^[0-9]{1,5}$ ]] && [ "${!name}" -ge 1 ] && [ "${!name}" -le 65535 ] ||
      die "$name is '${!name}'; it may be a port from 1 to 65535 (environment, docker/.env or .env.$APP_ENV)"
  done
  export POSTGRES_USER=${POSTGRES_USER:-petiole}
  export POSTGRES_DB=${POSTGRES_DB:-petiole}
  load_secret_files
  if [ "$APP_ENV" != development ]; then
    check_secrets
    return
  fi
  for name in POSTGRES_PASSWORD REDIS_PASSWORD; do
    [ -n "${!name:-}" ] || die "$name is empty; set it in docker/.env (or delete docker/.env: the next start makes a new one)"
    export "${name?}"
  done
}

# load_secret_files: each NAME_FILE becomes NAME
load_secret_files() {
  local name file
  for name in "${SECRET_NAMES[@]}"; do
    file=${name}_FILE
    [ -n "${!file:-}" ] || continue
    [ -z "${!name:-}" ] || die "$name and $file are both set: only one of the two can count"
    [ -r "${!file}" ] && [ -f "${!file}" ] || die "$file is '${!file}', which is no file that can be read"
    export "$name=$(cat "${!file}")"
    [ -n "${!name}" ] || die "$file is '${!file}', which is empty"
    unset "$file"
  done
}

# weakness VALUE SHORTEST: why that is no secret; nothing when it is one
weakness() {
  local plain kinds
  plain=$(tr -cd '[:alnum:]' <<<"$1" | tr '[:upper:]' '[:lower:]')
  kinds=$(fold -w1 <<<"$1" | sort -u | wc -l)
  if [ -z "$1" ]; then echo "is empty"
  elif grep -qE 'changeme|changethis|changeit|replaceme|replacethis|placeholder|example|yourpassword|yoursecret|yourkey' <<<"$plain" ||
    grep -qxE '(password|passw0rd|secret|admin|root|postgres|redis|petiole|flower|guest|default)[0-9]*' <<<"$plain"; then echo "is a well-known word"
  elif [ "${#1}" -lt "$2" ]; then echo "has ${#1} characters; at least $2 are needed"
  elif [ "$kinds" -lt 5 ]; then echo "is a few characters repeated"
  fi
}

# check_secrets: outside development no secret may be empty, short or well known; all that are are named
check_secrets() {
  local name why entry entries weak=()
  for name in POSTGRES_PASSWORD POSTGRES_ADMIN_PASSWORD REDIS_PASSWORD; do
    why=$(weakness "${!name:-}" 12)
    [ -z "$why" ] || weak+=("$name $why")
  done
  why=$(weakness "${GRAFANA_PASSWORD:-}" 12)
  [ -z "${GRAFANA_PASSWORD:-}" ] || [ -z "$why" ] || weak+=("GRAFANA_PASSWORD $why")
  IFS=, read -r -a entries <<<"${API_KEYS:-}"
  [ ${#entries[@]} != 0 ] || weak+=("API_KEYS is empty")
  for entry in "${entries[@]}"; do
    entry=${entry// /}
    case $entry in *:read | *:write | *:admin) entry=${entry%:*} ;; esac
    why=$(weakness "$entry" 22)
    [ -z "$why" ] || weak+=("API_KEYS: a key $why")
  done
  IFS=, read -r -a entries <<<"${FLOWER_BASIC_AUTH:-}"
  [ ${#entries[@]} != 0 ] || weak+=("FLOWER_BASIC_AUTH is empty")
  for entry in "${entries[@]}"; do
    case $entry in
      *:*) why=$(weakness "${entry#*:}" 12) ;;
      *) why="is not user:password" ;;
    esac
    [ -z "$why" ] || weak+=("FLOWER_BASIC_AUTH: a password $why")
  done
  if [ ${#weak[@]} != 0 ]; then
    warn "error: $APP_ENV is not started: it needs random secrets, and these are none:"
    printf '  %s\n' "${weak[@]}" >&2
    die "set them in docker/.env (head -c 24 /dev/urandom | base64), or take the lines out: the next start makes them"
  fi
  export POSTGRES_PASSWORD REDIS_PASSWORD
}

# local_urls: the URLs of a stack on this machine, unless others were given
local_urls() {
  local own_database own_broker
  own_database="postgres://$(quote_url "$POSTGRES_USER"):$(quote_url "$POSTGRES_PASSWORD")@127.0.0.1:$POSTGRES_PORT/$(quote_url "$POSTGRES_DB")"
  own_broker="redis://:$(quote_url "$REDIS_PASSWORD")@127.0.0.1:$REDIS_PORT/0"
  export DATABASE_URL=${DATABASE_URL:-$own_database}
  export BROKER_URL=${BROKER_URL:-${CELERY_BROKER_URL:-$own_broker}}
  export RESULT_BACKEND=${RESULT_BACKEND:-${CELERY_RESULT_BACKEND:-$BROKER_URL}}
  export API_HOST=${API_HOST:-127.0.0.1}
  export MODEL_DIR=${MODEL_DIR:-$CACHE/models}
  # The in-process model: as many passes at a time as cores, one thread each.
  export RAYON_NUM_THREADS=${RAYON_NUM_THREADS:-1} CANDLE_NUM_THREADS=${CANDLE_NUM_THREADS:-1}
  export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
}

# engine_there: a Docker engine answers and has Compose
engine_there() {
  command -v docker >/dev/null || return 1
  timeout 15 docker info >/dev/null 2>&1 </dev/null && timeout 15 docker compose version >/dev/null 2>&1 </dev/null
}

# compose ARGUMENTS…: docker compose with the files of this environment
compose() {
  docker compose --project-directory "$ROOT/docker" -p "${COMPOSE_PROJECT_NAME:-petiole}" --env-file "$ROOT/.env.$APP_ENV" --env-file "$SECRETS" \
    -f "$ROOT/docker/docker-compose.yml" -f "$ROOT/docker/docker-compose.$APP_ENV.yml" "$@"
}
