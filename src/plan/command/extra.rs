//! What the user adds to the end of the command line.

use super::super::draft::Draft;
use crate::qemu::command::QemuOption;

/// The words of `extra_args`, as they are.
pub(super) fn write(draft: &mut Draft) {
    for (index, word) in draft.machine.extra_args.iter().enumerate() {
        let origin = draft.raw(&format!("extra_args[{index}]"));
        draft.push(QemuOption::flag(word, origin));
    }
}
