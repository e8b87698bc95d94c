//! What is tuned at one word: its fields are decided as if they were written, but what the host lacks of them matters less.

use super::super::Severity::Soft;
use super::super::Verdict;
use super::super::draft::Draft;

/// What a word that stands for several fields asks for, and the host does not have.
#[derive(Default)]
pub(super) struct Missed {
    fields: Vec<String>,
    made: usize,
}

impl Missed {
    const FIELD: &str = "host.tune";

    /// Decides a field. If the file does not write it, that it cannot be done matters less, and the word is the reason.
    pub fn unless_written(&mut self, draft: &mut Draft, field: &str, decide: impl FnOnce(&mut Draft)) {
        let (findings, changes) = (draft.findings.len(), draft.changes.len());
        let written = draft.machine.host.writes(field.trim_start_matches("host."));
        decide(draft);
        if written {
            return;
        }
        let found = draft.findings.split_off(findings);
        let origin = draft.file(Self::FIELD);
        draft.changes[changes..].iter_mut().for_each(|made| made.origin = origin.clone());
        match found.iter().find(|finding| finding.ok != Verdict::Yes) {
            Some(why) => self.fields.push(format!("{} ({})", field.trim_start_matches("host."), why.detail)),
            None => draft.findings.extend(found),
        }
        self.made += 1;
    }

    /// Says it, if the word was written.
    pub fn tell(self, draft: &mut Draft) {
        if self.made == 0 {
            return;
        }
        let without =
            if self.fields.is_empty() { String::new() } else { format!("; not here: {}", self.fields.join("; ")) };
        if self.fields.len() < self.made {
            return draft.yes(Self::FIELD, Soft, format!("the host is tuned for the run{without}"));
        }
        draft.no(
            Self::FIELD,
            Soft,
            format!("nothing can be tuned{without}"),
            "start as root, or leave `host.tune` out",
        );
        draft.about(Self::FIELD);
    }
}
