//! The memory balloon.

use crate::machine::Pages;
use crate::plan::Severity::Soft;
use crate::plan::draft::Draft;
use crate::qemu::device::Device;

const DRIVER: &str = "virtio-balloon-pci";

/// The balloon, if the machine has one that gives the host anything.
pub(in crate::plan::command) fn write(draft: &mut Draft) {
    const KEY: &str = "memory.balloon";
    if !draft.machine.memory.balloon {
        return;
    }
    // QEMU ignores what the guest gives back then (`ram_block_discard_disable`, called by its vfio code), and the guest would
    // miss the memory all the same.
    if !draft.machine.pci.is_empty() {
        let detail =
            "the guest has no balloon: its devices in `pci` reach all of its memory, so none of it can be given back";
        draft.no(KEY, Soft, detail, "remove `balloon: true`, and give the guest in `memory.size` what it needs");
        return draft.about(KEY);
    }
    if draft.machine.memory.pages != Pages::Normal {
        let detail = "the guest has no balloon: it gives back pages of 4 KiB, and its memory is of huge pages";
        draft.no(KEY, Soft, detail, "remove `balloon: true`, or write `pages: Normal`");
        return draft.about(KEY);
    }
    let properties = draft.qemu.devices.get(DRIVER);
    let has = |name| properties.is_some_and(|properties| properties.contains(name)).then_some(true);
    let device = Device::new(DRIVER, "balloon0")
        .with_some("free-page-reporting", has("free-page-reporting"))
        .with_some("deflate-on-oom", has("deflate-on-oom"));
    draft.pcie_device(device, draft.file(KEY));
}

#[cfg(test)]
mod tests {
    use crate::plan::Verdict;
    use crate::plan::sample::{Shape, host, plan};

    #[test]
    fn a_balloon_that_gives_the_host_nothing_is_left_out_and_that_is_said() {
        for (memory, more, expected) in [
            ("balloon: true", "", None),
            ("balloon: true, pages: Huge(\"2 MiB\")", "", Some(Verdict::No)),
            ("balloon: true", ", pci: [\"01:00.0\"]", Some(Verdict::No)),
        ] {
            let text = format!("(guest: Other, memory: (size: \"1 GiB\", {memory}){more})");
            let plan = plan(&text, &host(Shape::simple(4, 1)));
            let found = plan.findings.iter().find(|finding| finding.key == "memory.balloon");
            assert_eq!(found.map(|found| found.ok), expected, "{text}");
            assert!(found.is_none_or(|found| !found.blocks()), "{text}");
            let there = plan.command.argv().iter().any(|word| word.contains("virtio-balloon-pci"));
            assert_eq!(there, expected.is_none(), "{text}");
        }
    }
}
