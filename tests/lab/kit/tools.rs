//! Running tools of this machine: always an argument list, never a shell, always with what the tool said.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Debian package that brings each tool the lab uses on this machine.
pub const TOOLS: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("qemu-img", "qemu-utils"),
    ("mmdebstrap", "mmdebstrap"),
    ("mke2fs", "e2fsprogs"),
    ("tar", "tar"),
    ("xz", "xz-utils"),
    ("gcc", "gcc"),
    ("objcopy", "binutils"),
    ("iasl", "acpica-tools"),
];

/// Files that are needed without being a tool, and their package.
pub const FILES: &[(&str, &str)] = &[("/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf")];

/// Runs `program` to its end and gives its standard output.
///
/// # Errors
/// When it cannot be started (naming the Debian package that has it) or ends with a failure (with its last words).
pub fn run<I, S>(program: &str, args: I) -> Result<String>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(program);
    // mke2fs and friends live in sbin, which a plain user's PATH often lacks.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command.args(args).stdin(Stdio::null());
    finish(program, &mut command)
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
