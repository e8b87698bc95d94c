//! A launcher is killed at any moment: while it takes, while its guest runs, and while it gives back.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};

use super::crash::{Desk, FILE, GUEST_BOOT, RUN_DIR, SOON};

/// Environment variable that has the same moments chosen again.
const SEED: &str = "VFIO_RUN_LAB_SEED";

/// Numbers that are as good as random (xorshift64, Marsaglia 2003).
struct Random(u64);

impl Random {
    /// Others each time, unless somebody wants the same again.
    fn new() -> Result<Self> {
        let seed = match std::env::var(SEED) {
            Ok(text) => text.parse()?,
            Err(_) => SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64,
        };
        eprintln!("the same moments again: {SEED}={seed}");
        Ok(Self(seed.max(1)))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A moment within so long.
    fn within(&mut self, time: Duration) -> Duration {
        time.mul_f64((self.next() % 10_000) as f64 / 10_000.0)
    }

    fn is_heads(&mut self) -> bool {
        self.next() >> 32 & 1 == 1
    }
}

/// For bash: kills the launcher and not its children, after so long; if there is none yet, `otherwise`.
fn kill_after(time: Duration, otherwise: &str) -> String {
    let seconds = time.as_secs_f32().max(0.001);
    format!("exec 9<> <(:); read -r -t {seconds:.3} -u 9; pkill -KILL -o -x vfio-run || {otherwise}")
}

/// Kills the launcher, and as often as not QEMU too, at so many moments as are left; `recover` gives all back each time.
pub fn killed_at_any_moment(desk: &Desk, left: &mut u32) -> Result<()> {
    let mut random = Random::new()?;
    let since = Instant::now();
    let (takes, gives_back) = lasts(desk)?;
    let (mut taking, mut giving) = (0, 0);
    while *left > 0 {
        let job = desk.run("", FILE)?;
        // Half of them: as it gives back.
        let ends = random.is_heads();
        let moment = if ends {
            job.wait_until("grep -q READY /run/lab/guest.log", GUEST_BOOT)?;
            let moment = random.within(gives_back);
            let stop = "/lab/bin/vfio-run stop only >/dev/null 2>&1 &";
            desk.lab.run(&format!("{stop} {}", kill_after(moment, "true")))?;
            moment
        } else {
            // Some are killed while the guest runs.
            let moment = random.within(takes.mul_f32(1.2));
            // A shell takes its time to become the program.
            desk.lab.sh(&kill_after(moment, "until pkill -KILL -o -x vfio-run; do read -r -t 0.01 -u 9; done"))?;
            moment
        };
        *if ends { &mut giving } else { &mut taking } += 1;
        let with_qemu = random.is_heads();
        let record = desk.lab.run(&format!("tail -n 1 {RUN_DIR}/journal"))?.stdout;
        let what = if ends { "it was told to stop" } else { "its start" };
        let when =
            format!("{left} are left: {:.2} s after {what}, with QEMU: {with_qemu}, {record}", moment.as_secs_f32());
        let ended = job.wait(SOON)?;
        ensure!([0, 137].contains(&ended.status), "{when}: {ended}");
        if with_qemu {
            end_qemu(desk)?;
        }
        let recovered = desk.lab.run_for("/lab/bin/vfio-run recover -v", SOON)?;
        if recovered.status == 0 {
            desk.is_as_before(&when, &recovered)?;
        } else {
            // The guest lives.
            ensure!(!with_qemu, "{when}: {recovered}");
            end_qemu(desk)?;
            desk.recover(&when)?;
        }
        *left -= 1;
        eprintln!("{:4.0} s: {when}", since.elapsed().as_secs_f32());
    }
    eprintln!("killed {taking} times while it took or had, {giving} times while it gave back");
    Ok(())
}

/// Kills QEMU, if there is one, and waits until it has nothing any more.
fn end_qemu(desk: &Desk) -> Result<()> {
    desk.lab.run("pkill -KILL -x qemu-system-x86")?;
    desk.lab.wait_until("! pgrep -x qemu-system-x86", SOON)
}

/// How long a run takes until its guest is ready, and until it has given back.
fn lasts(desk: &Desk) -> Result<(Duration, Duration)> {
    let start = Instant::now();
    let job = desk.start(FILE)?;
    let takes = start.elapsed();
    let stop = Instant::now();
    desk.lab.sh("/lab/bin/vfio-run stop only")?;
    let ended = job.wait(SOON)?;
    ensure!(ended.status == 0, "{ended}");
    Ok((takes, stop.elapsed()))
}
