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

is_debian() { [ -e /etc/debian_version ] && command -v apt-get >/dev/null; }

installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed$'; }

# need PACKAGE…: installs those that are missing; elsewhere than on Debian, names them and stops unless the programs
# named in NEED_PROGRAMS are all there.
need() {
    local package missing=()
    if ! is_debian; then
        local program
        for program in ${NEED_PROGRAMS-}; do
            command -v "$program" >/dev/null || die "install these packages (Debian's names) with your package manager: $*"
        done
        return
    fi
    for package; do
        installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing: ${missing[*]}"
    apt_update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 ||
        die "apt-get could not install ${missing[*]}"
}

apt_update() {
    [ -z "${apt_is_fresh-}" ] || return 0
    as_root apt-get update -qq >&2 || say "apt-get update failed; trying with the lists that are there"
    apt_is_fresh=1
}

# candidate PACKAGE: the version that apt would install; nothing if there is none.
candidate() { apt-cache policy "$1" | sed -n 's/^ *Candidate: \([^(]\)/\1/p'; }

rust_is_new_enough() {
    local version
    version=$("$1" --version 2>/dev/null | sed -n 's/^cargo \([0-9.]*\).*/\1/p') || return 1
    [ -n "$version" ] && [ "$(printf '%s\n' "$rust_needed" "$version" | sort -V | head -n 1)" = "$rust_needed" ]
}

# Debian 12 has no rustup, and a Rust that is new enough only among its security updates (for browsers). Takes it from there,
# and leaves the machine's own lists as they are.
rust_of_security_updates() {
    local lists apt
    say "installing Rust from Debian 12's security updates, which this machine's lists do not have"
    lists=$(mktemp -d)
    # apt fetches as a user of its own.
    chmod 755 "$lists"
    mkdir -p "$lists/lists/partial"
    [ ! -e /etc/apt/sources.list ] || cat /etc/apt/sources.list >"$lists/sources.list"
    echo "deb http://deb.debian.org/debian-security bookworm-security main" >>"$lists/sources.list"
    apt=(apt-get -qq -o "Dir::Etc::SourceList=$lists/sources.list" -o "Dir::State::Lists=$lists/lists")
    as_root "${apt[@]}" update >&2 &&
        as_root env DEBIAN_FRONTEND=noninteractive "${apt[@]}" install -y --no-install-recommends \
            cargo-web rustc-web gcc libc6-dev >&2 || say "that did not work"
    as_root rm -rf "$lists"
}

# Has a cargo that is new enough in PATH: the one that is there, rustup's, or a Debian package that is new enough.
need_rust() {
    [ ! -d "${CARGO_HOME:-$HOME/.cargo}/bin" ] || PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    if rust_is_new_enough cargo; then
        return
    fi
    is_debian || die "Rust $rust_needed or newer is needed: see https://rustup.rs"
    apt_update
    local pair
    for pair in cargo:rustc cargo-web:rustc-web; do
        local version
        version=$(candidate "${pair#*:}")
        if [ -n "$version" ] && dpkg --compare-versions "$version" ge "$rust_needed"; then
            need "${pair%%:*}" "${pair#*:}" gcc libc6-dev
            rust_is_new_enough cargo && return
        fi
    done
    if [ -z "$(candidate rustup)" ] && [ "$(. /etc/os-release; echo "${VERSION_CODENAME-}")" = bookworm ]; then
        rust_of_security_updates
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
    elif installed cargo-web; then
        need rustfmt-web rust-web-clippy
    else
        need rustfmt rust-clippy
    fi
}

# make_system RELEASE FOLDER [PACKAGE,…]: makes Debian 12 or 13 there, of the archive's main part alone, as an installation
# without a network has it. Needs mmdebstrap, and root.
make_system() {
    local suite
    case $1 in
        12) suite=bookworm ;;
        13) suite=trixie ;;
        *) die "no Debian $1 is known" ;;
    esac
    say "making a Debian $1"
    mmdebstrap --quiet --variant=apt --include="ca-certificates${3:+,$3}" "$suite" "$2" \
        "deb http://deb.debian.org/debian $suite main" >&2
    # A network with a proxy of its own has certificates of its own.
    cp -L /etc/ssl/certs/ca-certificates.crt "$2/etc/ssl/certs/"
    cp -L /etc/resolv.conf /etc/hosts "$2/etc/"
}

# enter FOLDER COMMAND…: in a system that was made, and in namespaces of its own: what it mounts and starts ends with it.
enter() {
    unshare --mount --pid --fork --kill-child --propagation private bash -euc '
        system=$1; shift
        mount --rbind /dev "$system/dev"
        mount --rbind /sys "$system/sys"
        mount -t proc proc "$system/proc"
        mount -t tmpfs tmpfs "$system/run"
        exec env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM="${TERM-dumb}" \
            chroot "$system" "$@"
    ' - "$@"
}
