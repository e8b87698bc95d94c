use crate::host::desktop::{Answer, Found, SoundServerFact};
use crate::host::{Desktop, FileFact, FileKind, Host};
use crate::machine::{Audio, SoundServer};
use crate::plan::sample::{self, Shape};
use crate::plan::{Inherited, Plan, Severity, Verdict};
use crate::qemu::QemuFacts;

fn answering(socket: &str, mode: u32) -> SoundServerFact {
    SoundServerFact { socket: socket.into(), mode: Some(mode), answer: Answer::Accepts }
}

fn desktop() -> Desktop {
    Desktop {
        uid: 1000,
        gid: 1000,
        name: Some("alice".to_owned()),
        found: Found::Session("3".to_owned()),
        cookie: Some("/home/alice/.config/pulse/cookie".into()),
        pipewire: answering("/run/user/1000/pipewire-0", 0o666),
        pulse: answering("/run/user/1000/pulse/native", 0o777),
        stays: false,
    }
}

fn host(uid: u32, desktop: Option<Desktop>) -> Host {
    let mut host = sample::host(Shape::simple(4, 1));
    (host.process.uid, host.process.gid) = (uid, uid);
    host.desktop = desktop;
    host
}

/// With these drivers beside the ones that every QEMU here has.
fn plan(audio: &str, host: &Host, drivers: &[&str]) -> Plan {
    let mut qemu: QemuFacts = sample::qemu();
    qemu.audiodevs.extend(drivers.iter().map(|driver| (*driver).to_owned()));
    let text = format!("(guest: Linux, memory: (size: \"1 GiB\"), audio: {audio})");
    crate::plan::plan(&sample::machine(&text), &|_| None, host, &qemu)
}

fn word(plan: &Plan, option: &str) -> Vec<String> {
    let words = plan.command.argv();
    words.windows(2).filter(|pair| pair[0] == option).map(|pair| pair[1].clone()).collect()
}

fn audiodev(plan: &Plan) -> String {
    word(plan, "-audiodev").join(" ")
}

fn finding(plan: &Plan, key: &str) -> (Verdict, bool, String) {
    let found =
        plan.findings.iter().find(|finding| finding.key == key).unwrap_or_else(|| panic!("{key}: {:?}", plan.findings));
    (found.ok, found.severity == Severity::Hard, found.detail.clone())
}

fn environment(plan: &Plan) -> Vec<String> {
    plan.environment.iter().map(|variable| format!("{}={}", variable.name, variable.value)).collect()
}

#[test]
fn without_a_word_of_it_there_is_no_sound() {
    let plan = plan("None", &host(0, Some(desktop())), &["pipewire"]);
    assert_eq!(audiodev(&plan), "");
    assert!(plan.environment.is_empty());
}

#[test]
fn root_hands_the_socket_of_the_users_server_over() {
    let host = host(0, Some(desktop()));
    let pipewire = plan("Auto()", &host, &["pipewire"]);
    let Some((fd, Inherited::SoundServer { server, socket, uid, .. })) =
        pipewire.descriptors.last().map(|last| (last.fd, last.what.clone()))
    else {
        panic!("{:?}", pipewire.descriptors)
    };
    assert_eq!((server, socket.to_str(), uid), (SoundServer::PipeWire, Some("/run/user/1000/pipewire-0"), 1000));
    assert_eq!(environment(&pipewire), ["HOME=/nonexistent".to_owned(), format!("PIPEWIRE_REMOTE=/proc/self/fd/{fd}")]);
    assert_eq!(
        audiodev(&pipewire),
        r#"{"driver":"pipewire","id":"audio0","out":{"stream-name":"test"},"in":{"voices":0}}"#
    );
    assert_eq!(finding(&pipewire, "audio.server").0, Verdict::Yes);

    let pulse = plan("Auto(microphone: true, output: \"speakers\", latency_ms: 20)", &host, &[]);
    let fds: Vec<i32> = pulse.descriptors.iter().rev().take(2).map(|descriptor| descriptor.fd).collect();
    assert!(matches!(pulse.descriptors.last().unwrap().what, Inherited::Cookie { uid: 1000, .. }));
    assert_eq!(environment(&pulse)[1], format!("PULSE_COOKIE=/proc/self/fd/{}", fds[0]));
    let expected = format!(
        r#"{{"driver":"pa","id":"audio0","server":"unix:/proc/self/fd/{}","timer-period":5000,"out":{{"name":"speakers","stream-name":"test","latency":20000,"buffer-length":20000}},"in":{{"stream-name":"test","latency":20000,"buffer-length":20000}}}}"#,
        fds[1]
    );
    assert_eq!(audiodev(&pulse), expected);
    assert!(word(&pulse, "-device").iter().any(|device| device.contains("hda-duplex")));
}

