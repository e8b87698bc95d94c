//! Signs of life of the guest, and what follows from the first one or from none.

use std::path::Path;

use super::guest::Guest;
use crate::machine::Sign;
use crate::run::reporting::keep_in_run_dir;
use crate::run::supervising::dead_man_switch::Verdict;
use crate::run::supervising::signs_of_life;

/// There from the guest's first sign of life on, for a launcher that takes over.
const ALIVE_FILE: &str = "alive";

/// Whether an earlier launcher of this run saw a sign of life.
pub fn was_alive(run_dir: &Path) -> bool {
    run_dir.join(ALIVE_FILE).exists()
}

/// Forgets that a sign of life was seen: the guest restarts, and must show one again.
pub fn forget_alive(run_dir: &Path) {
    // Mostly there is none.
    drop(std::fs::remove_file(run_dir.join(ALIVE_FILE)));
}

impl Guest<'_> {
    /// Handles a sign of life.
    pub(super) fn on_sign_of_life(&mut self, sign: Sign) {
        self.note_sign(sign);
        if self.switch.as_mut().is_some_and(|switch| switch.switch.sees(sign)) {
            self.keep_devices(sign);
        }
    }

    /// The report has the first sign, whoever looks for one.
    pub(super) fn note_sign(&mut self, sign: Sign) {
        if self.timeline.sign(sign) {
            keep_in_run_dir(&self.plan.paths.run, self.timeline.report());
        }
    }

    /// The guest keeps its devices, also when another launcher takes it over.
    pub(super) fn keep_devices(&mut self, sign: Sign) {
        self.switch = None;
        tracing::info!(event = "alive", "{} shows a sign of life: {sign}", self.plan.name);
        if let Err(error) = std::fs::write(self.plan.paths.run.join(ALIVE_FILE), "") {
            tracing::warn!(
                "cannot write down that the guest showed a sign of life, so a launcher that takes over will wait for one: {error}"
            );
        }
    }

    /// Looks for a sign of life, and ends the guest if it is too late for one.
    pub(super) async fn look_for_life(&mut self) {
        let signs = signs_of_life::visible_signs(self.plan, self.qmp.as_mut()).await;
        let Some(switch) = &mut self.switch else { return };
        let verdict = switch.switch.looked(&signs, switch.left());
        switch.set_next_look();
        match verdict {
            Verdict::Wait => {}
            Verdict::Lives(sign) => {
                self.note_sign(sign);
                self.keep_devices(sign);
            }
            Verdict::GiveBack => {
                if let Some(missed) = switch.switch.missed() {
                    tracing::error!(
                        event = "give-back",
                        "{missed}; the host gets the devices of {} back",
                        self.plan.name
                    );
                }
                self.force_quit().await;
            }
        }
    }
}
