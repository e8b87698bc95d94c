//! Whether the program follows files that others can change: the machine file, which names programs that root runs, and
//! what it keeps itself.

use crate::plan::Severity;
use crate::plan::draft::Draft;

pub(in crate::plan) fn check(draft: &mut Draft) {
    machine_file(draft);
    if let Some(untrusted) = &draft.host.process.untrusted {
        let remedy =
            "set `XDG_RUNTIME_DIR` and `HOME` to folders of your own, as a login does; or remove what others made";
        draft.no("folders.owner", Severity::Hard, untrusted.clone(), remedy);
    }
}

fn machine_file(draft: &mut Draft) {
    let Some(found) = draft.host.machine_file.clone().filter(|_| draft.host.process.uid == 0) else { return };
    let path = found.path.display();
    let detail = format!(
        "others can write to {path} (user {}, group {}, mode {:o}), and root does what the machine file says",
        found.uid, found.gid, found.mode
    );
    let remedy = format!("`chown root: {path}` and `chmod go-w {path}`, or keep the machine file below /etc");
    draft.no("file.owner", Severity::Soft, detail, &remedy);
}

#[cfg(test)]
mod tests {
    use crate::host::Writable;
    use crate::plan::sample::{Shape, host, plan};

    #[test]
    fn root_is_warned_of_a_machine_file_that_others_can_change() {
        for (uid, open, warned) in [(0, true, true), (0, false, false), (1000, true, false)] {
            let mut host = host(Shape::simple(4, 1));
            host.process.uid = uid;
            host.machine_file = open.then(|| Writable { path: "/srv/a.ron".into(), uid: 9, gid: 9, mode: 0o644 });
            let plan = plan("(guest: Other, memory: (size: \"1 GiB\"))", &host);
            let found = plan.findings.iter().find(|finding| finding.key == "file.owner");
            assert_eq!(found.is_some(), warned, "{uid} {open}");
            assert!(found.is_none_or(|finding| !finding.blocks()));
        }
    }
    #[test]
    fn what_others_could_exchange_is_no_place_to_keep_anything() {
        let mut host = host(Shape::simple(4, 1));
        let machine = "(guest: Other, memory: (size: \"1 GiB\"))";
        let found = |host: &_| plan(machine, host).findings.into_iter().find(|f| f.key == "folders.owner");
        assert!(found(&host).is_none());
        host.process.untrusted = Some("/tmp/vfio-run-1000 belongs to user 1001".to_owned());
        let finding = found(&host).unwrap();
        assert!(finding.blocks() && finding.sentence().contains("belongs to user 1001"));
    }
}
