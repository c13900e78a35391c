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
SETTINGS='^(TIMEZONE|RUST_LOG|RUST_BACKTRACE|(ACCEPT|AI|ALLOWED|API|APP|BEAT|BROKER|CACHE|CELERY|CHUNK|CONTROL|DATABASE|EMBEDDING|ENABLE|EVENT|GLOBAL|LANGUAGE|LOG|MODEL|OPENAI|OUTBOX|POSTGRES|REDIS|REDBEAT|RESULT|SEARCH|SECURITY|TASK|VISIBILITY|WORKER)_[A-Z0-9_]+)='
# What a client of the stack may have in its environment, and the programs do not read.
CLIENTS='^(API_URL|API_KEY)='
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

# make_secrets: docker/.env with random passwords, when there is none
make_secrets() {
  if [ ! -f "$SECRETS" ]; then
    (umask 077; cp "$ROOT/docker/.env.example" "$SECRETS")
    chmod 600 "$SECRETS"
    set_secret POSTGRES_PASSWORD "$(random_word)"
    set_secret REDIS_PASSWORD "$(random_word)"
    say "Made docker/.env with random passwords."
  fi
  # Outside development nothing is open: what protects the API and Flower is made when nobody chose it.
  [ "$APP_ENV" != development ] || return 0
  if [ -z "${API_KEYS:-}" ] && ! grep -qE '^API_KEYS=.' "$SECRETS"; then
    set_secret API_KEYS "$(random_word)"
    say "Added a random API_KEYS to docker/.env."
  fi
  if [ -z "${FLOWER_BASIC_AUTH:-}" ] && ! grep -qE '^FLOWER_BASIC_AUTH=.' "$SECRETS"; then
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
  for name in POSTGRES_PASSWORD REDIS_PASSWORD; do
    [ -n "${!name:-}" ] || die "$name is empty; set it in docker/.env (or delete docker/.env: the next start makes a new one)"
    export "${name?}"
  done
  [ "$APP_ENV" = development ] || check_secrets
}

# check_secrets: outside development no secret may be short or well known
check_secrets() {
  local name value weak=()
  for name in POSTGRES_PASSWORD REDIS_PASSWORD API_KEYS FLOWER_BASIC_AUTH; do
    value=${!name:-}
    [ "$name" != FLOWER_BASIC_AUTH ] || value=${value#*:}
    if [ ${#value} -lt 12 ] || grep -qiE 'change.?(me|this|it)|replace.?(me|this)|placeholder|example|your.?(pass|secret|key)' <<<"$value"; then weak+=("$name"); fi
  done
  [ ${#weak[@]} = 0 ] || die "$APP_ENV needs random secrets of at least 12 characters; too weak: ${weak[*]}. Set them in docker/.env"
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
