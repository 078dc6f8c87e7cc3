#!/bin/sh
# Takes digits.csv.gz from the Python package scikit-learn. The result is committed, so this is needed only to take a
# newer release of the package. It takes Python with pip.
set -eu

version=1.9.1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$work"
python3 -m pip download --quiet --no-deps --only-binary :all: "scikit-learn==$version"
unzip -q scikit_learn-*.whl sklearn/datasets/data/digits.csv.gz
gunzip --stdout sklearn/datasets/data/digits.csv.gz | gzip --best --no-name --stdout > "$here/digits.csv.gz"
