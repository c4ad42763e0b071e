#!/bin/sh
# Build the image: build.sh TAG. IMAGE_BUILDER, if set, is the command that takes docker's `build` arguments; PYTHONS are
# versions of Python beside the image's own, for models that need them.
set -eu
cd "$(dirname "$0")/.."

if [ -z "${IMAGE_BUILDER:-}" ]; then
  for program in docker podman buildah; do
    command -v $program >/dev/null || continue
    case $program in
      # a docker without its daemon builds nothing
      docker) docker info >/dev/null 2>&1 || continue ;;
    esac
    IMAGE_BUILDER="$program build"
    break
  done
fi
[ -n "${IMAGE_BUILDER:-}" ] || { echo "Install docker, podman or buildah, or set IMAGE_BUILDER." >&2; exit 2; }
$IMAGE_BUILDER -t "$1" --build-arg "PYTHONS=${PYTHONS:-}" -f image/Dockerfile .
echo "Built $1. A cluster needs it too: push it, or load it (kind load docker-image $1)."
