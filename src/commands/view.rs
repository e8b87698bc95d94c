//! `vfio-run view NAME`: opens the guest's screen with a program of the user's desktop.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rustix::fs::Access;

use super::shared::{machines, programs};
use crate::cli::{OutputArgs, ViewArgs};
use crate::plan::{Screen, Server, authority, screen};
use crate::units::exit;
use crate::{host, report, run};

/// Where root's machines have the sockets of their screens, which others may pass through to what is theirs.
const OF_ROOT: &str = "/run/vfio-run-display";
/// Memory of Looking Glass.
const LOOKING_GLASS: [&str; 2] = ["/dev/kvmfr0", "/dev/shm/looking-glass"];

/// A program that shows a screen.
#[derive(Debug, PartialEq, Eq)]
struct Viewer {
    program: &'static str,
    arguments: Vec<String>,
    /// Debian's package.
    package: &'static str,
}

impl Viewer {
    fn new(program: &'static str, package: &'static str, arguments: &[String]) -> Self {
        Self { program, package, arguments: arguments.to_vec() }
    }

    /// As it is pasted into a shell.
    fn line(&self) -> String {
        let mut line = self.program.to_owned();
        for argument in &self.arguments {
            // Writing to a text does not fail.
            let _ = write!(line, " {}", crate::units::quoted(argument));
        }
        line
    }
}

/// Starts the first viewer that is installed, in place of this process.
pub fn view(args: &ViewArgs, output: OutputArgs) -> Result<u8> {
    let name = args.name.as_str();
    let (screen, authority) = find(name)?;
    let viewers = viewers(&screen, authority.as_deref(), name)?;
    let installed = |viewer: &&Viewer| programs::is_installed(OsStr::new(viewer.program));
    let first = viewers.first().context("there is no program for this screen")?;
    let chosen = viewers.iter().find(installed);
    if args.print || output.json {
        let shown = chosen.unwrap_or(first);
        if output.json {
            let value = serde_json::json!({
                "name": name, "program": shown.program, "arguments": shown.arguments, "installed": chosen.is_some(),
            });
            report::json(&value)?;
        } else {
            report::say(&shown.line());
        }
        return Ok(exit::OK);
    }
    let Some(viewer) = chosen else {
        let all: Vec<String> =
            viewers.iter().map(|v| format!("{} (Debian: package {})", v.program, v.package)).collect();
        bail!("no program that shows this screen is in PATH; install {}", all.join(" or "));
    };
    if rustix::process::geteuid().is_root() {
        // Which port it is only root knows.
        let again = match screen {
            Screen::Spice(Server::Port { .. }) | Screen::Vnc(Server::Port { .. }) => String::new(),
            _ => format!("`vfio-run view {name}`, or "),
        };
        bail!(
            "a viewer is a program of your desktop, and is not started as root; without sudo: {again}`{}`",
            viewer.line()
        );
    }
    if ["WAYLAND_DISPLAY", "DISPLAY"].iter().all(|name| std::env::var_os(name).is_none_or(|value| value.is_empty())) {
        let line = viewer.line();
        bail!(
            "this session has no desktop for a viewer (neither WAYLAND_DISPLAY nor DISPLAY is set); on the desktop: \
             `{line}`, from another computer: `vfio-run man display`, without either: `vfio-run screenshot {name} FILE.png`"
        );
    }
    tracing::info!("{}", viewer.line());
    let failed = std::process::Command::new(viewer.program).args(&viewer.arguments).exec();
    Err(failed).with_context(|| format!("cannot start {}", viewer.program))
}

/// The screen of a machine of this user's, or of root's if its socket is this user's; and the file of the authority by which a
/// viewer knows a server that encrypts.
fn find(name: &str) -> Result<(Screen, Option<PathBuf>)> {
    let run_dir = machines::run_dir(name)?;
    if run::guest_runs(&run_dir) {
        machines::refuse_stopped_qemu(name, &run_dir)?;
        let plan = run::kept_plan(&run_dir)?;
        let screen = screen(&plan).with_context(|| {
            if plan.has_screen() {
                return format!(
                    "nobody serves the screen of {name}: `display: Spice` in its file does; `vfio-run screenshot {name} FILE.png` works"
                );
            }
            let card = match plan.leases.is_empty() {
                true => "",
                false => "a graphics card in `pci` shows the guest on its own outputs; ",
            };
            format!("{name} has no emulated screen: {card}`display: Spice` in its file gives it one")
        })?;
        return Ok((screen, authority(&plan).map(Path::to_owned)));
    }
    let folder = Path::new(OF_ROOT).join(name);
    let of_root = Path::new("/run/vfio-run");
    // Only a machine with a socket or TLS has a folder there.
    if host::run_dir() == of_root || !(folder.is_dir() || of_root.join(name).is_dir()) {
        bail!(machines::does_not_run(name));
    }
    let (spice, vnc) = (folder.join("spice.sock"), folder.join("vnc.sock"));
    let may = |path: &PathBuf| rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK).is_ok();
    let memory = LOOKING_GLASS.iter().map(PathBuf::from).find(may);
    let screen = match (spice.exists(), vnc.exists()) {
        (true, _) if may(&spice) => match memory {
            Some(memory) => Screen::LookingGlass { memory, spice: Some(spice) },
            None => Screen::Spice(Server::Socket(spice)),
        },
        (false, true) if may(&vnc) => Screen::Vnc(Server::Socket(vnc)),
        (false, false) => {
            bail!(
                "{name} is root's, and has no socket of a screen; `sudo vfio-run view --print {name}` prints the command for a port"
            )
        }
        _ => bail!(
            "the screen of {name} is another user's; `for_user` in its `display` says whose it is, else it is the one whose \
             desktop it was at the start"
        ),
    };
    Ok((screen, None))
}

