//! Files of which QEMU reads the whole when it starts: kernels, initial RAM disks, ROMs. QEMU opens them itself, and takes no
//! descriptor of the launcher's in place of their paths.

use std::path::Path;

use super::account::{self, Use};
use crate::host::FileFact;
use crate::plan::draft::{self, Draft};

/// Checks that QEMU can have the file: by its path if its account can open it, else by a copy. Returns what is known of it.
/// `key` starts the findings' names, `what` their sentences.
pub(in crate::plan) fn reach(draft: &mut Draft, key: &str, field: &str, what: &str, path: &Path) -> Option<FileFact> {
    match is_copied(draft, path) {
        true => account::opened(draft, key, field, what, path, Use::Read),
        false => account::reach(draft, key, field, what, path),
    }
}

/// The path by which QEMU opens the file. The launcher copies into memory what QEMU's account cannot open, such as a kernel that
/// is root's alone (Ubuntu's), or what lies in a home that others may not enter.
pub(in crate::plan) fn path(draft: &mut Draft, path: &Path) -> String {
    match is_copied(draft, path) {
        true => draft.copy(path),
        false => draft::text(path),
    }
}

fn is_copied(draft: &Draft, path: &Path) -> bool {
    let Some(account) = &draft.account else { return false };
    let file = draft.host.files.get(path);
    file.is_some_and(|file| file.kind.is_some() && !account::may(file, account, Use::Read))
}

#[cfg(test)]
mod tests {
    use crate::host::{FileFact, FileKind, ForeignLink};
    use crate::plan::sample::{Shape, host, plan};
    use crate::plan::{Inherited, Plan};

    fn started_by(uid: u32, fact: FileFact) -> Plan {
        let mut host = host(Shape::simple(4, 1));
        host.process.uid = uid;
        host.files.insert("/vmlinuz".into(), FileFact { kind: Some(FileKind::File), size: 1, ..fact });
        plan("(guest: Linux, memory: (size: \"1 GiB\"), kernel: (image: \"/vmlinuz\"))", &host)
    }

    fn kernel(plan: &Plan) -> String {
        let argv = plan.command.argv();
        argv[argv.iter().position(|word| word == "-kernel").unwrap() + 1].clone()
    }

    fn refused(plan: &Plan) -> Vec<&str> {
        plan.findings.iter().filter(|finding| finding.blocks()).map(|finding| &*finding.detail).collect()
    }

    #[test]
    fn what_qemus_account_cannot_open_is_copied_and_nothing_else() {
        let closed = Some(("/root".into(), 0));
        for (fact, copied) in [
            (FileFact { mode: 0o644, ..FileFact::default() }, false),
            (FileFact { mode: 0o600, ..FileFact::default() }, true),
            (FileFact { mode: 0o644, closed_folder: closed, ..FileFact::default() }, true),
        ] {
            let plan = started_by(0, fact);
            assert_eq!(kernel(&plan).starts_with("/proc/self/fd/"), copied, "{}", kernel(&plan));
            let copy = Inherited::Copy("/vmlinuz".into());
            assert_eq!(plan.descriptors.iter().any(|descriptor| descriptor.what == copy), copied);
            assert!(refused(&plan).is_empty(), "{:?}", refused(&plan));
        }
    }

    #[test]
    fn nobody_reads_more_by_the_launcher_than_by_himself() {
        let own = started_by(1000, FileFact { mode: 0o600, ..FileFact::default() });
        assert_eq!((kernel(&own).as_str(), refused(&own).len()), ("/vmlinuz", 1));
        let foreign = Some(ForeignLink { link: "/vmlinuz".into(), by: 1000, to: 0 });
        let led = started_by(0, FileFact { mode: 0o600, foreign, ..FileFact::default() });
        assert!(refused(&led)[0].contains("root does not follow it"), "{:?}", refused(&led));
        let unreadable = Some("Permission denied".to_owned());
        let away = started_by(0, FileFact { mode: 0o600, unreadable, ..FileFact::default() });
        assert!(refused(&away)[0].starts_with("not even root can read the kernel's image"), "{:?}", refused(&away));
    }
}
