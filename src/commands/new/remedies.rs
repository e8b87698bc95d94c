//! What a finding is of a machine whose file was not written: it speaks of the options, or of the questions in their place.

use crate::plan::Finding;

/// The option that a field of the file, or a finding's name, comes from.
pub fn option_of(name: &str) -> Option<&'static str> {
    const OPTIONS: [(&str, &str); 9] = [
        ("disk0.folder", "-o"),
        ("disk0.", "--disk"),
        ("disk1.", "--iso"),
        ("disk2.", "--virtio-iso"),
        ("disks[0]", "--disk"),
        ("disks[1]", "--iso"),
        ("disks[2]", "--virtio-iso"),
        ("pci", "--gpu"),
        ("name", "--name"),
    ];
    OPTIONS.into_iter().find(|(start, _)| name.starts_with(start)).map(|(_, option)| option)
}

/// The finding without its place in a file that was not written, and with a remedy that is one without that file.
pub fn of_option(finding: &Finding) -> Finding {
    let option = option_of(&finding.key);
    let detail = option.map_or_else(|| finding.detail.clone(), |option| format!("{option}: {}", finding.detail));
    let remedy = finding.remedy.as_deref().map(|remedy| {
        reworded(remedy).unwrap_or_else(|| option.map_or_else(by_hand, |option| usual(option).to_owned()))
    });
    Finding { detail, remedy, origin: None, place: None, ..finding.clone() }
}

/// What can be done about any wrong value of an option.
fn usual(option: &str) -> &'static str {
    match option {
        "--disk" => "give `--disk` another size, or the path of another image or block device",
        "--iso" => "give `--iso` another ISO, or none",
        "--virtio-iso" => "give `--virtio-iso` another ISO, or none",
        "--gpu" => "give `--gpu` another card, or none for an emulated screen; `vfio-run devices --gpu` lists them",
        "--name" => "give `--name` another name",
        _ => "name a file in another folder with `-o`",
    }
}

fn by_hand() -> String {
    "a machine file that you write yourself can say it otherwise: `vfio-run man machine`".to_owned()
}

/// A remedy with options in place of the fields that they stand for; `None` if it also names a field that no option stands for.
/// What it names stands between two backticks.
fn reworded(remedy: &str) -> Option<String> {
    let words = remedy.split('`').enumerate().map(|(index, part)| match (index % 2, option_of(part)) {
        (1, Some(option)) if is_field(part) => Some(format!("`{option}`")),
        (1, None) if is_field(part) => None,
        (1, _) => Some(format!("`{part}`")),
        _ => Some(part.to_owned()),
    });
    words.collect()
}

/// Whether it is a field's path, or a field with its value, and no command.
fn is_field(part: &str) -> bool {
    let end = part.find(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && !"_.[]".contains(c));
    let (name, rest) = part.split_at(end.unwrap_or(part.len()));
    name.starts_with(|c: char| c.is_ascii_lowercase()) && (rest.is_empty() || rest.starts_with(": "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Severity, Verdict};

    #[test]
    fn remedies_speak_of_options_and_never_of_a_file_that_was_not_written() {
        for (key, remedy, expected) in [
            ("disk0.mounted", "unmount it", "unmount it"),
            ("pci.gpu.free", "`vfio-run stop win11` ends it", "`vfio-run stop win11` ends it"),
            (
                "disk0.access",
                "`sudo chown $USER /a`, name another in `disks[0].file`, or start as root",
                "`sudo chown $USER /a`, name another in `--disk`, or start as root",
            ),
            (
                "disk1.exists",
                "`disks[1].file` takes the path of a file, or write `create: \"64 GiB\"`",
                "give `--iso` another ISO, or none",
            ),
            (
                "disk0.size",
                "write a smaller `create`",
                "give `--disk` another size, or the path of another image or block device",
            ),
            (
                "memory.size",
                "lower `memory.size`",
                "a machine file that you write yourself can say it otherwise: `vfio-run man machine`",
            ),
        ] {
            let finding = Finding {
                key: key.to_owned(),
                ok: Verdict::No,
                severity: Severity::Hard,
                detail: "it is so".to_owned(),
                remedy: Some(remedy.to_owned()),
                origin: None,
                place: None,
            };
            let told = of_option(&finding);
            assert_eq!(told.remedy.as_deref(), Some(expected));
            let option = option_of(key).map_or_else(String::new, |option| format!("{option}: "));
            assert_eq!(told.detail, format!("{option}it is so"));
        }
    }
}
