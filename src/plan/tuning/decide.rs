//! Makes changes of the knobs that the machine file asks for, and says if the host cannot do it.

use super::super::Placement;
use super::super::Severity::{Hard, Soft};
use super::super::draft::Draft;
use super::checks::{did_not_look, may_write};
use super::knobs::{KNOBS, Per, Row, Takes};
use super::missed::Missed;
use super::{aio, away, boot};
use crate::change::{Setting, Writes};
use crate::host::{Attribute, Tuning};
use crate::units::PciAddress;

/// Adds all changes that only prepare. `given`: the functions that leave the host, with their interrupts.
pub(in super::super) fn decide(draft: &mut Draft, placement: &Placement, given: &[PciAddress]) {
    let (host, mut missed) = (draft.machine.host.tuned(), Missed::default());
    for row in KNOBS {
        if let Some(value) = (row.asked)(&host) {
            missed.unless_written(draft, row.knob.field, |draft| turn(draft, placement, row, &value));
        }
    }
    away::decide(draft, &host, placement, given, &mut missed);
    missed.tell(draft);
    aio::decide(draft);
    boot::tell(draft, placement);
}

fn turn(draft: &mut Draft, placement: &Placement, row: &Row, value: &str) {
    let (field, host) = (row.knob.field, draft.host);
    let Some(tuning) = &host.tuning else { return did_not_look(draft, field) };
    let numbers = match row.per {
        Per::Policy => tuning.policies.clone(),
        Per::GuestCpu => placement.vcpu_set(),
    };
    let found: Vec<(Setting, &Attribute)> = row
        .knob
        .settings(value, &numbers)
        .into_iter()
        .filter_map(|mut setting| {
            let attribute = tuning.files.get(&setting.path)?;
            if let Some(name) = row.same_as {
                setting.value = tuning.files.get(&setting.path.with_file_name(name))?.text.clone();
            }
            Some((setting, attribute))
        })
        .collect();
    let leave_out = format!("leave `{field}` out");
    let Some((first, _)) = found.first() else {
        let files = row.knob.files.join(", ").replace("{n}", "*");
        let severity = if row.knob.may_be_missing { Soft } else { Hard };
        draft.no(field, severity, format!("this host has no {files}, so there is nothing to set"), &leave_out);
        return draft.about(field);
    };
    for (setting, attribute) in &found {
        if !may_write(draft, field, &setting.path, attribute) {
            return;
        }
        if let Some(offered) = offered(row, tuning, setting, attribute)
            && !offered.contains(&&*setting.value)
        {
            let detail = format!("{} does not take {:?}", setting.path.display(), setting.value);
            let remedy = format!("write one of those that this host has ({}), or {leave_out}", offered.join(", "));
            draft.no(field, Hard, detail, &remedy);
            return draft.about(field);
        }
    }
    let (count, path) = (found.len(), first.path.display());
    let files = if count == 1 { path.to_string() } else { format!("{path} and {} more", count - 1) };
    draft.yes(field, Hard, format!("{}: {files} can be set", row.knob.why));
    let mut files: Vec<Setting> = found.into_iter().map(|(setting, _)| setting).collect();
    // A field of its own sets and restores that one.
    if draft.machine.host.energy_preference.is_none() {
        let forced = forced(row, tuning, &files);
        files.extend(forced);
    }
    draft.change(Writes { what: row.knob.what.to_owned(), files }, draft.file(field));
}

/// What the kernel sets together with these files. It comes after them, so that it is restored when they no longer force it.
fn forced(row: &Row, tuning: &Tuning, files: &[Setting]) -> Vec<Setting> {
    let Some((word, name)) = row.forces else { return Vec::new() };
    let paths = files.iter().filter(|file| file.value == word).map(|file| file.path.with_file_name(name));
    let setting = |path| Setting { may_be_missing: true, may_refuse: vec![libc::EBUSY], ..Setting::new(path, word) };
    paths.filter(|path| tuning.files.contains_key(path)).map(setting).collect()
}

/// The words that the attribute takes, if they are known.
fn offered<'t>(row: &Row, tuning: &'t Tuning, setting: &Setting, attribute: &'t Attribute) -> Option<Vec<&'t str>> {
    let text = match row.takes {
        Takes::All => return None,
        Takes::WordsOf(name) => &tuning.files.get(&setting.path.with_file_name(name))?.text,
        Takes::ItsWords => &attribute.text,
    };
    let words = text.split_ascii_whitespace().map(|word| word.trim_matches(['[', ']']));
    // The energy preference `default` reads back as the word of what the firmware began with.
    Some(words.filter(|word| *word != "default").collect())
}
