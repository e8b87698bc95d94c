# What the scripts share: installing packages, finding Rust, one place for caches. Sourced, not run.

# The oldest Rust that builds the project: `rust-version` in Cargo.toml.
rust_needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
cache=$root/.cache

say() { printf '%s\n' "$*" >&2; }
die() { say "$0: $*"; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this needs root, and there is no sudo: $*"
    fi
}

# Which distribution this is, or the one that it is made of: debian, ubuntu, arch, fedora, or another's word.
distribution() {
    (
        . "${VFIO_RUN_OS_RELEASE-/etc/os-release}" 2>/dev/null
        for word in ${ID-} ${ID_LIKE-}; do
            case $word in debian | ubuntu | arch | fedora) echo "$word" && exit ;; esac
        done
        echo "${ID-unknown}"
    )
}

# Debian, or what is made of it, with its package manager.
is_debian() {
    case $(distribution) in debian | ubuntu) command -v apt-get >/dev/null ;; *) false ;; esac
}

# name_here PACKAGE: what this distribution calls Debian's package.
name_here() {
    case $(distribution):$1 in
        ubuntu:linux-image-amd64) echo linux-image-virtual ;;
        arch:linux-image-amd64) echo linux ;;
        fedora:linux-image-amd64) echo kernel-core ;;
        arch:cargo) echo rust ;;
        arch:busybox-static | fedora:busybox-static) echo busybox ;;
        arch:xz-utils | fedora:xz-utils) echo xz ;;
        arch:libc6-dev) echo glibc ;;
        fedora:libc6-dev) echo glibc-devel ;;
        arch:ovmf | fedora:ovmf) echo edk2-ovmf ;;
        fedora:seabios) echo seabios-bin ;;
        arch:swtpm-tools) echo swtpm ;;
        arch:dbus-daemon | arch:dbus-bin) echo dbus ;;
        fedora:dbus-bin) echo dbus-tools ;;
        fedora:iproute2) echo iproute ;;
        arch:dnsmasq-base | fedora:dnsmasq-base) echo dnsmasq ;;
        arch:acpica-tools) echo acpica ;;
        arch:python3-venv) echo python ;;
        fedora:python3-venv) echo python3 ;;
        *) echo "$1" ;;
    esac
}

# how_to_install PACKAGE…: a line that says how, with this distribution's names for Debian's packages.
how_to_install() {
    local names
    names=$(for package; do name_here "$package"; done | awk '!seen[$0]++' | paste -sd ' ')
    case $(distribution) in
        debian | ubuntu) echo "apt-get install $names" ;;
        arch) echo "pacman -S --needed $names" ;;
        fedora) echo "dnf install $names" ;;
        *) echo "with your package manager, what Debian calls $names" ;;
    esac
}

installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed$'; }

# quietly WHAT COMMAND…: keeps what it says in a log, which is shown if it fails.
quietly() {
    local what=$1 log=$cache/packages.log
    shift
    mkdir -p "$cache"
    "$@" >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        say "$what failed; all that was said is in $log"
        return 1
    }
}

# need PACKAGE…: installs those that are missing; elsewhere than on Debian, names them and stops unless the programs
# named in NEED_PROGRAMS are all there.
need() {
    local package missing=()
    if ! is_debian; then
        local program
        for program in ${NEED_PROGRAMS-}; do
            command -v "$program" >/dev/null || die "$program is missing; install: $(how_to_install "$@")"
        done
        return
    fi
    for package; do
        installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing: ${missing[*]}"
    apt_update
    quietly "apt-get install ${missing[*]}" as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" || exit 1
}

apt_update() {
    [ -z "${apt_is_fresh-}" ] || return 0
    quietly "apt-get update" as_root apt-get update -qq || say "trying with the lists that are there"
    apt_is_fresh=1
}

# candidate PACKAGE: the version that apt would install; nothing if there is none.
candidate() { apt-cache policy "$1" | sed -n 's/^ *Candidate: \([^(]\)/\1/p'; }

rust_is_new_enough() {
    local version
    version=$("$1" --version 2>/dev/null | sed -n 's/^cargo \([0-9.]*\).*/\1/p') || return 1
    [ -n "$version" ] && [ "$(printf '%s\n' "$rust_needed" "$version" | sort -V | head -n 1)" = "$rust_needed" ]
}

# Debian 12 has no rustup, and a Rust that is new enough only among its security updates (for browsers). Takes packages from
# there, and leaves the machine's own lists as they are.
from_security_updates() {
    local lists apt
    say "installing $* from Debian 12's security updates, which this machine's lists do not have"
    lists=$(mktemp -d)
    # apt fetches as a user of its own.
    chmod 755 "$lists"
    mkdir -p "$lists/lists/partial"
    [ ! -e /etc/apt/sources.list ] || cat /etc/apt/sources.list >"$lists/sources.list"
    echo "deb http://deb.debian.org/debian-security bookworm-security main" >>"$lists/sources.list"
    apt=(apt-get -qq -o "Dir::Etc::SourceList=$lists/sources.list" -o "Dir::State::Lists=$lists/lists")
    quietly "apt-get update" as_root "${apt[@]}" update &&
        quietly "apt-get install $*" as_root env DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y \
            --no-install-recommends "$@" || say "that did not work"
    as_root rm -rf "$lists"
}

