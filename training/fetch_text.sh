#!/bin/sh
# Gets the King James text from two Debian packages, without installing them.
# Usage: sh fetch_text.sh OUT.txt      (needs apt-get, dpkg; run "apt-get update" first)
set -eu
out=${1:?usage: fetch_text.sh OUT.txt}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && apt-get download bible-kjv bible-kjv-text)
for package in "$work"/*.deb; do
    dpkg -x "$package" "$work/root"
done
# The reader prints "Book N", an empty line, then one numbered verse per line.
"$work/root/usr/bin/bible" -p "$work/root/usr/lib" -l10000 'gen1:1-rev22:21' > "$out"
wc "$out"
