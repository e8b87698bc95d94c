//! The user whose desktop it is, and that user's sound servers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::find::{self, Found, WantedDesktop};
use super::servers::{self, SoundServerFact};
use crate::host::{Environment, Process, Root, sessions};

/// The user whose desktop it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desktop {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// The account's name, if it has one.
    pub name: Option<String>,
    /// How it was found.
    pub found: Found,
    /// The file by which clients prove to PulseAudio that they may connect, if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<PathBuf>,
    /// PipeWire.
    pub pipewire: SoundServerFact,
    /// PulseAudio, or what stands in for it.
    pub pulse: SoundServerFact,
    /// Whether the user's service manager, and the sound servers with it, stays without a session.
    pub stays: bool,
}

impl Desktop {
    /// Finds the user and asks the sound servers. `None` if there is nobody, or no such account.
    pub(in crate::host) fn read(
        root: &Root,
        environment: &Environment,
        process: &Process,
        wanted: &WantedDesktop,
    ) -> Option<Self> {
        let sessions = sessions::sessions(root);
        let managers = sessions::managers(root);
        let (uid, found) = find::user(root, environment, process, &sessions, &managers, wanted)?;
        let account = sessions::account(root, uid);
        let usual = PathBuf::from(format!("/run/user/{uid}"));
        let runtime = match found {
            Found::Ours => environment.folder("XDG_RUNTIME_DIR").unwrap_or(usual),
            _ => usual,
        };
        let home = account.as_ref().map(|account| account.home.clone());
        let cookie = home.and_then(|home| servers::find_cookie(root, &home));
        let with_cookie = cookie.as_ref().and_then(|path| servers::read_cookie(&root.path(path), uid).ok());
        // Only a session that is on no screen outlives the display manager.
        let stays = managers.iter().any(|manager| manager.uid == uid && manager.lingers)
            || sessions.iter().any(|session| session.uid == uid && !session.is_graphical());
        Some(Self {
            uid,
            gid: account.as_ref().map_or(uid, |account| account.gid),
            name: account.map(|account| account.name),
            found,
            cookie,
            pipewire: servers::look(root, runtime.join("pipewire-0"), uid, servers::connects),
            pulse: servers::look(root, runtime.join("pulse/native"), uid, |socket| {
                servers::lets_in(socket, with_cookie.as_deref())
            }),
            stays,
        })
    }

    /// The user as people know it.
    pub fn user(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("user {}", self.uid))
    }
}
