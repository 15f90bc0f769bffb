#!/bin/sh
# Prints the path of a Chromium; on Debian, as root, installs it where there is none. A usable CHROMIUM in the environment wins.
set -eu

refuse() {
    printf 'error[browser]: %s\n  where: %s\n  numbers: %s\n  next: %s\n' "$1" "$2" "$3" "$4" >&2
    exit 2
}

node=$(node --version 2>/dev/null || echo none)
major=$(printf '%s' "$node" | sed -n 's/^v\([0-9]*\).*/\1/p')
if [ "${major:-0}" -lt 20 ] || ! command -v npm >/dev/null; then
    refuse 'the browser tests need Node.js with npm' "$(command -v node || echo 'PATH')" "node is $node, 20 or newer is needed" 'install nodejs and npm, then: make test-browser'
fi

if [ -n "${CHROMIUM:-}" ]; then
    [ -x "$CHROMIUM" ] || refuse 'CHROMIUM is no program' "$CHROMIUM" '0 browsers found there, 1 is needed' 'set CHROMIUM to the path of a Chromium, or unset it'
    echo "$CHROMIUM"
    exit
fi

find_it() {
    for name in chromium chromium-browser google-chrome; do
        command -v "$name" && return
    done
    return 1
}

find_it && exit
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    refuse 'no Chromium is here, and only root on Debian can install it' 'PATH' '0 of chromium, chromium-browser, google-chrome found, 1 is needed' \
        'apt-get install chromium, or set CHROMIUM to the path of one'
fi
{ apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium fonts-dejavu-core; } >&2 ||
    refuse 'apt-get could not install Chromium' "apt-get install chromium" "it ended with $?, not 0" 'see its messages above'
find_it || refuse 'Chromium is not here after its installation' 'PATH' '0 found, 1 is needed' 'set CHROMIUM to its path'
