//! Whether this QEMU can show a screen as the machine wants it, and whether those who are to see it can, and nobody else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use crate::machine::{Display, Listen};
use crate::plan::Severity::{Hard, Soft};
use crate::plan::draft::Draft;
use crate::plan::process::{account, tcp};

/// The characters of a password that VNC takes (RFC 6143, section 7.2.2).
pub(super) const VNC_PASSWORD: u64 = 8;
/// Where Debian has what renders: since 13, and before.
const RENDERING: &str = "Debian 13: package `qemu-system-modules-opengl`, Debian 12: `qemu-system-gui`";

/// Whether QEMU has this type of `-display`.
pub(super) fn known(draft: &mut Draft, kind: &str) {
    if draft.qemu.displays.contains(kind) {
        return;
    }
    let detail = format!("{} has no display `{kind}`", draft.qemu.binary.display());
    match kind {
        "gtk" | "sdl" => {
            let remedy = "install it (Debian: package `qemu-system-gui`), or use `Vnc` or `Spice`";
            draft.no("display.known", Hard, detail, remedy);
        }
        "dbus" => {
            let packages = "Debian 13: package `qemu-system-modules-opengl`, Debian 12: `qemu-system-common`";
            draft.no("display.known", Hard, detail, &format!("install it ({packages}), or use `Spice`"));
        }
        // Beside a server, which may be missing too.
        _ => {
            draft.no("display.renders", Hard, detail, &format!("install it ({RENDERING}), or use `video: Virtio`"));
        }
    }
    draft.about("display");
}

/// A window: whether QEMU has it, and whether a desktop shows it.
pub(super) fn window(draft: &mut Draft, kind: &str) {
    known(draft, kind);
    reaches_desktop(draft);
}

/// A desktop lets the programs of its own user in. Started by root, QEMU is somebody else, who has no right to the
/// sockets in the user's runtime folder nor to the X server's cookie.
fn reaches_desktop(draft: &mut Draft) {
    if draft.host.process.uid != 0 {
        return;
    }
    let (key, servers) = ("display.desktop", "use `display: Spice()` or `Vnc()` and a viewer");
    match draft.machine.user.as_deref() {
        Some(user) if !matches!(user, "root" | "0") => draft.unknown(
            key,
            Soft,
            format!("the window shows if {user}'s desktop is the one that `$DISPLAY` or `$WAYLAND_DISPLAY` names"),
        ),
        _ => draft.no(
            key,
            Soft,
            "root starts QEMU, and a desktop shows only windows of its own user's programs",
            &format!("start the machine as that user, name the user in `user`, or {servers}"),
        ),
    }
    draft.about("display");
}

/// Whether `virtio-vga-gl` and a display that renders come together, of which one is no use without the other.
pub(super) fn gl(draft: &mut Draft, card: bool) {
    const KEY: &str = "display.gl";
    if card && !draft.qemu.devices.contains_key("virtio-vga-gl") {
        let detail = format!("{} has no `virtio-vga-gl`", draft.qemu.binary.display());
        draft.no(KEY, Hard, detail, &format!("install it ({RENDERING}), or use `video: Virtio`"));
        draft.about("video");
    }
    if !card && draft.machine.display == Display::EglHeadless {
        let detail = "`display: EglHeadless` renders for `video: VirtioGl`, which the machine does not have";
        draft.no(KEY, Soft, detail, "write `video: VirtioGl`, or leave `display` out");
        draft.about("display");
    }
}

/// Whether QEMU has this server.
pub(super) fn server(draft: &mut Draft, known: bool, name: &str) {
    if known {
        return;
    }
    let detail = format!("{} has no {} server", draft.qemu.binary.display(), name.to_uppercase());
    let remedy = match name {
        "spice" => "install it (Debian 13: package `qemu-system-modules-spice`), or use `display: Vnc()`",
        _ => "use another `display`, or a QEMU that has it",
    };
    draft.no("display.known", Hard, detail, remedy);
    draft.about("display");
}

