# shellcheck shell=bash
# What the scripts for containers share: settings for the containers, starting and waiting.
: "${ROOT:?}" "${DATA:?}" "${SECRETS:?}"

# The environment that runs, in a file
STATE=$DATA/compose
# shellcheck disable=SC2034 # used by the scripts that source this file
PROJECT=${COMPOSE_PROJECT_NAME:-petiole}
IMAGES=(api worker)

# One start, stop, update or restore at a time; the lock goes with this process.
lock() {
  mkdir -p "$DATA" "$DATA/logs" "$DATA/run"
  exec 9>"$DATA/lock"
  flock -n 9 || { say "Another start or stop is under way in this checkout; waiting for it."; flock -w 3600 9 || die "it did not end"; }
}

# known: the environment that runs
known() {
  choose_environment "$(cat "$STATE" 2>/dev/null || echo "${APP_ENV:-development}")"
  [ -f "$SECRETS" ] || die "docker/.env is missing; docker/start.sh makes it"
  prepare
}

# running: this stack runs in containers
running() { [ -f "$STATE" ] && [ -n "$(compose ps -q 2>/dev/null)" ]; }

prepare() {
  load_settings
  export REDIS_PASSWORD_QUOTED VERSION REVISION CREATED SECRETS_PRINT='' REDIS_PRINT=''
  REDIS_PASSWORD_QUOTED=$(quote_url "$REDIS_PASSWORD")
  # Of the commit, not of the clock: the same source makes the same image.
  VERSION=${VERSION:-$(in_git describe --tags --always --dirty || echo development)}
  REVISION=${REVISION:-$(in_git rev-parse HEAD || echo unknown)}
  CREATED=${CREATED:-$(in_git log -1 --format=%cI || echo 1970-01-01T00:00:00Z)}
  write_application_env
  write_secrets
  # Inside the containers others read them.
  chmod -R a+rX "$ROOT"/docker/{Caddyfile,database.sh,redis.sh,monitoring}
}
in_git() { git -c "safe.directory=$ROOT" -C "$ROOT" "$@" 2>/dev/null; }

is_secret() { [[ " ${SECRET_NAMES[*]} " == *" $1 "* ]]; }

