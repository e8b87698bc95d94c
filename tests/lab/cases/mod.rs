/// Plays scenes on one host, one after the other, and names the one that fails. Half the time of a short test is its host's
/// beginning: a clone's emulator has to translate anew every program that runs. Each scene but the last leaves the host as
/// it was.
macro_rules! in_turn {
    ($host:expr; $($scene:path),+ $(,)?) => {{
        $(
            let since = ::std::time::Instant::now();
            ::anyhow::Context::context($scene($host), stringify!($scene))?;
            eprintln!("{}: {:.0} s", stringify!($scene), since.elapsed().as_secs_f32());
        )+
    }};
}

mod apparmor;
mod commands;
mod crash;
mod data;
mod dead_man_switch;
mod desk;
mod everything;
mod failures;
mod handover;
mod hygiene;
mod hyperv;
mod inherited;
mod isolation;
mod kinds;
mod networks;
mod passthrough;
mod power;
mod program;
mod random;
mod rehearse;
mod second;
mod session;
mod setups;
mod shares;
mod shutdown;
mod tuning;
mod unit;
mod variants;

/// The `kernel` of a machine that boots the Linux guest; `words` are what its init is told. Nothing is mitigated and no page
/// is wiped before it is used: in two emulations, one in the other, either takes a tenth of the boot.
fn linux_guest(words: &str) -> String {
    format!(
        r#"(image: "/lab/guests/vmlinux", initrd: "/lab/guests/initramfs",
            cmdline: "console=ttyS0 quiet mitigations=off init_on_alloc=0 {words}")"#
    )
}

/// A machine with the Linux guest, whose init is told `words`. `more`: its other fields, also `cpu` if it is to have more than
/// one vCPU, and `networks` if it is to have one.
fn linux_machine(words: &str, more: &str) -> String {
    let unless =
        |field: &str, text: &str| if more.contains(field) { String::new() } else { format!("{field} {text},") };
    format!(
        r#"(guest: Other, accelerator: Kvm, {} {} {} kernel: {},
            serial: File("/run/lab/guest.log"), shutdown_timeout: 60, {more})"#,
        unless("cpu:", r#"(vcpus: 1, features: ["-xsave"])"#),
        unless("networks:", "[]"),
        unless("memory:", r#"(size: "256 MiB")"#),
        linux_guest(words)
    )
}
