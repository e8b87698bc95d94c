use std::path::Path;

use crate::host::desktop::{Answer, Found};
use crate::host::{Desktop, FileFact, FileKind, Host, RenderNode, SessionBus};
use crate::plan::sample::{self, Shape, host};
use crate::plan::{Account, Plan, Verdict, Viewer};
use crate::qemu::QemuFacts;

fn machine(more: &str) -> String {
    format!("(guest: Linux, memory: (size: \"1 GiB\"), firmware: Bios, {more})")
}

fn plan(more: &str) -> Plan {
    sample::plan(&machine(more), &host(Shape::simple(4, 1)))
}

fn on(host: &Host, more: &str) -> Plan {
    sample::plan(&machine(more), host)
}

fn with_qemu(qemu: &QemuFacts, more: &str) -> Plan {
    crate::plan::plan(&sample::machine(&machine(more)), &|_| None, &host(Shape::simple(4, 1)), qemu)
}

fn answer(plan: &Plan, key: &str) -> Option<Verdict> {
    plan.findings.iter().find(|finding| finding.key == key).map(|finding| finding.ok)
}

fn line(plan: &Plan) -> String {
    plan.command.argv().join(" ")
}

/// A host of root's with alice's desktop.
fn of_root() -> Host {
    let mut host = host(Shape::simple(4, 1));
    (host.process.uid, host.process.gid) = (0, 0);
    host.process.run_dir = "/run/vfio-run".into();
    host.desktop = Some(Desktop {
        uid: 1000,
        gid: 1000,
        name: Some("alice".to_owned()),
        found: Found::Session("3".to_owned()),
        cookie: None,
        pipewire: Default::default(),
        pulse: Default::default(),
        stays: false,
    });
    host
}

fn file(size: u64, mode: u32, labels: &[&str]) -> FileFact {
    let pem = Some(labels.iter().map(|label| (*label).to_owned()).collect());
    FileFact { kind: Some(FileKind::File), size, mode, pem, ..FileFact::default() }
}

#[test]
fn roots_socket_is_for_the_user_whose_desktop_it_is() {
    let viewer = |uid| Some(Viewer { uid, socket: "/run/vfio-run-display/test/spice.sock".into() });
    let mut host = of_root();
    let found = on(&host, "display: Spice()");
    assert_eq!((answer(&found, "display.viewer"), found.viewer), (Some(Verdict::Yes), viewer(1000)));
    host.accounts.insert("bob".to_owned(), (1001, 1001));
    assert_eq!(on(&host, "display: Spice(for_user: \"bob\")").viewer, viewer(1001));
    assert_eq!(on(&host, "display: Spice(for_user: \"1002\")").viewer, viewer(1002));
    let unknown = on(&host, "display: Spice(for_user: \"eve\")");
    assert_eq!((answer(&unknown, "display.viewer"), unknown.viewer), (Some(Verdict::No), None));
    // QEMU's account has it already.
    assert_eq!(on(&host, "display: Spice(), user: \"1000\"").viewer, None);
    assert_eq!(on(&host, "display: Spice(port: 5930)").viewer, None);
    host.desktop = None;
    let nobody = on(&host, "display: Vnc()");
    assert_eq!((answer(&nobody, "display.viewer"), nobody.viewer), (Some(Verdict::Unknown), None));
}

#[test]
fn a_users_socket_is_that_users() {
    let plain = plan("display: Spice()");
    assert_eq!((answer(&plain, "display.viewer"), plain.viewer), (None, None));
    let other = plan("display: Spice(for_user: \"1001\")");
    assert_eq!((answer(&other, "display.viewer"), other.viewer), (Some(Verdict::No), None));
    assert_eq!(answer(&plan("display: Spice(for_user: \"1000\")"), "display.viewer"), None);
}

