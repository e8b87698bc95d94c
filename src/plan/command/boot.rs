//! What is started: a kernel directly, or the firmware's boot order.

use super::super::draft::{Draft, by_default};
use crate::plan::process::{account, whole_file};
use crate::qemu::command::QemuOption;

/// `-boot`, and `-kernel` with what belongs to it.
pub(super) fn write(draft: &mut Draft) {
    // Only what has a boot index is tried, so stale entries can't send the guest into the network.
    let origin = by_default("only the plan's devices are booted from, in its order");
    let mut boot = QemuOption::keys("-boot", None, origin).with("strict", "on").with("menu", "off");
    if let Some(seconds) = draft.machine.boot_menu {
        boot.set_from("menu", "on", draft.file("boot_menu"));
        // Milliseconds; UEFI takes them for its own menu.
        boot.set_from("splash-time", (seconds * 1000).to_string(), draft.file("boot_menu"));
    }
    draft.push(boot);
    let Some(kernel) = &draft.machine.kernel else { return };
    let files = [
        ("-kernel", "image", "the kernel's image", Some(&kernel.image)),
        ("-initrd", "initrd", "the initial RAM disk", kernel.initrd.as_ref()),
    ];
    for (option, name, what, path) in files {
        let Some(path) = path else { continue };
        let field = format!("kernel.{name}");
        if let Some(file) = whole_file::reach(draft, &field, &field, what, path) {
            account::is_file(draft, &field, &field, what, path, &file);
        }
        let path = whole_file::path(draft, path);
        draft.push(QemuOption::text(option, path, draft.file(&field)));
    }
    if !kernel.cmdline.is_empty() {
        draft.push(QemuOption::text("-append", &kernel.cmdline, draft.file("kernel.cmdline")));
    }
}
