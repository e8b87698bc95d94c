//! Screens as clients meet them: who may connect to a socket, what VNC and SPICE make of passwords, whose certificate they
//! show.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::unistd::{Uid, setfsuid};

use super::launcher::{LIMIT, wait_for};
use super::port;
use super::talk::Serial;
use super::world::{NOBODY, World, each, each_as_root, own};

/// The password that is right.
const PASSWORD: &str = "geheim12";
/// Two users who may not do what the other may.
const ALICE: u32 = 4242;
const MALLORY: u32 = 4243;

#[test]
fn vnc_takes_the_right_password_and_no_other() {
    each(|world| {
        world.file("pw", format!("{PASSWORD}\n"));
        let mut launcher = world.run(&world.machine("display: Vnc(password_file: \"pw\")"));
        launcher.tells(" runs (");
        let socket = world.display_dir().join("vnc.sock");
        assert_eq!([vnc_result(&socket, "wrong"), vnc_result(&socket, PASSWORD)], [1, 0]);
        let argv = world.processes();
        assert!(argv.iter().all(|(_, arguments)| !arguments.contains(PASSWORD)), "{argv:?}");
        Serial::of(world).leave_with("q");
        launcher.ended().with(0);
    });
}

#[test]
fn spice_takes_the_right_password_and_no_other() {
    each(|world| {
        world.file("pw", PASSWORD);
        let fields = "guest: Linux, firmware: Bios, display: Spice(password_file: \"pw\", clipboard: true, usb_redirection: 2), \
                      video: Qxl, video_memory: \"32 MiB\"";
        let mut launcher = world.run(&world.machine(fields));
        launcher.tells(" runs (");
        let socket = world.display_dir().join("spice.sock");
        // SPICE_LINK_ERR_OK, SPICE_LINK_ERR_PERMISSION_DENIED.
        assert_eq!([spice_result(world, &socket, "wrong"), spice_result(world, &socket, PASSWORD)], [7, 0]);
        Serial::of(world).leave_with("q");
        launcher.ended().with(0);
    });
}

