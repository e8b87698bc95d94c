//! The user's own programs in the order that they are run, and whether they can be.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Severity;
use super::draft::Draft;
use crate::host::{FileFact, FileKind};
use crate::units::Origin;
use crate::units::Stage;

/// A program of the user's that is run at a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedHook {
    /// When.
    pub stage: Stage,
    /// The program, by its absolute path, and its arguments.
    pub argv: Vec<String>,
    /// Seconds that it may take.
    pub timeout: u32,
    /// The field that names it.
    pub origin: Origin,
}

impl fmt::Display for PlannedHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.stage)?;
        for word in &self.argv {
            // A reader must see where one word ends, since no shell will cut them.
            match word.is_empty() || word.contains(char::is_whitespace) {
                true => write!(f, " {word:?}")?,
                false => write!(f, " {word}")?,
            }
        }
        Ok(())
    }
}

/// Puts them in order and checks each.
pub(super) fn decide(draft: &mut Draft) -> Vec<PlannedHook> {
    let mut planned = Vec::new();
    for stage in Stage::ALL {
        for (i, hook) in draft.machine.hooks.of(stage).iter().enumerate() {
            let field = format!("hooks.{stage}[{i}]");
            check(draft, stage, i, &field, hook.argv.first().map_or("", String::as_str));
            let origin = draft.file(&field);
            planned.push(PlannedHook { stage, argv: hook.argv.clone(), timeout: hook.timeout(), origin });
        }
    }
    planned
}

fn check(draft: &mut Draft, stage: Stage, index: usize, field: &str, program: &str) {
    // Without a later one the guest runs all the same.
    let severity = if stage.is_start() { Severity::Hard } else { Severity::Soft };
    let key = format!("hook.{stage}{index}.program");
    let Some(file) = draft.host.files.get(std::path::Path::new(program)).cloned() else {
        return draft.unknown(&key, severity, format!("vfio-run did not look for the hook {program}"));
    };
    let process = &draft.host.process;
    let shift = match () {
        () if file.uid == process.uid => 6,
        () if file.gid == process.gid => 3,
        () => 0,
    };
    // Root may execute what anybody may.
    let bits = if process.uid == 0 { 0o111 } else { 0o1 << shift };
    match file.kind {
        None => {
            let near = file.near.as_ref().map(|near| format!("; did you mean {}?", near.display()));
            let detail = format!("the hook {program} does not exist{}", near.unwrap_or_default());
            draft.no(&key, severity, detail, &format!("correct `{field}`, or create the program"));
        }
        Some(FileKind::File) if file.mode & bits != 0 => {
            draft.yes(&key, severity, format!("the hook {program} can be executed"));
        }
        Some(FileKind::File) if file.mode & 0o111 != 0 => {
            let detail = format!("whether you can execute the hook {program} depends on your groups");
            return draft.unknown(&key, severity, detail);
        }
        Some(FileKind::File) => {
            let detail = format!("the hook {program} cannot be executed (mode {:o})", file.mode);
            draft.no(&key, severity, detail, &format!("`chmod +x {program}`, or correct `{field}`"));
        }
        Some(_) => {
            draft.no(&key, severity, format!("the hook {program} is not a program"), &format!("correct `{field}`"));
        }
    }
    draft.about(field);
    safety(draft, stage, index, field, program, &file);
}

/// As root, a program that others may write to makes them root.
fn safety(draft: &mut Draft, stage: Stage, index: usize, field: &str, program: &str, file: &FileFact) {
    let by_others = file.uid != 0 || file.mode & 0o002 != 0 || (file.gid != 0 && file.mode & 0o020 != 0);
    if draft.host.process.uid != 0 || file.kind != Some(FileKind::File) || !by_others {
        return;
    }
    let detail = format!(
        "the hook {program} runs as root, and others can write to it (user {}, group {}, mode {:o})",
        file.uid, file.gid, file.mode
    );
    let remedy = format!("`chown root: {program}` and `chmod go-w {program}`");
    draft.no(&format!("hook.{stage}{index}.owner"), Severity::Soft, detail, &remedy);
    draft.about(field);
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Shape, host, plan};
    use super::super::{Finding, Plan, Verdict};
    use std::path::PathBuf;

    use super::*;
    use crate::host::Host;

    fn program(uid: u32, mode: u32) -> FileFact {
        FileFact { kind: Some(FileKind::File), uid, gid: uid, mode, ..FileFact::default() }
    }

    fn with(hooks: &str, us: u32, files: &[(&str, FileFact)]) -> Plan {
        let mut host: Host = host(Shape::simple(4, 1));
        host.process.uid = us;
        host.process.gid = us;
        host.files = files.iter().map(|(path, file)| (PathBuf::from(path), file.clone())).collect();
        plan(&format!("(guest: Other, memory: (size: \"1 GiB\"), hooks: ({hooks}))"), &host)
    }

    fn found<'a>(plan: &'a Plan, key: &str) -> Option<&'a Finding> {
        plan.findings.iter().find(|finding| finding.key == key)
    }

    #[test]
    fn they_come_in_the_order_of_the_stages_with_their_limits() {
        let plan = with(
            r#"restored: [["/on"]], before: [["/off", "all the lights"], (argv: ["/two"], timeout: 5)]"#,
            1000,
            &[("/off", program(0, 0o755)), ("/two", program(1000, 0o700)), ("/on", program(0, 0o755))],
        );
        let shown: Vec<String> = plan.hooks.iter().map(|hook| format!("{hook}, {} s", hook.timeout)).collect();
        assert_eq!(shown, ["before: /off \"all the lights\", 30 s", "before: /two, 5 s", "restored: /on, 30 s"]);
        assert!(plan.findings.iter().all(|f| !f.key.starts_with("hook.") || f.ok == Verdict::Yes));
    }

    #[test]
    fn a_program_that_cannot_be_run_forbids_the_start_only_before_the_guest() {
        let missing = FileFact::default();
        for (file, us) in [(missing, 0), (program(0, 0o644), 0), (program(1000, 0o000), 1000)] {
            let plan = with(r#"ready: [["/a"]], ended: [["/a"]]"#, us, &[("/a", file.clone())]);
            assert!(found(&plan, "hook.ready0.program").unwrap().blocks(), "{file:?}");
            let later = found(&plan, "hook.ended0.program").unwrap();
            assert!(later.ok == Verdict::No && !later.blocks(), "{file:?}");
        }
        let others = with(r#"ready: [["/a"]]"#, 1000, &[("/a", program(5, 0o750))]);
        assert_eq!(found(&others, "hook.ready0.program").unwrap().ok, Verdict::Unknown);
    }

    #[test]
    fn root_is_warned_of_a_program_that_others_can_write() {
        for (uid, mode, us, warned) in
            [(0, 0o755, 0, false), (0, 0o775, 0, false), (0, 0o757, 0, true), (9, 0o755, 0, true), (9, 0o755, 9, false)]
        {
            let plan = with(r#"before: [["/a"]]"#, us, &[("/a", program(uid, mode))]);
            assert_eq!(found(&plan, "hook.before0.owner").is_some(), warned, "{uid} {mode:o} {us}");
        }
    }
}