/// The programs that show this screen, the best first.
fn viewers(screen: &Screen, authority: Option<&Path>, name: &str) -> Result<Vec<Viewer>> {
    let path = |path: &Path| path.display().to_string();
    let known_by = |option: &str| authority.map(|file| format!("{option}={}", file.display()));
    Ok(match screen {
        Screen::LookingGlass { memory, spice } => {
            let mut arguments = vec!["-f".to_owned(), path(memory)];
            match spice {
                Some(socket) => arguments.extend(["-c".to_owned(), path(socket), "-p".to_owned(), "0".to_owned()]),
                None => arguments.push("spice:enable=no".to_owned()),
            }
            let mut viewers = vec![Viewer::new("looking-glass-client", "looking-glass-client", &arguments)];
            viewers.extend(spice.iter().map(|socket| remote_viewer(format!("spice+unix://{}", path(socket)))));
            viewers
        }
        Screen::Spice(Server::Socket(socket)) => vec![remote_viewer(format!("spice+unix://{}", path(socket)))],
        Screen::Spice(Server::Port { address, port, tls }) => {
            let here = here(address);
            let mut viewer = remote_viewer(match tls {
                true => format!("spice://{here}?tls-port={port}"),
                false => format!("spice://{here}:{port}"),
            });
            viewer.arguments.splice(..0, known_by("--spice-ca-file"));
            vec![viewer]
        }
        Screen::Vnc(Server::Socket(socket)) => vnc_viewers(&path(socket)),
        Screen::Vnc(Server::Port { address, port, .. }) => {
            let here = here(address);
            let mut viewers = vnc_viewers(&format!("{here}::{port}"));
            viewers.iter_mut().for_each(|viewer| drop(viewer.arguments.splice(..0, known_by("-X509CA"))));
            viewers.push(remote_viewer(format!("vnc://{here}:{port}")));
            viewers
        }
        Screen::Window(kind) => bail!("the screen of {name} is a {kind} window of the desktop that started it"),
        Screen::Dbus => bail!(
            "the screen of {name} is on the session bus as org.qemu, for programs made with libmks (`vfio-run man display`)"
        ),
    })
}

fn remote_viewer(uri: String) -> Viewer {
    Viewer::new("remote-viewer", "virt-viewer", &[uri])
}

/// TigerVNC's, which also takes a path; Debian has it under two names.
fn vnc_viewers(to: &str) -> Vec<Viewer> {
    ["vncviewer", "xtigervncviewer"].map(|program| Viewer::new(program, "tigervnc-viewer", &[to.to_owned()])).into()
}

/// From here, a server that listens everywhere is on the loopback interface.
fn here(address: &str) -> &str {
    match address {
        "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_screen_has_its_viewers() {
        let port = |address: &str, tls| Server::Port { address: address.to_owned(), port: 5930, tls };
        for (screen, lines) in [
            (
                Screen::Spice(Server::Socket("/r/a b/spice.sock".into())),
                "remote-viewer 'spice+unix:///r/a b/spice.sock'",
            ),
            (Screen::Spice(port("0.0.0.0", false)), "remote-viewer spice://127.0.0.1:5930"),
            (Screen::Spice(port("[::]", true)), "remote-viewer 'spice://[::1]?tls-port=5930'"),
            (Screen::Vnc(Server::Socket("/r/vnc.sock".into())), "vncviewer /r/vnc.sock; xtigervncviewer /r/vnc.sock"),
            (
                Screen::Vnc(port("10.0.0.1", false)),
                "vncviewer 10.0.0.1::5930; xtigervncviewer 10.0.0.1::5930; remote-viewer vnc://10.0.0.1:5930",
            ),
            (
                Screen::LookingGlass { memory: "/dev/kvmfr0".into(), spice: Some("/r/spice.sock".into()) },
                "looking-glass-client -f /dev/kvmfr0 -c /r/spice.sock -p 0; remote-viewer spice+unix:///r/spice.sock",
            ),
            (
                Screen::LookingGlass { memory: "/dev/kvmfr0".into(), spice: None },
                "looking-glass-client -f /dev/kvmfr0 spice:enable=no",
            ),
        ] {
            let shown: Vec<String> = viewers(&screen, None, "a").unwrap().iter().map(Viewer::line).collect();
            assert_eq!(shown.join("; "), lines);
        }
        for (screen, words) in [(Screen::Window("gtk".to_owned()), "a gtk window"), (Screen::Dbus, "session bus")] {
            assert!(viewers(&screen, None, "a").unwrap_err().to_string().contains(words));
        }
    }

    #[test]
    fn a_viewer_is_told_the_authority_of_a_server_that_encrypts() {
        let port = |tls| Server::Port { address: "127.0.0.1".to_owned(), port: 5930, tls };
        for (screen, line) in [
            (Screen::Spice(port(true)), "remote-viewer --spice-ca-file=/e/h.pem 'spice://127.0.0.1?tls-port=5930'"),
            (Screen::Vnc(port(false)), "vncviewer -X509CA=/e/h.pem 127.0.0.1::5930"),
        ] {
            assert_eq!(viewers(&screen, Some(Path::new("/e/h.pem")), "a").unwrap()[0].line(), line);
        }
    }
}