# write_application_env: every setting of the application that is set here, for the containers of API and worker
write_application_env() {
  local name value
  mkdir -p "$DATA"
  (
    umask 077
    while IFS= read -r -d '' name; do
      value=${name#*=} name=${name%%=*}
      # Addresses and places are the containers' own.
      case $name in
        API_HOST | API_PORT | MODEL_DIR | POSTGRES_* | REDIS_*) continue ;;
      esac
      # So is localhost: an address on it is the published port of this very stack.
      case $name in
        BROKER_URL | RESULT_BACKEND | DATABASE_URL) ! [[ $value =~ (@|//)(127\.0\.0\.1|localhost)[:/] ]] || continue ;;
      esac
      # Secrets go by files.
      if [ "$APP_ENV" != development ] && is_secret "$name"; then
        [ "$name" != OPENAI_API_KEY ] || printf 'OPENAI_API_KEY_FILE=/run/secrets/openai_api_key\n'
        continue
      fi
      case $value in *"'"* | *$'\n'*) die "$name holds a quote or a new line, which cannot be given to a container" ;; esac
      printf "%s='%s'\n" "$name" "$value"
    done < <(settings_in_environment) >"$DATA/application.env"
  )
}

# write_secrets: one file for each secret. The folder is closed to others; inside a container the file must be readable by
# that container's user, whom this machine does not know.
write_secrets() {
  local name
  mkdir -p "$DATA/secrets"
  chmod 700 "$DATA/secrets"
  # What Prometheus shows the API
  write_secret metrics_key "$(sed -E 's/,.*//; s/:(read|write|admin)$//' <<<"${API_KEYS:-none}")"
  write_secret grafana_password "${GRAFANA_PASSWORD:-}"
  # Development hands the rest over as variables.
  [ "$APP_ENV" != development ] || return 0
  for name in "${SECRET_NAMES[@]}" REDIS_PASSWORD_QUOTED; do write_secret "${name,,}" "${!name:-}"; done
  # Not enough of a hash to guess a secret by
  REDIS_PRINT=$(sha256sum <<<"$REDIS_PASSWORD" | cut -c1-8)
  SECRETS_PRINT=$(cd "$DATA/secrets" && sha256sum ./* | sha256sum | cut -c1-8)
}
write_secret() {
  local file=$DATA/secrets/$1
  if [ -f "$file" ] && [ "$(cat "$file")" = "$2" ]; then return; fi
  # Written in its place: a container that runs has this very file.
  printf '%s' "$2" >"$file"
  chmod 644 "$file"
}

# build_images [SERVICE…]
build_images() {
  if [ "$APP_ENV" = development ]; then compose build api </dev/null 9>&-; else compose build "${@:-${IMAGES[@]}}" </dev/null 9>&-; fi
}

# up [OPTION…] [SERVICE…]: starts them (all by default) and waits until they are healthy
up() {
  local services=() argument next=no
  for argument; do
    case $argument in
      --scale) next=yes; continue ;;
      -*) ;;
      *) [ "$next" = yes ] || services+=("$argument") ;;
    esac
    next=no
  done
  # With what they depend on: without it (--no-deps) Compose takes them for changed the next time.
  compose --progress quiet up -d --no-build --quiet-pull "$@" </dev/null 9>&- || failed
  wait_healthy "${services[@]}"
  [ ${#services[@]} = 0 ] || say "  healthy: ${services[*]}"
}

# containers_of [SERVICE…]: a line for each: service, id, state, restarts, exit code, health
containers_of() {
  local ids
  mapfile -t ids < <(compose ps -aq "$@" 2>/dev/null)
  [ ${#ids[@]} != 0 ] || return 0
  docker inspect --format '{{index .Config.Labels "com.docker.compose.service"}} {{.Id}} {{.State.Status}} {{.RestartCount}} {{.State.ExitCode}} {{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}' "${ids[@]}" 2>/dev/null || true
}

# ill [SERVICE…]: those of them that are neither healthy nor done
ill() { containers_of "$@" | awk '!($3 == "running" && ($6 == "healthy" || $6 == "none")) && !($3 == "exited" && $5 == 0 && $6 == "none")'; }

# wait_healthy [SERVICE…]: a service that ends again and again is not waited for
wait_healthy() {
  local until=$((SECONDS + ${START_TIMEOUT:-2400})) next=$((SECONDS + 30)) left service id state restarts code health
  declare -A before=()
  while true; do
    left=$(ill "$@")
    [ -n "$left" ] || return 0
    while read -r service id state restarts code health; do
      before[$id]=${before[$id]:-$restarts}
      if [ "$health" = unhealthy ] || [ $((restarts - before[$id])) -ge 3 ]; then failed; fi
      case $state in exited | dead) [ "$code" = 0 ] && [ "$restarts" != 0 ] || failed ;; esac
    done <<<"$left"
    [ "$SECONDS" -lt "$until" ] || failed
    if [ "$SECONDS" -ge "$next" ]; then
      next=$((SECONDS + 30))
      read -r service id _ <<<"$left"
      say "  waiting for $service: $(docker logs --tail 1 "$id" 2>&1 | tail -c 120 | tr -d '\r\033')"
    fi
    sleep 0.5
  done
}

failed() {
  local service id
  warn "error: the stack did not become healthy. Its services:"
  compose ps -a --format 'table {{.Service}}\t{{.Status}}' >&2 || true
  while read -r service id _; do
    [ -n "$service" ] || continue
    warn ""
    warn "The last lines of $service:"
    docker logs --tail 25 "$id" >&2 || true
  done < <(ill)
  exit 1
}

# settle_database: the application's role, with the password that it has now
settle_database() {
  compose exec -T database bash /docker-entrypoint-initdb.d/10-application.sh </dev/null || die "the application's role could not be made"
}

# migrate: the schema of the new programs, before any of them runs
migrate() { compose run --rm --no-deps -T api api --migrate </dev/null || die "the migration failed; nothing of the new version was started"; }

# ready: the API is, with its database, Redis and a worker, asked inside its container
ready() {
  local id
  id=$(compose ps -q --status running api | head -n 1)
  [ -n "$id" ] && docker exec "$id" healthcheck http 8080 /ready </dev/null >/dev/null 2>&1
}
wait_ready() {
  local until=$((SECONDS + 120))
  until ready; do [ "$SECONDS" -lt "$until" ] || failed; sleep 1; done
}
