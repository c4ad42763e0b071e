#!/bin/sh
# ct lint: Chart.yaml, the values files, helm lint with each of ci/. If the chart changed since the last tag, its version
# must be above that tag's. Wants ct, helm, yamllint and yamale on the PATH.
set -eu
tag=$(git describe --tags --abbrev=0 2>/dev/null) || tag=
if [ -z "$tag" ] || git diff --quiet "$tag" -- charts; then
  ct lint --config ct.yaml --all  # which leaves the version alone
else
  ct lint --config ct.yaml --remote tags --target-branch "$tag"  # git finds a tag under tags/TAG
fi
