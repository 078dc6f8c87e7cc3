#!/bin/sh
# Takes wines.csv.gz and power-plant.csv.gz from the crate rafor. The result is committed, so this is needed only to take a
# newer release of the crate. It takes Cargo.
set -eu

version=0.4.1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$work"
cargo init --quiet --vcs none --name data
cargo add --quiet "rafor@=$version"
cargo vendor --quiet --versioned-dirs > config.toml
gzip --best --no-name --stdout "vendor/rafor-$version/datasets/winequality-red.csv" > "$here/wines.csv.gz"
gzip --best --no-name --stdout "vendor/rafor-$version/datasets/Folds5x2_pp.csv" > "$here/power-plant.csv.gz"
