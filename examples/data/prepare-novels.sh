#!/bin/sh
# Makes novels.txt.gz from the Debian package r-cran-janeaustenr. The result is committed, so this is needed only to
# change the format or to take a newer release of the package. It takes Debian, and Python with venv.
set -eu

version=1.0.0-1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$work"
apt-get download --quiet "r-cran-janeaustenr=$version"
dpkg-deb --extract r-cran-janeaustenr_*.deb package
python3 -m venv venv
venv/bin/pip install --quiet rdata==1.0.0

cat > convert.py <<'PY'
import sys, warnings, zlib
from rdata import conversion, parser

warnings.simplefilter('ignore')
path = 'package/usr/lib/R/site-library/janeaustenr/data/Rdata'
index = conversion.convert(parser.parse_data(open(path + '.rdx', 'rb').read()))['variables']
data = open(path + '.rdb', 'rb').read()
# In the order in which they were published.
novels = ['sensesensibility', 'prideprejudice', 'mansfieldpark', 'emma', 'northangerabbey', 'persuasion']
for novel in novels:
    start, length = index[novel]
    # Each begins with its size, in four bytes.
    packed = data[start + 4 : start + length]
    lines = conversion.convert(parser.parse_data(zlib.decompress(packed)))
    sys.stdout.write('\n'.join(lines).strip() + '\n\n\n')
PY
PYTHONIOENCODING=utf-8 venv/bin/python convert.py > novels.txt
gzip --best --no-name --stdout novels.txt > "$here/novels.txt.gz"
wc novels.txt
