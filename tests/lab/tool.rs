//! `scripts/lab`: builds images, opens a shell in a lab host, cleans up.
#![allow(dead_code, unused_imports, reason = "the tool uses a part of what the lab offers")]

mod bench;
mod console;
mod kit;

use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use kit::argv::Watch;
use kit::host::Host;
use kit::images::{self, Release};
use kit::lab::releases;
use kit::{cache, variants};

/// How long a command of `run` may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(600);

const USAGE: &str = "\
usage: scripts/lab COMMAND
  images [RELEASE]                     build what is missing of the images, and boot each variant once
  list                                 the variants of lab hosts
  shell VARIANT [RELEASE] [--vnc N]    a root shell in such a host, with its screen at VNC display N
  shell FOLDER/host.json [--vnc N]     the same in the host of a failed test
  run VARIANT [RELEASE] -- COMMAND     what a command of bash's says in such a host
  bench                                time a handover, and the black screen, beside the same steps by hand
  bench black                          only how long the screen is black
  bench isolation [RELEASE]            how long busy vCPUs wait on a busy host, with four settings
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
        ["images"] => make(&Release::ALL),
        ["images", release] => make(&[release.parse()?]),
        ["list"] => {
            for variant in variants::VARIANTS {
                println!("{:12} {}", variant.name, variant.what);
            }
            Ok(())
        }
        ["shell", rest @ ..] => shell(rest),
        ["run", variant, "--", command @ ..] => run(variant, "debian13", command),
        ["run", variant, release, "--", command @ ..] => run(variant, release, command),
        ["bench"] => bench::handover().and_then(|()| bench::black::run()),
        ["bench", "black"] => bench::black::run(),
        ["bench", "isolation"] => bench::isolation::run(&releases()),
        ["bench", "isolation", release] => bench::isolation::run(&[*release]),
        ["clean"] => clean(),
        // The test runner passes nothing when it runs all targets: say how to use it, and do nothing.
        [] | ["-h" | "--help" | "help"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("that is no command\n{USAGE}"),
    }
}

/// Builds the images and the templates that tests start from, the releases side by side: one boots its hosts while the
/// packages of the other are still on their way.
fn make(releases: &[Release]) -> Result<()> {
    let queue = Mutex::new(VecDeque::new());
    let locked = || queue.lock().map_err(|_| anyhow!("another template failed"));
    let work = |release: Release| {
        images::build(release)?;
        locked()?.extend(templates(release));
        loop {
            let next = locked()?.pop_front();
            match next {
                Some(host) => host.make_template()?,
                None => return anyhow::Ok(()),
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = releases.iter().map(|release| scope.spawn(|| work(*release))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow!("making images failed"))?)
    })?;
    cache::prune()
}

/// The hosts of the release's templates. Some variants differ only in what is plugged in after the restore.
fn templates(release: Release) -> Vec<Host> {
    let mut hosts: Vec<Host> = Vec::new();
    for variant in variants::VARIANTS.iter().filter(|variant| variant.on.contains(&release)) {
        let host = (variant.build)(Host::new(release));
        if host.has_template() && !hosts.contains(&host.in_template()) {
            hosts.push(host.in_template());
        }
    }
    hosts
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

fn run(variant: &str, release: &str, command: &[&str]) -> Result<()> {
    let lab = variants::find(variant, release)?.start()?;
    let output = lab.run_for(&command.join(" "), COMMAND_LIMIT)?;
    print!("{}", output.stdout);
    eprint!("{}", output.stderr);
    lab.finish()?;
    if output.status == 0 { Ok(()) } else { bail!("it ended with {}", output.status) }
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