/// The address that a server listens on.
pub(super) fn address(listen: &Listen) -> IpAddr {
    listen.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// Whether a server can listen there, and what the network can do to it.
pub(super) fn network(draft: &mut Draft, listen: &Listen, server: &str) {
    const KEY: &str = "display.network";
    let address = address(listen);
    let Some(port) = listen.port else { return };
    let (key, what) = ("display.port", format!("the {server} server"));
    tcp::free(draft, key, key, &what, SocketAddr::new(address, port));
    if address.is_loopback() {
        return;
    }
    match (&listen.password_file, &listen.tls) {
        (Some(_), Some(_)) => {
            draft.yes(KEY, Soft, format!("the {server} server on {address} wants a password and encrypts"));
        }
        (None, _) => {
            let detail =
                format!("everybody who reaches {address} controls the guest: its {server} server wants no password");
            draft.no(
                KEY,
                Soft,
                detail,
                "name a file with one in `password_file`, or leave `port` out for a UNIX socket",
            );
        }
        (Some(_), None) => {
            let detail = format!("what is typed into the {server} server on {address} passes the network unencrypted");
            draft.no(KEY, Soft, detail, "add `tls`, or leave `port` out and forward the UNIX socket by ssh");
        }
    }
    draft.about("display.port");
}

/// Whom a UNIX socket of root's machine is given to.
pub(super) fn viewer(draft: &mut Draft, listen: &Listen, socket: &Path) -> Option<u32> {
    const KEY: &str = "display.viewer";
    const FIELD: &str = "display.for_user";
    let host = draft.host;
    if host.process.uid != 0 {
        let ours = listen.for_user.as_ref().and_then(|user| uid(draft, user)) == Some(host.process.uid);
        if let Some(user) = listen.for_user.as_ref().filter(|_| !ours) {
            let detail = format!("`for_user: {user:?}` has no effect: only root can give the socket to another user");
            draft.no(KEY, Soft, detail, "start as root, or remove `for_user`");
            draft.about(FIELD);
        }
        return None;
    }
    let (uid, name) = match (&listen.for_user, &host.desktop) {
        (Some(user), _) => match uid(draft, user) {
            Some(uid) if user.parse() == Ok(uid) => (uid, format!("user {uid}")),
            Some(uid) => (uid, user.clone()),
            None => {
                let detail = format!("there is no account {user:?}");
                draft.no(KEY, Hard, detail, "name an account of this host, or a number, in `for_user`");
                draft.about(FIELD);
                return None;
            }
        },
        (None, Some(desktop)) => (desktop.uid, desktop.user()),
        (None, None) => {
            let shown = socket.display();
            draft.unknown(KEY, Soft, format!("nobody but root can use {shown}: whose desktop it is cannot be told"));
            let server = if matches!(draft.machine.display, Display::Vnc(_)) { "Vnc" } else { "Spice" };
            draft.remedy(&format!("name the user whose it is: `display: {server}(for_user: \"anna\")`"));
            draft.about("display");
            return None;
        }
    };
    draft.yes(KEY, Soft, format!("{name} can use {}", socket.display()));
    // Root can anyway, and QEMU's account has the socket already.
    (uid != 0 && draft.account.as_ref().map(|account| account.uid) != Some(uid)).then_some(uid)
}

fn uid(draft: &Draft, user: &str) -> Option<u32> {
    user.parse().ok().or_else(|| draft.host.accounts.get(user).map(|(uid, _)| *uid))
}

/// The file with the password: whether it is there, whether it is a secret, and whether the server takes all of it.
pub(super) fn password(draft: &mut Draft, file: &Path, most: Option<u64>) {
    const KEY: &str = "display.password";
    const FIELD: &str = "display.password_file";
    let Some(fact) = account::exists(draft, KEY, FIELD, "the file with the password", file) else { return };
    account::launcher_reads(draft, KEY, FIELD, "the file with the password", file, &fact);
    let shown = file.display();
    if fact.mode & 0o004 != 0 && fact.closed_folder.is_none() {
        let detail = format!("every user of this host can read the password in {shown} (mode {:o})", fact.mode);
        draft.no("display.password.secret", Soft, detail, &format!("`chmod 600 {shown}`"));
        draft.about(FIELD);
    }
    // With a line's end.
    if let Some(most) = most.filter(|most| fact.size > most + 1) {
        let detail = format!("VNC takes the first {most} characters of a password; {shown} has more");
        draft.no(
            "display.password.length",
            Soft,
            detail,
            "use `display: Spice`, or a password of 8 characters and `tls`",
        );
        draft.about(FIELD);
    }
}

/// A file with a certificate or key: whether it is there, and whether it is one.
pub(super) fn pem(draft: &mut Draft, file: &Path, field: &str, label: &str) {
    let (key, field) = (format!("display.tls.{field}"), format!("display.tls.{field}"));
    let Some(fact) = account::exists(draft, &key, &field, "the file", file) else { return };
    if !account::launcher_reads(draft, &key, &field, "the file", file, &fact) {
        return;
    }
    match &fact.pem {
        None => draft.unknown(
            &key,
            Hard,
            format!("whether {} has a {label} in PEM's form could not be read", file.display()),
        ),
        Some(labels) if labels.iter().any(|found| found.ends_with(label)) => return,
        Some(labels) => {
            let found = if labels.is_empty() { "nothing in PEM's form".to_owned() } else { labels.join(", ") };
            let detail = format!("{} has no {label}; it has {found}", file.display());
            let remedy = "name a file that has a line `-----BEGIN …-----`; `openssl x509 -inform der` converts others";
            draft.no(&key, Hard, detail, remedy);
        }
    }
    draft.about(&field);
}
