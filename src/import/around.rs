//! Words before QEMU in a script: which programs start it, and what becomes of that.

use super::account::Verdict;
use super::context::Context;
use super::domain::environment;
use super::hooks::{Outcome, base, isolated};
use crate::units::Stage;

/// What becomes of a starter's words; `None` if nobody knows them.
pub fn of(cx: &mut Context, words: &[&str]) -> Option<Outcome> {
    let done = |words: &str| Some(Outcome(Verdict::DoneByItself, words.to_owned()));
    let left = |words: &str| Some(Outcome(Verdict::LeftOut, words.to_owned()));
    let first = words.first()?;
    if let Some((name, value)) = first.split_once('=') {
        let (verdict, words) = environment(cx, name, value)?;
        return Some(Outcome(verdict, words.to_owned()));
    }
    match base(first) {
        "sudo" | "doas" | "pkexec" | "runuser" | "su" | "machinectl" | "setpriv" => {
            done("root starts the machine if it needs that, and QEMU has a user id of its own (`user` names another)")
        }
        "exec" | "command" | "builtin" | "eval" | "nohup" | "setsid" | "env" | "time" | "stdbuf" | "bash" | "sh" => {
            left("vfio-run starts QEMU, watches it, and does what comes after it")
        }
        "tmux" | "screen" | "xterm" | "konsole" | "gnome-terminal" | "systemd-run" => {
            left("`vfio-run unit` has the machine run without a terminal, and the journal has what it says")
        }
        "taskset" => {
            let cpus = words.last().filter(|cpus| cpus.starts_with(|c: char| c.is_ascii_digit()));
            let listed = words.iter().any(|word| word.starts_with("-") && word.contains('c') && *word != "--");
            let pin =
                cpus.filter(|_| listed).map_or_else(|| "cpu.pin".to_owned(), |cpus| format!("cpu: (pin: {cpus:?})"));
            done(&format!(
                "vfio-run chooses the CPUs of the vCPUs and of QEMU's other threads itself, by the host's caches and cores; \
                 `{pin}` names the vCPUs', one for each"
            ))
        }
        "chrt" | "nice" | "ionice" => done(
            "vfio-run places each thread of QEMU's before the guest runs; `cpu.scheduler: Fifo(1)` gives the vCPUs real time",
        ),
        "numactl" => done("the vCPUs run on one NUMA node if that is large enough, and the guest's memory is there"),
        "cset" | "cgexec" => isolated(cx, Stage::Before.is_start()),
        "systemd-inhibit" | "gnome-session-inhibit" | "caffeinate" => {
            cx.machine.host.no_sleep = Some(true);
            Some(Outcome(
                Verdict::TakenOver,
                "`host.no_sleep`: the host does not sleep while the guest runs".to_owned(),
            ))
        }
        "gdb" | "strace" => left("it is for QEMU's developers"),
        _ => None,
    }
}
