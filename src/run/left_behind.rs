//! What QEMU and the helpers leave running when they end. In QEMU's sandbox no process can be started; a QEMU that was built
//! without one, and that a guest has taken over, could start some, and they would have the guest's images open.

use anyhow::Result;
use nix::unistd::Pid;

use crate::run::process::Watched;

/// So many times is looked for processes that those have started which were ended.
const ROUNDS: usize = 64;

/// Has the kernel make us the parent of what our children leave behind (`PR_SET_CHILD_SUBREAPER`, prctl(2)).
pub fn take_in() {
    let us = rustix::process::getpid();
    if let Err(error) = rustix::process::set_child_subreaper(Some(us)) {
        tracing::debug!("cannot take in what QEMU may leave behind: {error}");
    }
}

/// Ends our children of this account, which none of ours but QEMU's and the helpers' are. Returns a message for each that
/// does not end.
pub async fn end(account: u32) -> Vec<String> {
    for _ in 0..ROUNDS {
        let found: Vec<i32> = children().into_iter().filter(|pid| user(*pid) == Some(account)).collect();
        if found.is_empty() {
            return Vec::new();
        }
        let mut stuck = Vec::new();
        for pid in found {
            tracing::warn!("process {pid}, which QEMU or a helper started, still ran and was killed");
            stuck.extend(kill(pid).await.err().map(|error| format!("{error:#}")));
        }
        if !stuck.is_empty() {
            return stuck;
        }
    }
    vec![format!("processes of QEMU's account {account} start others faster than they are ended")]
}

async fn kill(pid: i32) -> Result<()> {
    let process = Watched::child(pid)?;
    process.end("a process that QEMU started").await?;
    process.reap();
    Ok(())
}

/// Our children, if the kernel lists them (CONFIG_PROC_CHILDREN). The launcher has one thread.
fn children() -> Vec<i32> {
    let us = Pid::this();
    let listed = std::fs::read_to_string(format!("/proc/{us}/task/{us}/children")).unwrap_or_default();
    listed.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The real user of a process that has not ended.
pub(in crate::run) fn user(pid: i32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    if field("State:")?.trim_start().starts_with(['Z', 'X']) {
        return None;
    }
    field("Uid:")?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use super::*;

    #[tokio::test]
    #[ignore = "starts a process of another user, so it needs root: scripts/test runs it"]
    async fn what_a_child_left_behind_in_sessions_of_its_own_is_ended() {
        const ACCOUNT: u32 = 61_999;
        take_in();
        let mut shell = Command::new("sh");
        shell.args(["-c", "setsid sh -c 'sleep 600 & setsid sleep 600' & echo started"]).uid(ACCOUNT).gid(ACCOUNT);
        let said = shell.stderr(std::process::Stdio::null()).status().unwrap();
        assert!(said.success());
        let ours = || children().into_iter().filter(|pid| user(*pid) == Some(ACCOUNT)).count();
        assert!(ours() > 0);
        assert_eq!(end(ACCOUNT).await, Vec::<String>::new());
        assert_eq!(ours(), 0);
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        assert_eq!(pids.filter(|pid| user(*pid) == Some(ACCOUNT)).count(), 0);
    }
}
