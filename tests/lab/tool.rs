//! `scripts/lab`: builds images, opens a shell in a lab host, cleans up.
// The tool uses a part of what the lab offers.
#![allow(dead_code, unused_imports)]

mod console;
mod kit;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use kit::argv::Watch;
use kit::host::Host;
use kit::images::{self, Release};
use kit::{cache, variants};

const USAGE: &str = "\
usage: scripts/lab COMMAND
  images [RELEASE]                     build what is missing of the images
  list                                 the variants of lab hosts
  shell VARIANT [RELEASE] [--vnc N]    a root shell in such a host, with its screen at VNC display N
  shell FOLDER/host.json [--vnc N]     the same in the host of a failed test
  clean                                remove everything that the lab keeps
releases: debian12, debian13 (the default)";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match command(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command(words: &[&str]) -> Result<()> {
    match words {
        ["images"] => images::build_all(&Release::ALL),
        ["images", release] => images::build_all(&[release.parse()?]),
        ["list"] => {
            for variant in variants::VARIANTS {
                println!("{:12} {}", variant.name, variant.what);
            }
            Ok(())
        }
        ["shell", rest @ ..] => shell(rest),
        ["clean"] => clean(),
        // The test runner passes nothing when it runs all targets: say how to use it, and do nothing.
        [] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("that is no command\n{USAGE}"),
    }
}

fn shell(words: &[&str]) -> Result<()> {
    let (words, vnc) = match words {
        [rest @ .., "--vnc", display] => (rest, Some(display.parse().context("--vnc takes a display number")?)),
        _ => (words, None),
    };
    let host: Host = match words {
        [file] if file.ends_with(".json") => {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
            serde_json::from_str(&text).with_context(|| format!("{file} describes no host"))?
        }
        [variant] => variants::find(variant, "debian13")?,
        [variant, release] => variants::find(variant, release)?,
        _ => bail!("shell takes a variant\n{USAGE}"),
    };
    let (lab, console) = host.start_watched(&Watch { console: true, vnc })?;
    if let Some(display) = vnc {
        eprintln!("lab: the screen is at VNC 127.0.0.1:{display} (port {})", 5900 + display);
    }
    console::sit_at(&lab, console.context("the host has no console")?)?;
    lab.finish()
}

fn clean() -> Result<()> {
    let root = cache::root();
    match std::fs::remove_dir_all(&root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        result => result.with_context(|| format!("cannot remove {}", root.display()))?,
    }
    eprintln!("lab: removed {}", root.display());
    Ok(())
}
