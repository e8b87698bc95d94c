//! The signals that ask for the guest's end.

use std::sync::OnceLock;

use anyhow::Result;
use nix::sys::signal::{SigHandler, Signal as StopSignal};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signal of a terminal that was closed.
pub const HANG_UP: &str = "SIGHUP";

/// A signal asked for the end before the guest ran.
#[derive(Debug, thiserror::Error)]
#[error("{signal} came before {before}")]
pub struct Asked {
    /// Its name.
    pub signal: &'static str,
    /// What was still to come.
    pub before: &'static str,
}

impl Asked {
    /// The signal of this name came before the guest ran.
    pub fn before_guest(signal: &'static str) -> Self {
        Self { signal, before: "the guest ran" }
    }
}

/// SIGINT, SIGTERM, SIGQUIT (Ctrl-\\) and SIGHUP (the terminal was closed), from the moment on that this was made. SIGHUP stays
/// ignored if it was when the program began: that is what `nohup` is for.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    hang_up: Option<Signal>,
    /// Nobody has a reason to send them; they are no reason to leave the guest alone.
    _ignored: [Signal; 2],
}

impl Signals {
    /// Catches them from now on.
    pub fn catch() -> Result<Self> {
        for stops in [StopSignal::SIGTTOU, StopSignal::SIGTTIN] {
            // SAFETY: no handler is installed. In the background (`&`), a message to a terminal with `tostop`, or a look at
            // what is typed, would stop this process; with these ignored they fail or go on (termios(3)).
            unsafe { nix::sys::signal::signal(stops, SigHandler::SigIgn)? };
        }
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            _ignored: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
            hang_up: if ignores_hang_up() { None } else { Some(signal(SignalKind::hangup())?) },
        })
    }

    /// Waits for the next one and names it.
    pub async fn next(&mut self) -> &'static str {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.quit.recv() => "SIGQUIT",
            _ = hang_up => HANG_UP,
        }
    }

    /// The one that came meanwhile, if any.
    pub async fn pending(&mut self) -> Option<&'static str> {
        // The runtime sees signals only when it polls its driver, which one turn of it does.
        tokio::task::yield_now().await;
        tokio::select! {
            biased;
            name = self.next() => Some(name),
            () = std::future::ready(()) => None,
        }
    }
}

/// Whether SIGHUP is ignored (proc_pid_status(5): `SigIgn`, a bit for each signal, from number 1 on).
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (StopSignal::SIGHUP as i32 - 1)) != 0)
}

/// Does `work`, which keeps this thread, and with it the event loop, busy for long. Meanwhile another thread listens, and
/// `work` can ask which signal has come. [`Signals`] that were made before get the signal too.
pub fn while_listening<T>(work: impl FnOnce(&dyn Fn() -> Option<&'static str>) -> T) -> T {
    let came = OnceLock::new();
    let (working, done) = tokio::sync::oneshot::channel::<()>();
    std::thread::scope(|scope| {
        let listener = scope.spawn(|| {
            // A runtime of its own: ours is busy.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut signals = Signals::catch()?;
                tokio::select! {
                    name = signals.next() => drop(came.set(name)),
                    _ = done => {}
                }
                anyhow::Ok(())
            })
        });
        let result = work(&|| came.get().copied());
        drop(working);
        match listener.join() {
            Ok(Ok(())) => {}
            _ => tracing::debug!("signals are only handled after this change"),
        }
        result
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use nix::sys::signal::raise;

    use super::*;

    #[test]
    fn a_signal_is_heard_while_the_event_loop_is_busy() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut signals = Signals::catch().unwrap();
            let heard = while_listening(|came| {
                raise(StopSignal::SIGTERM).unwrap();
                let deadline = Instant::now() + Duration::from_secs(30);
                while came().is_none() && Instant::now() < deadline {
                    // It is heard only if it came after the listener was there.
                    raise(StopSignal::SIGTERM).unwrap();
                    std::thread::sleep(Duration::from_millis(5));
                }
                came()
            });
            assert_eq!(heard, Some("SIGTERM"));
            assert_eq!(signals.next().await, "SIGTERM");
            assert_eq!(while_listening(|came| came()), None);
        });
    }
}
