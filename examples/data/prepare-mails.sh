#!/bin/sh
# Makes spambase.csv.gz from the Debian package r-cran-kernlab. The result is committed, so this is needed only to
# change the format or to take a newer release of the package. It takes Debian, and Python with venv.
set -eu

version=0.9-32-1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$work"
apt-get download --quiet "r-cran-kernlab=$version"
dpkg-deb --extract r-cran-kernlab_*.deb package
python3 -m venv venv
venv/bin/pip install --quiet rdata==1.0.0

cat > convert.py <<'PY'
import rdata

mails = rdata.read_rda('package/usr/lib/R/site-library/kernlab/data/spam.rda')['spam']
# R's names can't begin with a digit or hold punctuation; these are the words and characters that are meant.
characters = {'charSemicolon': ';', 'charRoundbracket': '(', 'charSquarebracket': '[', 'charExclamation': '!',
              'charDollar': '$', 'charHash': '#', 'capitalAve': 'mean run of capitals',
              'capitalLong': 'longest run of capitals', 'capitalTotal': 'all capitals'}
names = [characters.get(name, name.removeprefix('num')) for name in mails.columns[:-1]]
print(','.join(names + ['spam']))
for row in mails.itertuples(index=False):
    print(','.join(f'{value:g}' for value in row[:-1]), int(row[-1] == 'spam'), sep=',')
PY
venv/bin/python convert.py > spambase.csv
gzip --best --no-name --stdout spambase.csv > "$here/spambase.csv.gz"
wc --lines spambase.csv
