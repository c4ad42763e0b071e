#!/bin/sh
# Build a pinned Go tool into .tools/bin: build.sh NAME. Its version is the one in NAME/go.mod.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
bin=$here/../.tools/bin
cd "$here/$1"

version() { go list -m -f '{{.Version}}' "$1"; }
# A plain build of Helm reports a version and a Kubernetes version that are not its own.
case $1 in
  helm | helm-oldest) flags="-X helm.sh/helm/v4/internal/version.version=$(version helm.sh/helm/v4)" ;;
  helm3 | helm3-oldest)
    kube=$(version k8s.io/client-go)
    kube=${kube#v0.}
    flags="-X helm.sh/helm/v3/internal/version.version=$(version helm.sh/helm/v3)
      -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=${kube%%.*}" ;;
  *) flags= ;;
esac
mkdir -p "$bin"
# rclone has a main of its own here, with little of what the whole has.
if [ -f main.go ]; then package=.; else package=$(go list -f '{{.ImportPath}}' tool); fi
CGO_ENABLED=0 go build -buildvcs=false -ldflags "-s -w $(echo $flags)" -o "$bin/$1" "$package"
