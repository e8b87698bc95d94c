//! Running tools of this machine: always an argument list, never a shell, always with what the tool said.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Debian package that brings each tool the lab uses on this machine, besides the QEMU of [`qemu`].
pub const TOOLS: &[(&str, &str)] = &[
    ("qemu-img", "qemu-utils"),
    ("mmdebstrap", "mmdebstrap"),
    ("mke2fs", "e2fsprogs"),
    ("tar", "tar"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
    ("gcc", "gcc"),
    ("objcopy", "binutils"),
    ("iasl", "acpica-tools"),
];

/// Environment variable that names the QEMU 10 of `scripts/qemu10`.
pub const QEMU: &str = "VFIO_RUN_QEMU10";

/// The QEMU that emulates lab hosts: what `scripts/qemu10` got, the same on every machine. Software emulation has become
/// nearly twice as fast from QEMU 7.2 to 10.0.
///
/// # Errors
/// When it is not there.
pub fn qemu() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os(QEMU) {
        return Ok(given.into());
    }
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let caches = [std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from), home];
    let own = caches.into_iter().flatten().map(|cache| cache.join("vfio-run-qemu10"));
    // Where the script puts it for root, and for others.
    let folders = std::iter::once(PathBuf::from("/var/cache/vfio-run-qemu10")).chain(own);
    let mut launchers = folders.map(|folder| folder.join("qemu-system-x86_64"));
    launchers.find(|launcher| launcher.exists()).context("no QEMU 10 to emulate a host with; `scripts/qemu10` gets it")
}

/// Runs `program` to its end and gives its standard output.
///
/// # Errors
/// When it cannot be started (naming the Debian package that has it) or ends with a failure (with its last words).
pub fn run<P, I, S>(program: P, args: I) -> Result<String>
where
    P: AsRef<OsStr>,
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(&program);
    // mke2fs and friends live in sbin, which a plain user's PATH often lacks.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command.args(args).stdin(Stdio::null());
    finish(&program.as_ref().to_string_lossy(), &mut command)
}

/// What `tool`, `xz` or `zstd`, unpacks from a file.
pub fn unpack(tool: &str, file: &Path) -> Result<Vec<u8>> {
    let output = Command::new(tool).arg("-dc").arg(file).stdin(Stdio::null()).output();
    let output = output.with_context(|| missing(tool))?;
    if !output.status.success() {
        bail!("{tool} cannot unpack {}: {}", file.display(), tail(&output.stderr));
    }
    Ok(output.stdout)
}

/// Like [`run`], for a command that was put together elsewhere.
pub fn finish(program: &str, command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| missing(program))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}\n{}{}", output.status, tail(&output.stdout), tail(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Tells how to get a tool that could not be started.
fn missing(program: &str) -> String {
    match TOOLS.iter().find(|(tool, _)| *tool == program) {
        Some((_, package)) => format!(
            "cannot start `{program}`; it is in the Debian package `{package}` (`./scripts/lab images` installs it)"
        ),
        None => format!("cannot start `{program}`"),
    }
}

/// The last lines of a tool's output: enough to see what went wrong.
fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(30);
    lines[from..].iter().map(|line| format!("  {line}\n")).collect()
}