#[test]
fn a_user_connects_by_the_path() {
    let mut desktop = desktop();
    desktop.found = Found::Ours;
    let plan = plan("Pulse()", &host(1000, Some(desktop)), &[]);
    assert!(audiodev(&plan).contains(r#""server":"unix:/run/user/1000/pulse/native""#), "{}", audiodev(&plan));
    assert!(plan.environment.is_empty());
    assert!(
        !plan.descriptors.iter().any(|d| matches!(d.what, Inherited::SoundServer { .. } | Inherited::Cookie { .. }))
    );
}

#[test]
fn a_server_that_does_not_let_qemu_in_is_said_and_another_taken() {
    let mut closed = desktop();
    closed.pipewire.mode = Some(0o755);
    assert!(audiodev(&plan("Auto()", &host(0, Some(closed.clone())), &["pipewire"])).contains("\"pa\""));
    let named = plan("PipeWire()", &host(0, Some(closed.clone())), &["pipewire"]);
    let (ok, hard, detail) = finding(&named, "audio.server");
    assert!(ok == Verdict::No && hard && detail.contains("(mode 755)"), "{detail}");
    assert!(audiodev(&named).contains(r#""driver":"none""#));
    // Its own user may connect.
    closed.found = Found::Ours;
    assert_eq!(finding(&plan("PipeWire()", &host(1000, Some(closed)), &["pipewire"]), "audio.server").0, Verdict::Yes);

    let mut dead = desktop();
    dead.pulse.answer = Answer::Refuses("Connection refused".to_owned());
    dead.pipewire = SoundServerFact { socket: "/run/user/1000/pipewire-0".into(), ..SoundServerFact::default() };
    let plan = plan("Auto()", &host(0, Some(dead)), &["pipewire"]);
    let (ok, hard, detail) = finding(&plan, "audio.server");
    assert!(ok == Verdict::No && !hard, "{detail}");
    assert_eq!(
        detail,
        "no sound server of alice can be had: PipeWire: there is no /run/user/1000/pipewire-0; PulseAudio: \
         /run/user/1000/pulse/native: Connection refused"
    );
    // The card stays.
    assert!(audiodev(&plan).contains(r#""driver":"none""#));
    assert!(word(&plan, "-device").iter().any(|device| device.contains("hda-output")));
}

#[test]
fn what_this_qemu_lacks_and_who_is_not_there_is_said() {
    let host_of = |desktop| host(0, desktop);
    let (ok, hard, detail) = finding(&plan("PipeWire()", &host_of(Some(desktop())), &[]), "audio.server");
    assert!(ok == Verdict::No && hard && detail.contains("has no sound driver `pipewire`"), "{detail}");
    let (ok, hard, _) = finding(&plan("Auto()", &host_of(None), &[]), "audio.server");
    assert!(ok == Verdict::No && !hard);
    let (_, hard, detail) = finding(&plan("Pulse(user: \"bob\")", &host_of(None), &[]), "audio.server");
    assert!(hard && detail == "there is no account \"bob\"", "{detail}");
    let (_, hard, _) = finding(&plan("Auto(card: Virtio)", &host_of(Some(desktop())), &[]), "audio.card");
    assert!(hard);
    let mut ours = desktop();
    ours.found = Found::Ours;
    let (_, hard, _) = finding(&plan("Auto(user: \"bob\")", &host(1000, Some(ours)), &[]), "audio.user");
    assert!(!hard);
}

#[test]
fn sound_cards_of_the_host_are_reached_by_their_group() {
    let node = |gid| FileFact { kind: Some(FileKind::Character), mode: 0o660, gid, ..FileFact::default() };
    let mut host = host(0, None);
    host.files.insert(Audio::ALSA_NODE.into(), node(29));
    let with = plan("Alsa(output: \"hw:1,0\", latency_ms: 40)", &host, &[]);
    assert_eq!(with.account.as_ref().unwrap().groups, [29]);
    assert!(
        audiodev(&with).contains(r#""out":{"dev":"hw:1,0","period-length":10000,"buffer-length":40000}"#),
        "{}",
        audiodev(&with)
    );
    host.files.insert(Audio::ALSA_NODE.into(), FileFact::default());
    assert_eq!(finding(&plan("Alsa()", &host, &[]), "audio.nodes").0, Verdict::No);
    host.process.uid = 1000;
    host.files.insert(Audio::ALSA_NODE.into(), node(29));
    assert_eq!(finding(&plan("Alsa()", &host, &[]), "audio.nodes").0, Verdict::Unknown);
}

#[test]
fn jack_is_for_its_own_user() {
    let (ok, hard, _) = finding(&plan("Jack()", &host(0, Some(desktop())), &["jack"]), "audio.server");
    assert!(ok == Verdict::No && hard);
    let plan = plan("Jack()", &host(1000, Some(desktop())), &["jack"]);
    assert_eq!(finding(&plan, "audio.server").0, Verdict::Unknown);
    assert!(audiodev(&plan).contains(r#""out":{"client-name":"test"}"#));
    let sandbox = word(&plan, "-sandbox").join(" ");
    assert!(sandbox.contains("spawn=deny") && !sandbox.contains("resourcecontrol"), "{sandbox}");
}

#[test]
fn each_card_has_what_it_needs() {
    let devices = |audio: &str| word(&plan(audio, &host(0, Some(desktop())), &[]), "-device").join(" ");
    let ich9 = devices("Auto()");
    assert!(ich9.contains(r#"{"driver":"ich9-intel-hda","id":"sound0","bus":"pcie.0","addr":"1b.0"}"#), "{ich9}");
    assert!(
        ich9.contains(r#"{"driver":"hda-output","id":"codec0","bus":"sound0.0","cad":0,"audiodev":"audio0"}"#),
        "{ich9}"
    );
    let usb = devices("Auto(card: Usb)");
    assert!(usb.contains(r#"{"driver":"usb-audio","id":"sound0","bus":"usb-sound0.0","audiodev":"audio0"}"#), "{usb}");
    assert!(
        devices("Auto(card: Ac97)")
            .contains(r#""driver":"AC97","id":"sound0","bus":"pcie.0","addr":"1b.0","audiodev":"audio0""#)
    );
}
