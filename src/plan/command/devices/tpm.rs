//! The TPM: swtpm beside QEMU, joined by a socket pair, its state kept for the machine.

use crate::machine::{Guest, Tpm};
use crate::plan::Severity::Hard;
use crate::plan::draft::{self, Draft};
use crate::plan::{Helper, HelperAccount, HelperDescriptor, HelperEnd, Inherited, Keep};
use crate::qemu::Role;
use crate::qemu::command::QemuOption;
use crate::qemu::device::Device;

/// Number of the socket pair's end in swtpm.
const HELPER_FD: i32 = 3;

/// The TPM, if the machine has one.
pub(in crate::plan::command) fn write(draft: &mut Draft) {
    let wanted = match draft.machine.tpm {
        Tpm::V2 => true,
        Tpm::None => false,
        Tpm::Auto => draft.machine.guest == Guest::Windows11,
    };
    if !wanted {
        return;
    }
    let origin = draft.file_or(draft.machine.tpm == Tpm::V2, "tpm", "Windows 11 wants a TPM 2.0");
    let program = draft.host.programs.get(Tpm::PROGRAM).cloned();
    match &program {
        Some(program) => draft.yes("tpm.swtpm", Hard, format!("swtpm is {}", program.display())),
        None => {
            let remedy = "install it (Debian, Fedora, Arch: package `swtpm`), or write `tpm: None`";
            draft.no("tpm.swtpm", Hard, "swtpm, which emulates the TPM, is not installed", remedy);
            draft.about("tpm");
        }
    }
    let state = draft.paths.state.join("tpm");
    let argv = [
        program.map_or_else(|| Tpm::PROGRAM.to_owned(), |program| draft::text(&program)),
        "socket".to_owned(),
        "--tpm2".to_owned(),
        "--tpmstate".to_owned(),
        format!("dir={},mode=0600", draft::text(&state)),
        "--ctrl".to_owned(),
        format!("type=unixio,clientfd={HELPER_FD}"),
        // It ends with QEMU, even if nobody is left to end it.
        "--terminate".to_owned(),
    ];
    draft.keep.push(Keep::Folder(state));
    draft.helpers.push(Helper {
        name: Tpm::PROGRAM.to_owned(),
        argv: argv.to_vec(),
        inherits: vec![HelperDescriptor { fd: HELPER_FD, what: HelperEnd::Connected }],
        account: HelperAccount::Qemu,
        origin: origin.clone(),
    });
    let fd = draft.inherit(Inherited::Helper(Tpm::PROGRAM.to_owned()));
    let chardev = QemuOption::keys("-chardev", Some("socket"), origin.clone()).with("id", "tpm0");
    draft.push(chardev.with("fd", fd.to_string()).with_role(Role::Helper));
    draft
        .push(QemuOption::keys("-tpmdev", Some("emulator"), origin.clone()).with("id", "tpm0").with("chardev", "tpm0"));
    draft.device(Device::new("tpm-crb", "tpm-crb0").with("tpmdev", "tpm0"), origin);
}
