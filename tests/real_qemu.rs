//! The program against real QEMUs, without KVM and mostly without privileges: start, placement, reboot, power-off, and
//! what happens when somebody is killed. With `$VFIO_RUN_QEMU10` (`scripts/qemu10` prints it) all of it is done again
//! with that QEMU.

#[path = "real_qemu/agent.rs"]
mod agent;
#[path = "real_qemu/buttons.rs"]
mod buttons;
#[path = "real_qemu/console.rs"]
mod console;
#[path = "real_qemu/cpus.rs"]
mod cpus;
#[path = "real_qemu/crash.rs"]
mod crash;
#[path = "real_qemu/dead_man_switch.rs"]
mod dead_man_switch;
#[path = "real_qemu/ending.rs"]
mod ending;
#[path = "real_qemu/everything.rs"]
mod everything;
#[path = "real_qemu/guest.rs"]
mod guest;
#[path = "real_qemu/guest_agent.rs"]
mod guest_agent;
#[path = "real_qemu/guest_sees.rs"]
mod guest_sees;
#[path = "real_qemu/holds.rs"]
mod holds;
#[path = "real_qemu/hooks.rs"]
mod hooks;
#[path = "real_qemu/host.rs"]
mod host;
#[path = "real_qemu/hot.rs"]
mod hot;
#[path = "real_qemu/huge_pages.rs"]
mod huge_pages;
#[path = "real_qemu/identity.rs"]
mod identity;
#[path = "real_qemu/images.rs"]
mod images;
#[path = "real_qemu/late.rs"]
mod late;
#[path = "real_qemu/launcher.rs"]
mod launcher;
#[path = "real_qemu/linux.rs"]
mod linux;
#[path = "real_qemu/loops.rs"]
mod loops;
#[path = "real_qemu/machines.rs"]
mod machines;
#[path = "real_qemu/memory.rs"]
mod memory;
#[path = "real_qemu/nat.rs"]
mod nat;
#[path = "real_qemu/networks.rs"]
mod networks;
#[path = "real_qemu/orphan.rs"]
mod orphan;
#[path = "real_qemu/other_users.rs"]
mod other_users;
#[path = "real_qemu/passt.rs"]
mod passt;
#[path = "real_qemu/port.rs"]
mod port;
#[path = "real_qemu/qmp.rs"]
mod qmp;
#[path = "real_qemu/rehearse.rs"]
mod rehearse;
#[path = "real_qemu/relaunch.rs"]
mod relaunch;
#[path = "real_qemu/report.rs"]
mod report;
#[path = "real_qemu/screens.rs"]
mod screens;
#[path = "real_qemu/screenshot.rs"]
mod screenshot;
#[path = "real_qemu/shared_memory.rs"]
mod shared_memory;
#[path = "real_qemu/shares.rs"]
mod shares;
#[path = "real_qemu/sound.rs"]
mod sound;
#[path = "real_qemu/stand_in.rs"]
mod stand_in;
#[path = "real_qemu/start.rs"]
mod start;
#[path = "real_qemu/status.rs"]
mod status;
#[path = "real_qemu/stopping.rs"]
mod stopping;
#[path = "real_qemu/taken_over.rs"]
mod taken_over;
#[path = "real_qemu/talk.rs"]
mod talk;
#[path = "real_qemu/terminal.rs"]
mod terminal;
#[path = "real_qemu/top.rs"]
mod top;
#[path = "real_qemu/tuning.rs"]
mod tuning;
#[path = "real_qemu/view.rs"]
mod view;
#[path = "real_qemu/world.rs"]
mod world;
