//! VNC and SPICE: where the server listens, who may connect, and how clients prove it.

use std::net::IpAddr;

use super::checks::{self, address};
use crate::machine::{Listen, Tls};
use crate::plan::contents::AUTHORITY;
use crate::plan::draft::{self, Draft};
use crate::plan::{Content, Inherited, Link, Viewer};
use crate::qemu::command::QemuOption;

/// VNC counts its displays from this port.
const VNC_BASE: u16 = 5900;
/// Id of the object that holds the password.
const PASSWORD: &str = "password0";
/// Id of the object that holds certificate and key.
const CREDENTIALS: &str = "tls0";
/// The folder of certificate and key in the display folder, and the names that QEMU and SPICE look for there.
const TLS_FOLDER: &str = "tls";
const CERTIFICATE: &str = "server-cert.pem";
const KEY: &str = "server-key.pem";

/// `-vnc`, with the objects that it refers to.
pub(super) fn vnc(draft: &mut Draft, listen: &Listen, origin: crate::units::Origin) -> QemuOption {
    checks::server(draft, draft.qemu.vnc, "vnc");
    checks::network(draft, listen, "VNC");
    let first = match listen.port {
        None => format!("unix:{}", draft::text(&socket(draft, listen, "vnc"))),
        Some(port) => {
            // The machine file's check has refused ports below.
            let number = port.saturating_sub(VNC_BASE);
            match address(listen) {
                IpAddr::V4(address) => format!("{address}:{number}"),
                IpAddr::V6(address) => format!("[{address}]:{number}"),
            }
        }
    };
    let mut vnc = QemuOption::keys("-vnc", Some(&first), origin);
    if password(draft, listen, Some(checks::VNC_PASSWORD)) {
        vnc.set_from("password-secret", PASSWORD, draft.file("display.password_file"));
    }
    if let Some(tls) = &listen.tls {
        let folder = credentials(draft, tls);
        let origin = draft.file("display.tls");
        let mut object = vec![
            ("endpoint", "server".into()),
            ("dir", folder.into()),
            // Clients prove themselves by the password.
            ("verify-peer", false.into()),
        ];
        if tls.ca.is_none() {
            // QEMU wants a certificate that an authority has signed, and takes one signed by itself only unasked.
            object.push(("sanity-check", false.into()));
        }
        draft.object("tls-creds-x509", CREDENTIALS, object, origin.clone());
        vnc.set_from("tls-creds", CREDENTIALS, origin);
    }
    vnc
}

/// `-spice`, with the objects that it refers to.
pub(super) fn spice(draft: &mut Draft, listen: &Listen, origin: crate::units::Origin) -> QemuOption {
    checks::server(draft, draft.qemu.spice, "spice");
    checks::network(draft, listen, "SPICE");
    let spice = QemuOption::keys("-spice", None, origin);
    let mut spice = match (listen.port, &listen.tls) {
        (Some(port), Some(tls)) => {
            let folder = credentials(draft, tls);
            let spice = spice.with("tls-port", port.to_string()).with("addr", address(listen).to_string());
            spice.with("x509-dir", folder)
        }
        (Some(port), None) => spice.with("port", port.to_string()).with("addr", address(listen).to_string()),
        (None, _) => spice.with("unix", "on").with("addr", draft::text(&socket(draft, listen, "spice"))),
    };
    match password(draft, listen, None) {
        true => spice.set_from("password-secret", PASSWORD, draft.file("display.password_file")),
        // Who may connect is a matter of the socket's rights, or of the address, as the file's documentation says.
        false => spice.set("disable-ticketing", "on"),
    }
    spice
}

/// The server's UNIX socket, and whom it is for.
fn socket(draft: &mut Draft, listen: &Listen, name: &str) -> std::path::PathBuf {
    let socket = draft.paths.display.join(format!("{name}.sock"));
    draft.viewer = checks::viewer(draft, listen, &socket).map(|uid| Viewer { uid, socket: socket.clone() });
    socket
}

/// The object with the password, if there is to be one: a file in memory, since arguments can be read by everybody.
fn password(draft: &mut Draft, listen: &Listen, most: Option<u64>) -> bool {
    let Some(file) = &listen.password_file else { return false };
    checks::password(draft, file, most);
    let path = draft.content(Content::Password(file.clone()));
    let origin = draft.file("display.password_file");
    draft.object("secret", PASSWORD, [("file", path.into())], origin);
    true
}

/// The folder in which QEMU finds certificate and key under their names, each a link to a file in memory.
fn credentials(draft: &mut Draft, tls: &Tls) -> String {
    let folder = draft.paths.display.join(TLS_FOLDER);
    let Tls { cert, key, ca } = tls;
    let (ca, ca_field) = (ca.as_ref().unwrap_or(cert), if ca.is_some() { "ca" } else { "cert" });
    for (name, file, field, label) in [
        (CERTIFICATE, cert, "cert", "CERTIFICATE"),
        (KEY, key, "key", "PRIVATE KEY"),
        (AUTHORITY, ca, ca_field, "CERTIFICATE"),
    ] {
        // The one that stands for two is checked once.
        if name != AUTHORITY || field == "ca" {
            checks::pem(draft, file, field, label);
        }
        let fd = draft.inherit(Inherited::Content(Content::Pem { file: file.clone(), label: label.to_owned() }));
        draft.links.push(Link { at: folder.join(name), fd });
    }
    draft::text(&folder)
}
