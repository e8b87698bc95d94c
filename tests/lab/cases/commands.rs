//! Running commands in the host: status, output, deadlines, many at once; and the tiny guest that they run.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::kit::argv::Watch;
use crate::kit::console;
use crate::kit::lab::Lab;

/// Reads until `words` have come, or nothing does for a minute.
fn read_until(stream: &mut UnixStream, words: &str) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut seen = Vec::new();
    let mut buffer = [0; 256];
    while !String::from_utf8_lossy(&seen).contains(words) {
        let shown = || format!("`{words}` did not come, but:\n{}", String::from_utf8_lossy(&seen));
        let count = stream.read(&mut buffer).with_context(shown)?;
        ensure!(count > 0, shown());
        seen.extend(&buffer[..count]);
    }
    Ok(())
}

#[test]
fn somebody_who_looks_has_a_root_shell() -> Result<()> {
    for (variant, release) in [("one-gpu", "debian13"), ("plain", "debian12")] {
        let (lab, line) = Lab::variant(variant, release).start_watched(&Watch { console: true, vnc: None })?;
        let line = line.context("the host has no console")?;
        let (mut ours, theirs) = UnixStream::pair()?;
        console::log_in(&lab)?;
        std::thread::scope(|scope| {
            let output = theirs.try_clone()?;
            let sitting = scope.spawn(|| console::connect(line, theirs, output));
            let talked = read_until(&mut ours, "# ").and_then(|()| {
                writeln!(ours, "echo $(whoami) is $((6 * 7))")?;
                read_until(&mut ours, "root is 42")
            });
            ours.write_all(&[console::LEAVE])?;
            sitting.join().map_err(|_| anyhow::anyhow!("the console panicked"))??;
            talked
        })?;
        lab.finish()?;
    }
    Ok(())
}

#[test]
fn what_a_test_does_in_a_host() -> Result<()> {
    let lab = Lab::variant("bare", "debian13").start()?;
    in_turn!(&lab; commands_report_what_they_did_and_late_ones_are_ended, the_tiny_guest_obeys_and_disobeys);
    lab.finish()
}

fn commands_report_what_they_did_and_late_ones_are_ended(lab: &Lab) -> Result<()> {
    let output = lab.run("echo to\\\\the test; echo \"a b\" >&2; exit 7")?;
    ensure!((output.status, output.stdout.as_str(), output.stderr.as_str()) == (7, "to\\the test", "a b"), "{output}");
    ensure!(output.ok().is_err());
    ensure!(lab.sh("seq 1 20000 | tail -n 20000")?.lines().count() == 20000, "long output is cut");
    ensure!(lab.run_as_user("echo \"it's $USER\"")?.stdout == "it's tester");

    let slow = lab.start("echo begun; sleep 60")?;
    ensure!(lab.sh("echo meanwhile")? == "meanwhile");
    ensure!(!slow.has_ended()? && slow.printed()? == "begun");
    slow.signal("INT")?;
    ensure!(slow.wait(Duration::from_secs(10))?.status == 130);

    let late = lab.run_for("echo so far; sleep 60", Duration::from_secs(2));
    let text = format!("{:#}", late.err().unwrap_or_else(|| anyhow::anyhow!("no error")));
    ensure!(text.contains("2 s") && text.contains("so far"), "{text}");
    ensure!(lab.run("pgrep -x sleep")?.status != 0, "the late command still runs");

    let path = lab.install_machine("tiny", "(name: \"it's tiny\")")?;
    ensure!(lab.run_as_user(&format!("cat {path}"))?.stdout == "(name: \"it's tiny\")");
    lab.sh("sleep 60 &")?;
    lab.kill("sleep", "KILL")?;
    ensure!(lab.kill("sleep", "KILL").is_err());
    Ok(())
}

fn the_tiny_guest_obeys_and_disobeys(lab: &Lab) -> Result<()> {
    let guest = |words: &str| {
        format!(
            "exec qemu-system-x86_64 -accel kvm -cpu host,-xsave -M q35 -m 128 -nodefaults \
             -display none -no-reboot -chardev socket,id=c,path=/run/lab/guest.com1,server=on,wait=off,logfile=/run/lab/guest.log \
             -serial chardev:c -monitor unix:/run/lab/guest.mon,server,wait=off -kernel /lab/guests/tiny -append '{words}'"
        )
    };
    let say = |letter: &str| format!("printf {letter} | socat -t 1 - UNIX-CONNECT:/run/lab/guest.com1");
    let press = "echo system_powerdown | socat -t 1 - UNIX-CONNECT:/run/lab/guest.mon";
    let soon = Duration::from_secs(60);

    for (letter, word) in [("q", "TINY BYE"), ("r", "TINY RESET"), ("c", "TINY CRASH")] {
        lab.sh("rm -f /run/lab/guest.*")?;
        let job = lab.start(&guest("polite"))?;
        job.wait_until("grep -q READY /run/lab/guest.log", soon)?;
        lab.sh(&say(letter))?;
        job.wait(soon)?.ok()?;
        ensure!(lab.sh("cat /run/lab/guest.log")?.contains(word), "{letter}");
    }
    lab.sh("rm -f /run/lab/guest.*")?;
    let job = lab.start(&guest("stubborn"))?;
    job.wait_until("grep -q READY /run/lab/guest.log", soon)?;
    lab.sh(press)?;
    lab.wait_until("grep -q 'POWER BUTTON' /run/lab/guest.log", soon)?;
    ensure!(!job.has_ended()?, "it obeyed");
    lab.sh(&say("h"))?;
    lab.wait_until("grep -q HANG /run/lab/guest.log", soon)?;
    lab.kill("qemu-system-x86", "KILL")?;
    ensure!(job.wait(soon)?.status == 137);
    Ok(())
}
