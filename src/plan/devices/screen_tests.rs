//! What of the host's screen goes with a card: consoles, the firmware's framebuffer, the display manager.

use super::tests::{at, changes, details, function, host, plan};
use crate::host::Host;
use crate::host::pci::BootScreen;
use crate::plan::Plan;

#[test]
fn consoles_that_could_not_be_put_back_by_hand_go_with_the_driver() {
    let mut host = host();
    at(&mut host, "01:00.0").driver = Some("amdgpu".into());
    let leaves = |host: &Host| changes(&plan(r#"pci: ["01:00.*"]"#, host)).iter().any(|c| c.contains("vtcon1"));
    assert!(leaves(&host));
    host.pci.as_mut().unwrap().screen.consoles[0].kind = "(M) dummy device".into();
    assert!(!leaves(&host));
    // The framebuffer's console holds the modules that are to be removed.
    at(&mut host, "01:00.0").driver = Some("nvidia".into());
    assert!(leaves(&host));
}

#[test]
fn the_firmwares_framebuffer_is_released_where_vfio_does_not_do_so() {
    let mut host = host();
    let screen = &mut host.pci.as_mut().unwrap().screen;
    screen.boot_memory = vec![(1 << 38, (1 << 38) + 0xff_ffff)];
    let (driver, device) = ("efi-framebuffer".to_owned(), "efi-framebuffer.0".to_owned());
    screen.boot_screens = vec![BootScreen { driver, device }];
    let released = |host: &Host| {
        let all = changes(&plan(r#"pci: ["01:00.*"]"#, host));
        all.into_iter().filter(|change| change.contains("efi-framebuffer")).collect::<Vec<_>>()
    };
    host.kernel = "6.12.57-amd64".to_owned();
    assert_eq!(released(&host), [""; 0]);
    host.kernel = "5.15.0-91-generic".to_owned();
    assert_eq!(released(&host), ["unbind efi-framebuffer.0 from its driver"]);
    // A card that is no VGA card in the narrow sense is not looked at by any kernel.
    host.kernel = "6.12.57-amd64".to_owned();
    at(&mut host, "01:00.0").class = 0x03_8000;
    assert_eq!(released(&host), ["unbind efi-framebuffer.0 from its driver"]);
    host.pci.as_mut().unwrap().screen.boot_memory = vec![(0, 0xff_ffff)];
    assert_eq!(released(&host), [""; 0]);
}

#[test]
fn a_card_without_a_driver_may_still_have_the_consoles() {
    let mut host = host();
    let pci = host.pci.as_mut().unwrap();
    pci.screen.framebuffers = vec![("fb0".into(), None)];
    pci.screen.boot_memory = vec![(1 << 38, (1 << 38) + 0xff_ffff)];
    pci.screen.boot_screens =
        vec![BootScreen { driver: "efi-framebuffer".to_owned(), device: "efi-framebuffer.0".to_owned() }];
    host.kernel = "5.15.0".to_owned();
    at(&mut host, "01:00.0").driver = None;
    details(at(&mut host, "01:00.0")).holders.clear();
    let all = changes(&plan(r#"pci: ["01:00.*"]"#, &host));
    for change in ["unbind the consoles from vtcon1", "unbind efi-framebuffer.0 from its driver"] {
        assert!(all.iter().any(|made| made == change), "{all:?}");
    }
    assert!(!all.iter().any(|change| change.contains("nvidia")), "{all:?}");
}

#[test]
fn a_session_shows_where_a_connector_is_enabled() {
    let hides = |showing: &[&str]| {
        let mut host = host();
        let pci = host.pci.as_mut().unwrap();
        pci.functions.insert(0, function("00:02.0", "8086:a780", 0x03_0000, "i915", 5));
        pci.functions.sort_by_key(|f| f.address);
        pci.screen.showing = showing.iter().map(|address| address.parse().unwrap()).collect();
        let all = changes(&plan(r#"pci: ["01:00.*"]"#, &host));
        let hidden = all.iter().any(|change| change.starts_with("have compositors close"));
        (hidden, all.iter().any(|change| change == "stop gdm.service"))
    };
    // The firmware showed on the card that is taken, and the consoles are on it.
    assert_eq!(hides(&[]), (false, true));
    assert_eq!(hides(&["01:00.0"]), (false, true));
    assert_eq!(hides(&["00:02.0", "01:00.0"]), (false, true));
    // A laptop's monitor is on the other one.
    assert_eq!(hides(&["00:02.0"]), (true, false));
}

#[test]
fn the_display_manager_stays_where_it_is_not_in_the_way() {
    let stops = |plan: &Plan| changes(plan).into_iter().filter(|c| c.starts_with("stop")).collect::<Vec<_>>();
    let mut second = host();
    details(at(&mut second, "01:00.0")).holders.clear();
    assert_eq!(stops(&plan(r#"pci: ["01:00.*"]"#, &second)), [""; 0]);
    let written = r#"pci: ["01:00.*"], handover: (display_manager: None, units: ["a.service"])"#;
    assert_eq!(stops(&plan(written, &host())), ["stop a.service"]);
    // Other framebuffers keep the consoles.
    second.pci.as_mut().unwrap().screen.framebuffers.push(("fb1".into(), Some("00:02.0".parse().unwrap())));
    assert!(!changes(&plan(r#"pci: ["01:00.*"]"#, &second)).iter().any(|c| c.contains("vtcon1")));
}
