#!/bin/sh
# Installs what is in this folder below /usr/local, or below another folder: `./install.sh /opt/vfio-run`. If systemd runs here, its
# template and generator too. `./install.sh --remove [FOLDER]` takes all of it away again. As root.
set -eu
umask 022
here=$(cd "$(dirname "$0")" && pwd)
case ${1-} in
    -h | --help) sed -n '2,3s/^# //p' "$0"; exit 0 ;;
    --remove) remove=1; shift ;;
    *) remove= ;;
esac
to=${1:-/usr/local}
case $to in
    /*) ;;
    *) echo "$0: $to must be a path from the root on" >&2; exit 2 ;;
esac
template=/etc/systemd/system/vfio-run@.service
generator=/etc/systemd/system-generators/vfio-run-generator
rules=/etc/polkit-1/rules.d/50-vfio-run.rules

if [ -n "$remove" ]; then
    for journal in /run/vfio-run/*/journal; do
        [ ! -e "$journal" ] || { echo "$0: machines run, or left something: see \`vfio-run status\`" >&2; exit 1; }
    done
    (cd "$here" && find bin share -type f) | while read -r file; do rm -f "$to/$file"; done
    rm -f "$generator" "$rules"
    # Not one of the administrator's own; and with it machines that were started at boot.
    if grep -qs "$to/bin/vfio-run run /etc/vfio-run/%i.ron" "$template"; then
        rm -f "$template"
        for link in /etc/systemd/system/*.wants/vfio-run@*.service; do
            [ ! -L "$link" ] || rm -f "$link"
        done
    fi
    # Folders that nothing else is in; not those of every system.
    (cd "$here" && find bin share -depth -type d) | while read -r folder; do
        case $folder in
            bin | share | share/man | share/zsh*) ;;
            *) rmdir "$to/$folder" 2>/dev/null || true ;;
        esac
    done
    rmdir "$(dirname "$generator")" /etc/vfio-run 2>/dev/null || true
else
    (cd "$here" && find bin share -type f) | while read -r file; do
        mkdir -p "$to/$(dirname "$file")"
        # In place of the file, which may be running.
        cp "$here/$file" "$to/$file.new"
        mv -f "$to/$file.new" "$to/$file"
    done
    mkdir -p /etc/vfio-run
    if [ -d /etc/polkit-1/rules.d ]; then
        cp "$here/share/polkit-1/rules.d/50-vfio-run.rules" "$rules"
    fi
    if [ -d /etc/systemd/system ]; then
        mkdir -p "$(dirname "$generator")"
        "$to/bin/vfio-run" unit --template >"$template"
        ln -sfn "$to/bin/vfio-run" "$generator"
    fi
    echo "vfio-run is in $to/bin; QEMU must be there too (Debian: qemu-system-x86; for UEFI ovmf, for a TPM swtpm)"
fi
[ ! -d /run/systemd/system ] || systemctl daemon-reload
