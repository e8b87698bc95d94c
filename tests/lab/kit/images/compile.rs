//! Small programs for a host, compiled here.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::Result;

use crate::kit::tools;

/// What becomes of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A program that needs nothing of the release that it runs on.
    Program,
    /// A library to load before others.
    Preload,
}

/// Compiles a source file, by its name a C or a Rust one.
pub fn compile(kind: Kind, source: &Path, result: &Path) -> Result<()> {
    let is_rust = source.extension().is_some_and(|it| it == "rs");
    let (compiler, flags): (_, &[&str]) = match (is_rust, kind) {
        (true, _) => {
            let optimized = ["-O", "-C", "target-feature=+crt-static", "-C", "panic=abort", "-C", "strip=symbols"];
            ("rustc", &[&["--edition", "2024", "-D", "warnings"], &optimized[..]].concat())
        }
        (false, Kind::Program) => ("gcc", &["-O2", "-Wall", "-Wextra", "-Werror", "-static"]),
        (false, Kind::Preload) => ("gcc", &["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]),
    };
    let files = [OsStr::new("-o"), result.as_os_str(), source.as_os_str()];
    tools::run(compiler, flags.iter().map(OsStr::new).chain(files)).map(drop)
}