#[test]
fn a_screen_on_a_bus_names_the_bus() {
    let on_bus = |answer: Answer| {
        let mut host = host(Shape::simple(4, 1));
        host.session_bus = Some(SessionBus { address: "unix:path=/run/user/1000/bus".to_owned(), answer });
        host
    };
    let mut qemu = sample::qemu();
    let planned = |host: &Host, qemu: &QemuFacts, more: &str| {
        crate::plan::plan(&sample::machine(&machine(more)), &|_| None, host, qemu)
    };
    let missing = planned(&on_bus(Answer::Accepts), &qemu, "display: DBus()");
    assert_eq!(answer(&missing, "display.known"), Some(Verdict::No));
    qemu.displays.insert("dbus".to_owned());
    let mut host = on_bus(Answer::Accepts);
    let plain = planned(&host, &qemu, "display: DBus()");
    assert_eq!((answer(&plain, "display.known"), answer(&plain, "display.bus")), (None, Some(Verdict::Yes)));
    let words = line(&plain);
    assert!(words.contains(r#"-display {"type":"dbus","addr":"unix:path=/run/user/1000/bus"}"#), "{words}");
    assert!(!words.contains("vdagent"), "{words}");
    let clipboard = line(&planned(&host, &qemu, "display: DBus(clipboard: true)"));
    assert!(clipboard.contains("qemu-vdagent"), "{clipboard}");

    host.render_nodes = Some(vec![node(128, "", 0o666)]);
    let rendered = line(&planned(&host, &qemu, "display: DBus(), video: VirtioGl()"));
    assert!(rendered.contains(r#""gl":"on","rendernode":"/dev/dri/renderD128"}"#), "{rendered}");

    let refuses = planned(&on_bus(Answer::Refuses("it closes the connection".to_owned())), &qemu, "display: DBus()");
    assert!(refuses.findings.iter().any(|found| found.key == "display.bus" && found.blocks()));
    host.session_bus = None;
    assert_eq!(answer(&planned(&host, &qemu, "display: DBus()"), "display.bus"), Some(Verdict::No));

    let mut root = of_root();
    assert_eq!(answer(&planned(&root, &qemu, "display: DBus()"), "display.bus"), Some(Verdict::No));
    root.session_bus = on_bus(Answer::Unknown).session_bus;
    let named = planned(&root, &qemu, "display: DBus(), user: \"1000\"");
    assert_eq!(answer(&named, "display.bus"), Some(Verdict::Unknown));
    assert!(line(&named).contains("unix:path=/run/user/1000/bus"));
}

#[test]
fn a_password_is_a_file_in_memory_and_in_no_argument() {
    let mut host = of_root();
    host.files.insert("/pw".into(), file(8, 0o600, &[]));
    let vnc = on(&host, "display: Vnc(password_file: \"/pw\")");
    let words = line(&vnc);
    assert!(words.contains(r#"-object {"qom-type":"secret","id":"password0","file":"/proc/self/fd/"#), "{words}");
    assert!(words.contains("-vnc unix:/run/vfio-run-display/test/vnc.sock,password-secret=password0"), "{words}");
    assert!(!words.contains("/pw"), "{words}");
    let spice = line(&on(&host, "display: Spice(password_file: \"/pw\")"));
    assert!(spice.contains(",password-secret=password0") && !spice.contains("disable-ticketing"), "{spice}");
    assert_eq!(answer(&vnc, "display.password.secret"), None);
    assert_eq!(answer(&vnc, "display.password.length"), None);
    host.files.insert("/pw".into(), file(10, 0o644, &[]));
    let vnc = on(&host, "display: Vnc(password_file: \"/pw\")");
    assert_eq!(answer(&vnc, "display.password.secret"), Some(Verdict::No));
    assert_eq!(answer(&vnc, "display.password.length"), Some(Verdict::No));
    assert_eq!(answer(&on(&host, "display: Spice(password_file: \"/pw\")"), "display.password.length"), None);
    host.files.insert("/pw".into(), FileFact::default());
    let missing = on(&host, "display: Vnc(password_file: \"/pw\")");
    assert_eq!(answer(&missing, "display.password.exists"), Some(Verdict::No));
}

#[test]
fn certificate_and_key_stand_in_a_folder_as_links_to_files_in_memory() {
    let mut host = of_root();
    host.files.insert("/c".into(), file(1000, 0o644, &["CERTIFICATE"]));
    host.files.insert("/k".into(), file(1000, 0o600, &["RSA PRIVATE KEY"]));
    let tls = "tls: (cert: \"/c\", key: \"/k\")";
    let vnc = on(&host, &format!("display: Vnc(port: 5900, {tls})"));
    let names: Vec<_> = vnc.links.iter().map(|link| link.at.to_str().unwrap()).collect();
    let folder = "/run/vfio-run-display/test/tls";
    let expected = ["server-cert.pem", "server-key.pem", "ca-cert.pem"].map(|name| format!("{folder}/{name}"));
    assert_eq!(names, expected);
    let words = line(&vnc);
    assert!(words.contains(&format!(r#""dir":"{folder}","verify-peer":false,"sanity-check":false}}"#)), "{words}");
    assert!(words.contains("-vnc 127.0.0.1:0,tls-creds=tls0") && vnc.uses_display_folder(), "{words}");
    assert!(vnc.findings.iter().all(|finding| !finding.blocks()), "{:?}", vnc.findings);
    let spice = line(&on(&host, &format!("display: Spice(port: 5930, {tls})")));
    assert!(
        spice.contains(&format!("-spice tls-port=5930,addr=127.0.0.1,x509-dir={folder},disable-ticketing=on")),
        "{spice}"
    );
    assert_eq!(crate::plan::authority(&vnc), Some(Path::new("/c")));
    let ca = line(&on(&host, "display: Vnc(port: 5900, tls: (cert: \"/c\", key: \"/k\", ca: \"/c\"))"));
    assert!(!ca.contains("sanity-check"), "{ca}");
    let swapped = on(&host, "display: Vnc(port: 5900, tls: (cert: \"/k\", key: \"/c\"))");
    assert_eq!(answer(&swapped, "display.tls.cert"), Some(Verdict::No));
    assert_eq!(answer(&swapped, "display.tls.key"), Some(Verdict::No));
    let missing = on(&of_root(), &format!("display: Vnc(port: 5900, {tls})"));
    assert_eq!(answer(&missing, "display.tls.key.exists"), Some(Verdict::Unknown));
}

#[test]
fn a_server_on_the_network_wants_a_password_and_tls() {
    let verdict = |more: &str| answer(&plan(&format!("display: Vnc(port: 5900, {more})")), "display.network");
    assert_eq!(verdict(""), None);
    assert_eq!(verdict("address: \"::1\""), None);
    assert_eq!(verdict("address: \"0.0.0.0\""), Some(Verdict::No));
    assert_eq!(verdict("address: \"0.0.0.0\", password_file: \"/pw\""), Some(Verdict::No));
    let all = "address: \"::\", password_file: \"/pw\", tls: (cert: \"/c\", key: \"/k\")";
    assert_eq!(verdict(all), Some(Verdict::Yes));
}

#[test]
fn the_clipboard_is_spices_unless_it_is_written() {
    let has = |guest: &str, more: &str| {
        let text = format!("(guest: {guest}, memory: (size: \"1 GiB\"), firmware: Bios, display: {more})");
        let line = line(&sample::plan(&text, &host(Shape::simple(4, 1))));
        assert_eq!(line.matches("virtio-serial-pci").count(), usize::from(line.contains("virtserialport")), "{line}");
        ["spicevmc,id=clipboard0", "qemu-vdagent,id=clipboard0"].map(|words| line.contains(words))
    };
    assert_eq!(has("Linux", "Spice()"), [true, false]);
    assert_eq!(has("Linux", "Spice(clipboard: false)"), [false, false]);
    assert_eq!(has("Other", "Spice()"), [false, false]);
    assert_eq!(has("Other", "Spice(clipboard: true)"), [true, false]);
    assert_eq!(has("Linux", "Vnc()"), [false, false]);
    assert_eq!(has("Windows10", "Vnc(clipboard: true)"), [false, true]);
    let mut qemu = sample::qemu();
    qemu.chardevs.remove("qemu-vdagent");
    let found = answer(&with_qemu(&qemu, "display: Vnc(clipboard: true)"), "display.clipboard");
    assert_eq!(found, Some(Verdict::No));
}

#[test]
fn spice_without_a_card_carries_input_and_has_no_pointer() {
    let bare = line(&plan("display: Spice(), video: None, looking_glass: (size: \"32 MiB\")"));
    assert!(bare.contains("-spice unix=on") && bare.contains("spicevmc,id=clipboard0"), "{bare}");
    assert!(!bare.contains("usb-tablet") && !bare.contains("xhci"), "{bare}");
    let redirected = line(&plan("display: Spice(usb_redirection: 1), video: None"));
    assert!(redirected.contains("qemu-xhci") && redirected.contains("usb-redir"), "{redirected}");
    assert!(line(&plan("display: Spice()")).contains("usb-tablet"));
}

#[test]
fn a_client_redirects_as_many_devices_as_are_written() {
    let words = line(&plan("display: Spice(usb_redirection: 2)"));
    assert_eq!(words.matches("spicevmc,id=redirected").count(), 2, "{words}");
    let device = r#""driver":"usb-redir","id":"usb-redirected1","bus":"usb0.0","chardev":"redirected1""#;
    assert!(words.contains(device), "{words}");
    let mut qemu = sample::qemu();
    qemu.devices.remove("usb-redir");
    let found = with_qemu(&qemu, "display: Spice(usb_redirection: 2)");
    assert_eq!(answer(&found, "qemu.device.usb-redir"), Some(Verdict::No));
}

fn node(number: u32, address: &str, mode: u32) -> RenderNode {
    let path = format!("/dev/dri/renderD{number}").into();
    RenderNode { path, address: address.parse().ok(), uid: 0, gid: 106, mode }
}

#[test]
fn a_gpu_of_the_host_renders_for_a_card_that_needs_one() {
    let mut host = of_root();
    host.render_nodes = Some(vec![node(128, "0000:01:00.0", 0o660), node(129, "", 0o660)]);
    let vnc = on(&host, "video: VirtioGl(), display: Vnc()");
    assert!(
        line(&vnc).contains(r#"-display {"type":"egl-headless","rendernode":"/dev/dri/renderD128"} -vnc"#),
        "{}",
        line(&vnc)
    );
    assert_eq!(answer(&vnc, "display.render_node"), Some(Verdict::Yes));
    assert!(matches!(&vnc.account, Some(Account { groups, .. }) if groups.contains(&106)), "{:?}", vnc.account);
    let spice = line(&on(&host, "video: VirtioGl(render_node: \"/dev/dri/renderD129\"), display: Spice()"));
    assert!(spice.contains(r#"{"type":"none"}"#) && spice.contains(",gl=on,rendernode=/dev/dri/renderD129"), "{spice}");
    let remote = line(&on(&host, "video: VirtioGl(), display: Spice(port: 5930)"));
    assert!(remote.contains("egl-headless") && !remote.contains("gl=on"), "{remote}");
    let gtk = line(&on(&host, "video: VirtioGl(), display: Gtk()"));
    assert!(gtk.contains(r#"-display {"type":"gtk","gl":"on"}"#) && gtk.contains("virtio-vga-gl"), "{gtk}");
    assert!(line(&plan("display: Gtk(gl: true)")).contains(r#"{"type":"gtk","gl":"on"}"#));
    assert!(line(&plan("display: Gtk()")).contains(r#"{"type":"gtk"}"#));
    let absent = on(&host, "video: VirtioGl(render_node: \"/dev/dri/renderD130\"), display: EglHeadless");
    assert_eq!(answer(&absent, "display.render_node"), Some(Verdict::No));
    host.render_nodes = Some(vec![node(128, "", 0o600)]);
    assert_eq!(answer(&on(&host, "video: VirtioGl(), display: EglHeadless"), "display.render_node"), Some(Verdict::No));
    host.render_nodes = Some(vec![]);
    assert_eq!(answer(&on(&host, "video: VirtioGl(), display: EglHeadless"), "display.render_node"), Some(Verdict::No));
    host.render_nodes = None;
    assert_eq!(answer(&on(&host, "video: VirtioGl(), display: Vnc()"), "display.render_node"), Some(Verdict::Unknown));
}

#[test]
fn what_this_qemu_lacks_is_told_with_its_package() {
    let mut qemu = sample::qemu();
    qemu.displays.remove("egl-headless");
    qemu.devices.remove("virtio-vga-gl");
    (qemu.spice, qemu.vnc) = (false, false);
    let found = with_qemu(&qemu, "video: VirtioGl(), display: EglHeadless");
    assert_eq!(answer(&found, "display.renders"), Some(Verdict::No));
    assert_eq!(answer(&found, "display.gl"), Some(Verdict::No));
    for server in ["Spice()", "Vnc()"] {
        assert_eq!(answer(&with_qemu(&qemu, &format!("display: {server}")), "display.known"), Some(Verdict::No));
    }
    assert_eq!(answer(&with_qemu(&sample::qemu(), "display: Sdl()"), "display.known"), Some(Verdict::No));
    assert_eq!(answer(&plan("display: EglHeadless"), "display.gl"), Some(Verdict::No));
}

#[test]
fn the_cards_memory_is_the_one_written() {
    let words = line(&plan("display: Spice(), video: Qxl, video_memory: \"64 MiB\""));
    assert!(
        words.contains(r#""driver":"qxl-vga","id":"video0","bus":"pcie.0","addr":"f.0","vgamem_mb":64"#),
        "{words}"
    );
    assert!(line(&plan("display: Vnc(), video: Cirrus")).contains("cirrus-vga"));
}
