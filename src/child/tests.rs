//! A child is what was set for it, and a failure names its step.

use std::io::Write;
use std::time::{Duration, Instant};

use super::setup::{check, leave_session_keyring, mask};
use super::steps::STEPS;
use super::*;

fn output(mut command: Command) -> String {
    command.stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn pipe_with(text: &str) -> OwnedFd {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    std::fs::File::from(write).write_all(text.as_bytes()).unwrap();
    read
}

#[test]
fn descriptors_reach_their_numbers_even_when_these_are_each_other() {
    let (first, second) = (pipe_with("first"), pipe_with("second"));
    let (a, b) = (first.as_raw_fd(), second.as_raw_fd());
    let mut cat = Command::new("/bin/cat");
    cat.arg(format!("/proc/self/fd/{a}")).arg(format!("/proc/self/fd/{b}"));
    cat.fd(b, first).fd(a, second);
    assert_eq!(output(cat), "secondfirst");
}

#[test]
fn no_other_descriptor_reaches_it() {
    let leaked = pipe_with("");
    // SAFETY: clears close-on-exec on a descriptor of this test.
    unsafe { libc::fcntl(leaked.as_raw_fd(), libc::F_SETFD, 0) };
    let mut ls = Command::new("/bin/ls");
    ls.arg("/proc/self/fd").fd(9, pipe_with(""));
    // 3 is what `ls` itself opens.
    assert_eq!(output(ls).split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3", "9"]);
}

#[test]
fn a_descriptor_is_given_once_and_never_as_a_standard_one() {
    for numbers in [[3, 3], [2, 3]] {
        let mut cat = Command::new("/bin/true");
        cat.fd(numbers[0], pipe_with("")).fd(numbers[1], pipe_with(""));
        assert_eq!(cat.spawn().unwrap_err().step, STEPS[usize::from(DESCRIPTORS)]);
    }
}

#[test]
fn what_was_set_holds_in_the_child() {
    let mut cat = Command::new("/bin/cat");
    cat.arg("/proc/self/status").arg("/proc/self/limits");
    cat.umask(0o027).affinity(&"0".parse().unwrap());
    cat.rlimit(Resource::RLIMIT_CORE, 0, 0).death_signal(Signal::SIGKILL).session(Session::Own);
    cat.block_signals(&[Signal::SIGTERM, Signal::SIGHUP]);
    let text = output(cat);
    for line in ["Umask:\t0027\n", "Cpus_allowed_list:\t0\n", "SigBlk:\t0000000000004001\n"] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    let core = text.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
}

#[test]
fn a_failure_names_its_step() {
    let mut nowhere = Command::new("/bin/true");
    nowhere.affinity(&"8000-8191".parse().unwrap()).fd(3, pipe_with(""));
    let error = nowhere.spawn().unwrap_err();
    assert_eq!(error.to_string(), "cannot start /bin/true: could not set its CPUs");
    // With 3 as a target, std's own error pipe must not have been run over.
    let mut missing = Command::new("/nonexistent/program");
    missing.fd(3, pipe_with("")).fd(4, pipe_with("")).fd(5, pipe_with(""));
    let error = missing.spawn().unwrap_err();
    assert_eq!((error.step, error.source.kind()), ("start it", io::ErrorKind::NotFound));
}

#[test]
fn a_setup_that_is_only_tried_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ran = folder.path().join("ran");
    let mut touch = Command::new("/bin/touch");
    touch.arg(&ran).session(Session::Own);
    touch.try_setup().unwrap();
    assert!(!ran.exists());
    let mut nowhere = Command::new("/bin/touch");
    nowhere.affinity(&"8000-8191".parse().unwrap());
    assert_eq!(nowhere.try_setup().unwrap_err().step, "set its CPUs");
}

#[test]
#[ignore = "needs root"]
fn as_root_it_becomes_exactly_the_user() {
    let mut cat = Command::new("/bin/cat");
    cat.arg("/proc/self/status").user(65534, 65533, &[65532, 65531]).death_signal(Signal::SIGTERM);
    let text = output(cat);
    for line in ["Uid:\t65534\t65534\t65534\t65534\n", "Gid:\t65533\t65533\t65533\t65533\n", "Groups:\t65531 65532"] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
}

#[test]
#[ignore = "needs root"]
fn as_root_another_users_child_has_no_key_of_our_session() {
    let (kind, name, key) = (c"user", c"vfio-run-test", b"hunter2");
    leave_session_keyring().unwrap();
    // SAFETY: two strings that end in zero, and bytes with their length; -3 is KEY_SPEC_SESSION_KEYRING.
    let added = unsafe {
        libc::syscall(libc::SYS_add_key, kind.as_ptr(), name.as_ptr(), key.as_ptr(), key.len(), -3 as libc::c_long)
    };
    check(added).unwrap();
    for (other, kept) in [(false, true), (true, false)] {
        let mut cat = Command::new("/bin/cat");
        cat.arg("/proc/keys");
        if other {
            cat.user(65534, 65534, &[]);
        }
        assert_eq!(output(cat).contains("vfio-run-test"), kept, "as another user: {other}");
    }
}

#[test]
#[ignore = "needs root"]
fn as_root_another_users_child_dies_with_its_parent() {
    // The kernel forgets the signal when the user changes, so the order in `Setup::run` matters. It is sent when the
    // thread that spawned the child ends.
    let spawner = std::thread::spawn(|| {
        let mut sleep = Command::new("/bin/sleep");
        sleep.arg("60").user(65534, 65534, &[]).death_signal(Signal::SIGKILL);
        sleep.spawn().unwrap()
    });
    let mut child = spawner.join().unwrap();
    let ended = wait_until(&mut child, Instant::now() + Duration::from_secs(10)).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended.expect("the child lives on")), Some(9));
}

#[test]
fn the_mask_is_the_kernels() {
    assert_eq!(mask(&"0,63-64,130".parse().unwrap()), [1 | 1 << 63, 1, 4]);
    assert_eq!(mask(&CpuSet::new()), [0]);
}
