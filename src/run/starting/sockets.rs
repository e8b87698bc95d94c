//! What QEMU and its helpers inherit: the launcher binds, pairs or opens it before it starts these processes, so that no
//! process has to wait for a socket to appear.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context as _, Result};

use super::contents::Contents;
use super::sound;
use super::taps;
use crate::plan::{Descriptor, Helper, HelperDescriptor, HelperEnd, Inherited, Plan};

/// The descriptors of QEMU and the helpers under their numbers, and our ends of those that have one.
#[derive(Debug)]
pub struct Sockets {
    /// What QEMU inherits: number and descriptor.
    pub qemu: Vec<(i32, OwnedFd)>,
    /// Our end of QEMU's monitor.
    pub qmp: UnixStream,
    /// What each helper of the plan inherits, in its order.
    pub helpers: Vec<Vec<(i32, OwnedFd)>>,
}

/// Makes all that QEMU and the helpers inherit, but for the files, which are there.
pub fn make(plan: &Plan, mut contents: Contents) -> Result<Sockets> {
    let (qmp, theirs) = UnixStream::pair()?;
    let mut monitor = Some(OwnedFd::from(theirs));
    let mut helpers = Vec::new();
    let mut joined = BTreeMap::new();
    for helper in &plan.helpers {
        helpers.push(join(helper, &plan.paths.run, &mut joined)?);
    }
    let mut qemu = Vec::new();
    for (index, Descriptor { fd, what }) in plan.descriptors.iter().enumerate() {
        let end = match what {
            Inherited::Qmp => monitor.take().context("the plan has two monitors for the launcher")?,
            Inherited::Listen(path) => OwnedFd::from(listen(path)?),
            Inherited::Device(path) => File::options()
                .read(true)
                .write(true)
                .open(path)
                .with_context(|| format!("cannot open {} for the guest", path.display()))?
                .into(),
            Inherited::Tap(tap) => {
                let first = plan.descriptors.iter().take(index).all(|earlier| earlier.what != *what);
                taps::open_queue(tap, first)?
            }
            Inherited::Macvtap(name) => taps::open_macvtap(name)?,
            Inherited::BridgeHelper { program, bridge } => taps::by_helper(program, bridge)?,
            Inherited::Content(_) | Inherited::Copy(_) | Inherited::File(_) | Inherited::Memory(_) => {
                let made = contents.iter().position(|(number, _)| number == fd);
                contents.swap_remove(made.with_context(|| format!("there is no file for descriptor {fd}"))?).1
            }
            Inherited::SoundServer { server, socket, uid, cookie } => {
                sound::server(*server, socket, *uid, cookie.as_deref())?
            }
            Inherited::Cookie { path, uid } => sound::cookie(path, *uid, plan.account.as_ref())?,
            Inherited::Helper(name) => {
                joined.remove(name.as_str()).with_context(|| format!("the plan has no helper {name}"))?
            }
        };
        qemu.push((*fd, end));
    }
    Ok(Sockets { qemu, qmp, helpers })
}

/// Makes what a helper inherits. QEMU's end goes to `joined`, under the helper's name.
fn join<'a>(helper: &'a Helper, run: &Path, joined: &mut BTreeMap<&'a str, OwnedFd>) -> Result<Vec<(i32, OwnedFd)>> {
    let mut inherits = Vec::new();
    for HelperDescriptor { fd, what } in &helper.inherits {
        let (theirs, qemus): (OwnedFd, UnixStream) = match what {
            HelperEnd::Connected => {
                let (theirs, qemus) = UnixStream::pair()?;
                (theirs.into(), qemus)
            }
            HelperEnd::Listening => {
                // The name is there for a moment, in a folder that nobody else may enter.
                let path = run.join("helper.sock");
                let listener = listen(&path)?;
                let qemus = UnixStream::connect(&path);
                std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
                (listener.into(), qemus.with_context(|| format!("cannot connect to {}", path.display()))?)
            }
        };
        inherits.push((*fd, theirs));
        joined.insert(&helper.name, qemus.into());
    }
    Ok(inherits)
}

/// A listening socket that only its owner may connect to. One left by an earlier run is replaced.
pub fn listen(path: &Path) -> Result<UnixListener> {
    let bound = || -> std::io::Result<UnixListener> {
        if path.exists() {
            std::fs::remove_file(path)?;
        }
        // The folder is 0700, so no other user can connect between bind and chmod.
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    bound().with_context(|| format!("cannot listen on {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::plan::HelperAccount;
    use crate::units::Origin;

    #[test]
    fn a_helper_that_listens_has_its_one_client_and_nobody_else_finds_it() {
        let folder = tempfile::tempdir().unwrap();
        let helper = Helper {
            name: "virtiofsd-a".to_owned(),
            argv: Vec::new(),
            inherits: vec![HelperDescriptor { fd: 5, what: HelperEnd::Listening }],
            account: HelperAccount::Launcher,
            origin: Origin::Default(String::new()),
        };
        let mut joined = BTreeMap::new();
        let inherits = join(&helper, folder.path(), &mut joined).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let [(5, listener)] = <[_; 1]>::try_from(inherits).unwrap() else { panic!("another number") };
        let (mut helpers, _) = UnixListener::from(listener).accept().unwrap();
        helpers.write_all(b"hello").unwrap();
        drop(helpers);
        let mut said = String::new();
        UnixStream::from(joined.remove("virtiofsd-a").unwrap()).read_to_string(&mut said).unwrap();
        assert_eq!(said, "hello");
    }
}
