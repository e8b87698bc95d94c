//! Apple's system management controller.

use super::super::Content;
use super::super::Severity::Hard;
use super::super::draft::Draft;
use crate::host::FileKind;
use crate::machine::AppleSmc;
use crate::plan::process::account;
use crate::qemu::command::QemuOption;

/// The controller, if the machine has one: as a file for `-readconfig`, since `-device` takes the key in an argument only.
pub(super) fn write(draft: &mut Draft) {
    const FIELD: &str = "apple_smc.key_file";
    let Some(AppleSmc { key_file }) = &draft.machine.apple_smc else { return };
    let Some(file) = account::exists(draft, FIELD, FIELD, "the key", key_file) else { return };
    account::launcher_reads(draft, FIELD, FIELD, "the key", key_file, &file);
    // A line's end may follow.
    if file.kind != Some(FileKind::File) || !(AppleSmc::KEY..=AppleSmc::KEY + 2).contains(&file.size) {
        let shown = key_file.display();
        let detail = format!("{shown} is no file with a key of {} characters", AppleSmc::KEY);
        draft.no(
            "apple_smc.key",
            Hard,
            detail,
            &format!("write the key of your own Mac into it, or correct `{FIELD}`"),
        );
        draft.about(FIELD);
    }
    draft.need_driver(AppleSmc::DRIVER);
    let file = draft.content(Content::AppleSmc(key_file.clone()));
    draft.push(QemuOption::text("-readconfig", file, draft.file("apple_smc")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::FileFact;
    use crate::plan::sample::{Shape, host, plan};

    #[test]
    fn the_key_is_in_no_argument_and_its_file_is_looked_at() {
        for (size, blocks) in [(64, false), (65, false), (63, true), (1000, true)] {
            let mut host = host(Shape::simple(4, 1));
            let fact = FileFact { kind: Some(FileKind::File), size, ..FileFact::default() };
            host.files.insert("/osk".into(), fact);
            let plan = plan("(guest: Other, memory: (size: \"1 GiB\"), apple_smc: (key_file: \"/osk\"))", &host);
            let found = plan.findings.iter().any(|finding| finding.key == "apple_smc.key" && finding.blocks());
            assert_eq!(found, blocks, "{size}");
            let argv = plan.command.argv().join(" ");
            assert!(argv.contains("-readconfig /proc/self/fd/") && !argv.contains("osk"), "{argv}");
        }
    }
}
