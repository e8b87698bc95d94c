//! Networks by passt: a port of the host leads to the guest's card, and what is said of passt's end.

use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vfio_run::run::process::start_time;

use super::launcher::wait_for;
use super::port;
use super::talk::Serial;
use super::world::each;

#[test]
fn a_port_of_the_host_leads_to_the_guests_card_and_passt_goes_with_qemu() {
    each(|world| {
        let (port, frames) = (port::free(), world.path("state/frames"));
        let dump = format!("filter-dump,id=dump0,netdev=net0,file={}", frames.display());
        let machine = format!(
            "networks: [(forward: [\"127.0.0.1:{port}:80\"], mac: \"52:54:00:00:00:07\")], extra_args: [\"-object\", {dump:?}]"
        );
        let mut launcher = world.run(&world.machine(&machine));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        launcher.tells(" runs (");
        let passt = world.pid("passt-net0");
        wait_for("the link's frames", || {
            // The guest has no driver and answers nobody, so passt gives up after a while; what counts is what it sent.
            drop(TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_secs(5)));
            let bytes = std::fs::read(&frames).unwrap_or_default();
            let wanted = |ether: &[u8]| ether.get(..2) == Some(&[0x08, 0x06]) || to_port_80(ether);
            // The frame of a first packet: to all or to the card, from passt, then its kind.
            bytes.windows(14 + 40).any(|frame| wanted(&frame[12..])).then_some(())
        });
        guest.type_in("?").says("HERE").type_in("q");
        launcher.ended().with(0);
        // By itself, when QEMU has gone; what counts as gone is also what nobody has waited for yet.
        wait_for("passt's end", || start_time(passt).is_none().then_some(()));
    });
}

/// Whether it is the rest of an IPv4 frame that opens a TCP connection to port 80.
fn to_port_80(ether: &[u8]) -> bool {
    ether.get(..3) == Some(&[0x08, 0x00, 0x45]) && ether.get(11) == Some(&6) && ether.get(24..26) == Some(&[0, 80])
}

#[test]
fn a_port_that_is_taken_is_a_refusal() {
    each(|world| {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let machine = world.machine(&format!("networks: [(forward: [\"127.0.0.1:{port}:80\"])]"));
        let refused = world.done(&["run", machine.to_str().unwrap()]).with(3);
        let told = format!(" listens on tcp port {port} of the host already");
        assert!(refused.err.contains(&told), "{refused:?}");
    });
}

#[test]
fn a_machine_that_runs_is_not_refused_for_the_port_of_its_own_passt() {
    each(|world| {
        let port = port::free();
        let machine = world.machine(&format!("networks: [(forward: [\"127.0.0.1:{port}:80\"])]"));
        let mut launcher = world.run(&machine);
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        launcher.tells(" runs (");
        let checked = world.done(&["check", machine.to_str().unwrap()]);
        assert!(!format!("{checked:?}").contains("forward.taken"), "{checked:?}");
        launcher.signal(Signal::SIGKILL);
        launcher.ended();
        let mut second = world.run(&machine);
        second.tells("this launcher takes it over");
        guest.type_in("?").says("HERE").type_in("q");
        second.ended().with(0);
    });
}

#[test]
fn a_passt_that_dies_is_told_and_the_guest_goes_on() {
    each(|world| {
        let mut launcher = world.run(&world.machine("networks: [()]"));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        launcher.tells(" runs (");
        kill(Pid::from_raw(world.pid("passt-net0")), Signal::SIGKILL).unwrap();
        launcher.tells("passt-net0 exited while the guest runs: its network card has no connection");
        guest.type_in("?").says("HERE").type_in("q");
        launcher.ended().with(0);
    });
}