#[test]
fn a_server_with_tls_shows_the_hosts_certificate() {
    each(|world| {
        let (cert, key) = (world.path("host.pem"), world.path("host.key"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=vfio-run-test", "-days", "2"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&cert)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        own(&key);
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let tls = "tls: (cert: \"host.pem\", key: \"host.key\")";

        let port = port::free();
        let mut launcher = world.run(&world.machine(&format!("display: Spice(port: {port}, {tls})")));
        launcher.tells(" runs (");
        let shown = certificate(&["-connect", &format!("127.0.0.1:{port}")], &cert);
        assert!(shown.contains("CN = vfio-run-test") && shown.contains("Verify return code: 0 (ok)"), "{shown}");
        Serial::of(world).leave_with("q");
        launcher.ended().with(0);
        world.is_clean();

        let port = port::free();
        let mut launcher = world.run(&world.machine(&format!("display: Vnc(port: {port}, {tls})")));
        launcher.tells(" runs (");
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // VeNCrypt, and nothing without encryption.
        assert_eq!(vnc_security(&mut stream), [19]);
        // With X.509 and without a password (X509None of QEMU's `ui/vnc-auth-vencrypt.c`).
        vencrypt(&mut stream, 260);
        let shown = certificate_behind(world, stream, &cert);
        assert!(shown.contains("CN = vfio-run-test") && shown.contains("Verify return code: 0 (ok)"), "{shown}");
        Serial::of(world).leave_with("q");
        launcher.ended().with(0);
        world.is_clean();

        world.file("host.key", "no key");
        let refused = world.run(&world.machine(&format!("display: Vnc(port: {port}, {tls})"))).ended();
        assert!(refused.code != Some(0) && refused.err.contains("host.key has no PRIVATE KEY"), "{refused:?}");
    });
}

/// A program of the user whose desktop it is: nobody, if root runs the tests.
fn as_user(world: &World, program: &str) -> Command {
    let mut command = Command::new(program);
    world.environment(&mut command);
    if Uid::effective().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// A session bus, which ends with this.
struct Bus(Child);

impl Bus {
    fn start(world: &World, socket: &Path) -> Self {
        let mut command = as_user(world, "dbus-daemon");
        command.args(["--session", "--nofork", "--nopidfile", "--nosyslog"]);
        let child = command.arg(format!("--address=unix:path={}", socket.display())).spawn().unwrap();
        wait_for("the bus", || socket.exists().then_some(()));
        Self(child)
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The guest's name, as a client of the bus reads it.
fn name_on_bus(world: &World, socket: &Path) -> String {
    let mut client = as_user(world, "dbus-send");
    client.arg(format!("--bus=unix:path={}", socket.display())).args(["--print-reply=literal", "--dest=org.qemu"]);
    client.args(["/org/qemu/Display1/VM", "org.freedesktop.DBus.Properties.Get"]);
    let said = client.args(["string:org.qemu.Display1.VM", "string:Name"]).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8_lossy(&said.stdout)
        .trim_start_matches([' ', '\t'])
        .trim_start_matches("variant")
        .trim()
        .to_owned()
}

#[test]
fn a_client_finds_the_screen_on_the_session_bus_and_the_guest_outlives_the_bus() {
    each(|world| {
        let machine = world.machine("guest: Linux, firmware: Bios, display: DBus(clipboard: true)");
        let none = world.run(&machine).ended().with(3);
        let socket = world.path("run/bus");
        let words = format!("QEMU cannot use the bus at unix:path={}: No such file", socket.display());
        assert!(none.err.contains(&words), "{none:?}");

        // Where a desktop has it, which nothing but the runtime folder tells.
        let bus = Bus::start(world, &socket);
        let mut launcher = world.run(&machine);
        launcher.tells(" runs (");
        assert_eq!(name_on_bus(world, &socket), world.name);
        drop(bus);
        Serial::of_running(world).leave_with("q");
        launcher.ended().with(0);
        drop(std::fs::remove_file(&socket));
        world.is_clean();

        let socket = world.path("run/elsewhere");
        let bus = Bus::start(world, &socket);
        let mut command = world.command(&["run", machine.to_str().unwrap()]);
        command.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={},guid=0", socket.display()));
        let mut launcher = world.start(command);
        launcher.tells(" runs (");
        assert_eq!(name_on_bus(world, &socket), world.name);
        Serial::of(world).leave_with("q");
        launcher.ended().with(0);
        drop(bus);
    });
}

#[test]
#[ignore = "must be root, whose QEMU has a user id of its own"]
fn qemus_own_account_is_on_no_bus_and_a_users_is_on_that_users() {
    each_as_root(|world| {
        let refused = world.run(&world.machine("guest: Linux, firmware: Bios, display: DBus")).ended().with(3);
        assert!(refused.err.contains("a bus lets in users alone that have an account"), "{refused:?}");

        let socket = world.path("bus");
        let display = format!("display: DBus(bus: \"unix:path={}\"), user: \"{NOBODY}\"", socket.display());
        let machine = world.machine(&format!("guest: Linux, firmware: Bios, {display}"));
        let bus = Bus::start(world, &socket);
        let mut launcher = world.run(&machine);
        launcher.tells(" runs (");
        assert_eq!(name_on_bus(world, &socket), world.name);
        Serial::of(world).leave_with("q");
        launcher.ended().with(0);
        drop(bus);
    });
}

#[test]
#[ignore = "must be root, to give a socket to another user"]
fn roots_socket_is_one_users_alone() {
    each_as_root(|world| {
        let machine = world.machine(&format!("display: Vnc(for_user: \"{ALICE}\")"));
        let mut launcher = world.run(&machine);
        launcher.tells(" runs (");
        let socket = world.display_dir().join("vnc.sock");
        let meta = std::fs::metadata(&socket).unwrap();
        assert!(meta.file_type().is_socket());
        assert_eq!((meta.uid(), meta.mode() & 0o077), (ALICE, 0));
        // QEMU's account has no folder any more that it could fill.
        let folder = std::fs::metadata(world.display_dir()).unwrap();
        assert_eq!((folder.uid(), folder.gid(), folder.mode() & 0o777), (0, 0, 0o711));
        let reached = |uid| connect_as(uid, &socket).map(|mut stream| vnc_security(&mut stream));
        assert_eq!(reached(ALICE).unwrap(), [1]);
        assert_eq!(reached(MALLORY).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
        // The screen can still be reached when the launcher is gone.
        launcher.signal(nix::sys::signal::Signal::SIGKILL);
        launcher.ended();
        assert_eq!(reached(ALICE).unwrap(), [1]);
        let mut adopted = world.start(world.command(&["recover", "--adopt", &world.name]));
        adopted.tells(&world.name);
        assert_eq!(reached(ALICE).unwrap(), [1]);
        Serial::of(world).leave_with("q");
        adopted.ended().with(0);
        assert!(!world.display_dir().exists());
        assert!(!world.log().contains("ermission denied"), "{}", world.log());
    });
}

/// A machine for Looking Glass: its client, a program of the desktop's user, needs both the memory and the SPICE server.
#[test]
#[ignore = "must be root, to start a machine for another user's desktop"]
fn looking_glass_reaches_its_memory_and_its_server_as_the_desktops_user() {
    const MEMORY: &str = "/dev/shm/looking-glass";
    each_as_root(|world| {
        let machine = world.machine(
            "guest: Linux, firmware: Bios, display: Spice, video: None, looking_glass: (width: 640, height: 480)",
        );
        let mut command = world.command(&["run", machine.to_str().unwrap()]);
        let mut launcher = world.start({
            command.env("SUDO_UID", ALICE.to_string());
            command
        });
        launcher.tells(" runs (");
        let socket = world.display_dir().join("spice.sock");
        assert!(connect_as(ALICE, &socket).is_ok());
        assert_eq!(connect_as(MALLORY, &socket).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
        let meta = std::fs::metadata(MEMORY).unwrap();
        let qemu = std::fs::metadata(format!("/proc/{}", world.pid("qemu"))).unwrap().uid();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777, meta.len()), (qemu, ALICE, 0o660, 16 << 20));
        let open = |user| {
            let mut command = Command::new("dd");
            command.args([
                "if=/dev/zero",
                &format!("of={MEMORY}"),
                "bs=4096",
                "count=1",
                "conv=notrunc",
                "oflag=nofollow",
            ]);
            command.uid(user).gid(user);
            command.stderr(Stdio::null()).status().unwrap().success()
        };
        assert_eq!([open(ALICE), open(MALLORY)], [true, false]);
        Serial::of(world).leave_with("q");
        launcher.ended().with(0);
        assert!(!Path::new(MEMORY).exists());
    });
}

#[test]
fn a_port_that_somebody_listens_on_is_told_before_the_start() {
    each(a_port_is_told);
}

#[test]
#[ignore = "must be root, to see who listens"]
fn root_is_told_who_listens_on_it() {
    each_as_root(a_port_is_told);
}

fn a_port_is_told(world: &World) {
    let port = port::free();
    let machine = world.machine(&format!("display: Spice(port: {port})"));
    let machine = machine.to_str().unwrap();
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let refused = world.done(&["run", machine]).with(3);
    let who = match world.is_root() {
        true => format!("(process {}", std::process::id()),
        false => "a program of user 0".to_owned(),
    };
    // Only as root the tests are another user's.
    let who = if Uid::effective().is_root() { who } else { format!("(process {}", std::process::id()) };
    for words in [&*format!("the SPICE server cannot listen on 127.0.0.1:{port}: "), &who, " listens on 127.0.0.1:"] {
        assert!(refused.err.contains(words), "{words}: {refused:?}");
    }
    drop(taken);
    let mut launcher = world.run(Path::new(machine));
    launcher.tells(" runs (");
    let checked = world.done(&["check", machine]).with(0);
    assert!(checked.out.contains(&format!("this machine's QEMU runs and listens on 127.0.0.1:{port}")), "{checked:?}");
    Serial::of(world).leave_with("q");
    launcher.ended().with(0);
}

/// Connects as another user: the kernel judges by the thread's user id for files.
fn connect_as(uid: u32, socket: &Path) -> std::io::Result<UnixStream> {
    std::thread::scope(|scope| {
        let connected = scope.spawn(|| {
            setfsuid(Uid::from_raw(uid));
            UnixStream::connect(socket)
        });
        connected.join().unwrap()
    })
}

/// The version, and the security types that a VNC server offers (RFC 6143, section 7.1).
fn vnc_security(stream: &mut (impl std::io::Read + std::io::Write)) -> Vec<u8> {
    let mut version = [0; 12];
    stream.read_exact(&mut version).unwrap();
    assert_eq!(&version, b"RFB 003.008\n");
    stream.write_all(&version).unwrap();
    let mut number = [0];
    stream.read_exact(&mut number).unwrap();
    let mut types = vec![0; number[0].into()];
    stream.read_exact(&mut types).unwrap();
    types
}

/// What a VNC server says to a password: 0 for yes.
fn vnc_result(socket: &Path, password: &str) -> u32 {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    assert_eq!(vnc_security(&mut stream), [2], "VNC authentication, and nothing without a password");
    stream.write_all(&[2]).unwrap();
    let mut challenge = [0; 16];
    stream.read_exact(&mut challenge).unwrap();
    // DES whose key has the bits of each byte in reverse.
    let mut key = [0u8; 8];
    key.iter_mut().zip(password.bytes()).for_each(|(bits, letter)| *bits = letter.reverse_bits());
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let arguments = ["enc", "-des-ecb", "-nopad", "-provider", "legacy", "-provider", "default", "-K", &key];
    stream.write_all(&openssl(&arguments, &challenge)).unwrap();
    let mut result = [0; 4];
    stream.read_exact(&mut result).unwrap();
    u32::from_be_bytes(result)
}

/// What a SPICE server says to a password: 0 for yes (SPICE protocol 1.0, chapter 11: links).
fn spice_result(world: &World, socket: &Path, password: &str) -> u32 {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let number = |value: u32| value.to_le_bytes().to_vec();
    // The main channel, for a client without capabilities.
    let message: Vec<u8> = [number(0), vec![1, 0], number(0), number(0), number(18)].concat();
    let head = [b"REDQ".to_vec(), number(2), number(2), number(message.len() as u32)].concat();
    stream.write_all(&[head, message].concat()).unwrap();
    let mut head = [0; 16];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head[..4], b"REDQ");
    let mut reply = vec![0; u32::from_le_bytes(head[12..].try_into().unwrap()) as usize];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..4], [0; 4], "no error");
    let key = world.file("spice.der", &reply[4..4 + 162]);
    let arguments = ["pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-pkeyopt", "rsa_padding_mode:oaep", "-inkey"];
    let arguments: Vec<&str> = arguments.into_iter().chain([key.to_str().unwrap()]).collect();
    stream.write_all(&openssl(&arguments, format!("{password}\0").as_bytes())).unwrap();
    let mut result = [0; 4];
    stream.read_exact(&mut result).unwrap();
    u32::from_le_bytes(result)
}

/// What a server shows of itself, to a client that trusts this certificate.
fn certificate(place: &[&str], trusted: &Path) -> String {
    let arguments = [&["s_client", "-CAfile", trusted.to_str().unwrap(), "-nameopt", "oneline"], place].concat();
    String::from_utf8_lossy(&openssl(&arguments, b"")).into_owned()
}

/// Agrees with a VNC server on VeNCrypt 0.2 and the only kind of it that there is; TLS follows.
fn vencrypt(stream: &mut TcpStream, kind: u32) {
    stream.write_all(&[19]).unwrap();
    let mut version = [0; 2];
    stream.read_exact(&mut version).unwrap();
    assert_eq!(version, [0, 2]);
    stream.write_all(&version).unwrap();
    let mut kinds = [0; 6];
    stream.read_exact(&mut kinds).unwrap();
    assert_eq!(kinds[..2], [0, 1], "the version is taken, and there is one kind");
    assert_eq!(kinds[2..], kind.to_be_bytes());
    stream.write_all(&kinds[2..]).unwrap();
    let mut taken = [0];
    stream.read_exact(&mut taken).unwrap();
    assert_eq!(taken, [1]);
}

/// What a server shows of itself on a connection on which TLS begins only now.
fn certificate_behind(world: &World, stream: TcpStream, trusted: &Path) -> String {
    let path = world.path("tls.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut client, _) = listener.accept().unwrap();
            let (mut from_client, mut to_server) = (client.try_clone().unwrap(), stream.try_clone().unwrap());
            scope.spawn(move || {
                // The client has what it wanted, and its end may be an error.
                drop(std::io::copy(&mut from_client, &mut to_server));
                drop(to_server.shutdown(std::net::Shutdown::Both));
            });
            drop(std::io::copy(&mut &stream, &mut client));
        });
        certificate(&["-unix", path.to_str().unwrap()], trusted)
    })
}

fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("openssl is installed");
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap().stdout
}
