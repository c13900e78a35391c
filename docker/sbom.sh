#!/usr/bin/env bash
# What the images are made of.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

usage() {
  cat <<'HELP'
usage: docker/sbom.sh [--to FOLDER]

Writes a software bill of materials in CycloneDX's format (1.5, JSON) for each program into FOLDER (default: docker/.data/sbom):

  api.cdx.json, worker.cdx.json   every crate in the program, with version, checksum and licence
  base.txt                        every Debian package of the image, with its version; only if the image is there

Needs cargo; installs cargo-cyclonedx into a cache outside the repository at the first call.
HELP
}

# shellcheck source=lib/settings.sh
. "$ROOT/docker/lib/settings.sh"
to=$DATA/sbom
while [ $# -gt 0 ]; do
  case $1 in
    --to) [ $# -gt 1 ] || { usage >&2; exit 2; }; to=$2; shift ;;
    --to=*) to=${1#*=} ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

VERSION=0.5.7
tools=$CACHE/tools
command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
command -v cargo >/dev/null || die "cargo is missing: install Rust (https://rustup.rs)"
if [ ! -x "$tools/bin/cargo-cyclonedx" ] || ! "$tools/bin/cargo-cyclonedx" cyclonedx --version | grep -qF "$VERSION"; then
  CARGO_TARGET_DIR=$tools/target cargo install --quiet --locked --root "$tools" "cargo-cyclonedx@$VERSION"
fi

mkdir -p "$to"
to=$(cd "$to" && pwd -P)
# It writes beside each manifest, so it is given a copy of the manifests.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$ROOT" && find Cargo.toml Cargo.lock api worker shared tests benches \( -name target -prune \) -o -type f \( -name 'Cargo.*' -o -name '*.rs' \) -print0 2>/dev/null |
  tar cf - --null -T -) | tar xf - -C "$work"
for program in api worker; do
  (cd "$work" && "$tools/bin/cargo-cyclonedx" cyclonedx --quiet --manifest-path "$program/Cargo.toml" --format json --spec-version 1.5 \
    --describe binaries)
  file=$work/$program/${program}_bin.cdx.json
  [ -s "$file" ] || die "no bill of materials was made for $program"
  install -m 644 "$file" "$to/$program.cdx.json"
done
image=${WORKER_IMAGE:-petiole-worker}:${IMAGE_TAG:-local}
# shellcheck disable=SC2016 # dpkg's own variables
if engine_there && docker image inspect "$image" >/dev/null 2>&1; then
  docker run --rm --entrypoint dpkg-query "$image" -W -f '${Package} ${Version} ${Architecture}\n' >"$to/base.txt"
fi
say "$to"