# Has a cargo that is new enough in PATH: the one that is there, rustup's, or a Debian package that is new enough.
need_rust() {
    [ ! -d "${CARGO_HOME:-$HOME/.cargo}/bin" ] || PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    if rust_is_new_enough cargo; then
        return
    fi
    is_debian || die "Rust $rust_needed or newer is needed: $(how_to_install cargo), or see https://rustup.rs"
    apt_update
    local pair version
    for pair in cargo:rustc cargo-web:rustc-web; do
        version=$(candidate "${pair#*:}")
        if [ -n "$version" ] && dpkg --compare-versions "$version" ge "$rust_needed"; then
            need "${pair%%:*}" "${pair#*:}" gcc libc6-dev
            rust_is_new_enough cargo && return
        fi
    done
    # Ubuntu has newer ones beside its own.
    version=$(apt-cache search --names-only '^cargo-1\.[0-9]+$' | sed 's/^cargo-\([0-9.]*\) .*/\1/' | sort -V | tail -n 1)
    if [ -n "$version" ] && dpkg --compare-versions "$version.0" ge "$rust_needed"; then
        need "cargo-$version" "rustc-$version" gcc libc6-dev
        PATH=/usr/lib/rust-$version/bin:$PATH
        rust_is_new_enough cargo && return
    fi
    if [ -z "$(candidate rustup)" ] && [ "$(. /etc/os-release; echo "${VERSION_CODENAME-}")" = bookworm ]; then
        from_security_updates cargo-web rustc-web gcc libc6-dev
        rust_is_new_enough cargo && return
    fi
    need rustup gcc libc6-dev
    say "installing Rust with rustup"
    rustup toolchain install stable --profile default >&2
    PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    rust_is_new_enough cargo || die "Rust $rust_needed or newer is needed: see https://rustup.rs"
}

# Has what formats and lints the code with the cargo that need_rust found, of the same origin.
need_rust_tools() {
    if cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1; then
        return
    fi
    if command -v rustup >/dev/null; then
        rustup component add rustfmt clippy >&2
    elif installed cargo-web && [ "$(candidate rustfmt-web)" = "$(dpkg-query -W -f '${Version}' cargo-web)" ]; then
        need rustfmt-web rust-web-clippy
    elif installed cargo-web; then
        from_security_updates rustfmt-web rust-web-clippy
    else
        need rustfmt rust-clippy
    fi
}

# make_system SYSTEM FOLDER [PACKAGE,…]: makes a new Debian 12 (12; with its security updates 12-security) or 13 (13), or
# Ubuntu 24.04 (ubuntu) there. Needs mmdebstrap, and root.
make_system() {
    local debian=http://deb.debian.org/debian ubuntu=http://archive.ubuntu.com/ubuntu
    local -a of
    case $1 in
        # The archive's main part alone, as an installation without a network has it.
        12) of=(bookworm "$2" "deb $debian bookworm main") ;;
        12-security) of=(bookworm "$2" "deb $debian bookworm main" "deb $debian-security bookworm-security main") ;;
        13) of=(trixie "$2" "deb $debian trixie main") ;;
        ubuntu)
            # Debian has no package of Ubuntu's keys.
            local keys="$cache/ubuntu-keyring" from
            if [ ! -e "$keys/usr/share/keyrings/ubuntu-archive-keyring.gpg" ]; then
                mkdir -p "$keys"
                /usr/lib/apt/apt-helper -q -o APT::Sandbox::User=root download-file \
                    "$ubuntu/pool/main/u/ubuntu-keyring/ubuntu-keyring_2023.11.28.1_all.deb" "$keys/keys.deb" \
                    SHA256:36de43b15853ccae0028e9a767613770c704833f82586f28eb262f0311adb8a8 >&2
                dpkg-deb -x "$keys/keys.deb" "$keys"
            fi
            from="deb [signed-by=$keys/usr/share/keyrings/ubuntu-archive-keyring.gpg] $ubuntu"
            of=(noble "$2" "$from noble main universe" "$from noble-updates main universe")
            ;;
        *) die "no system $1 is known" ;;
    esac
    say "making a system: $1"
    mmdebstrap --quiet --variant=apt --include="ca-certificates${3:+,$3}" "${of[@]}" >&2
    # Ubuntu has its keys in a place of its own.
    sed -i 's, \[signed-by=[^]]*\],,' "$2"/etc/apt/sources.list
    # A network with a proxy of its own has certificates of its own.
    cp -L /etc/ssl/certs/ca-certificates.crt "$2/etc/ssl/certs/"
    cp -L /etc/resolv.conf /etc/hosts "$2/etc/"
}

# enter FOLDER COMMAND…: in a system that was made, and in namespaces of its own: what it mounts and starts ends with it.
enter() {
    unshare --mount --pid --fork --kill-child --propagation private bash -euc '
        system=$1; shift
        # A mount as its root, which unshare(1) there wants to change.
        mount --bind "$system" "$system"
        mount --rbind /dev "$system/dev"
        mount --rbind /sys "$system/sys"
        mount -t proc proc "$system/proc"
        mount -t tmpfs tmpfs "$system/run"
        exec env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM="${TERM-dumb}" \
            chroot "$system" "$@"
    ' - "$@"
}
