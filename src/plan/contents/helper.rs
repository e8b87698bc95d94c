//! A helper process: a program beside QEMU, and what it inherits.

use serde::{Deserialize, Serialize};

use super::parts::Account;
use crate::units::Origin;

/// A program that runs beside QEMU, in the foreground. The launcher starts it before it takes anything from the host, and
/// refuses the start if it ends before the guest runs. It is ended when QEMU has ended, also by `recover`; one that ends by
/// itself with its connection to QEMU is better, since nobody else is there after the death of the launcher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Helper {
    /// Its name in messages, in the log and in the journal, which no other helper of the plan has: `swtpm`.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// What it inherits. (Version 0.1.0 wrote a number `fd` instead; that plan is read only after its helpers have started.)
    #[serde(default)]
    pub inherits: Vec<HelperDescriptor>,
    /// The account that it runs as.
    #[serde(default)]
    pub account: HelperAccount,
    /// Why it is there.
    pub origin: Origin,
}

/// A descriptor that a helper inherits under a fixed number, which its arguments name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelperDescriptor {
    /// Its number in the helper, from 3 on.
    pub fd: i32,
    /// What it is.
    pub what: HelperEnd,
}

/// What a descriptor of a helper is. QEMU has the other end as [`super::Inherited::Helper`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HelperEnd {
    /// One end of a connected pair of sockets (swtpm, passt).
    Connected,
    /// A listening socket, to which QEMU's end is connected already, and which nobody else can reach (virtiofsd).
    Listening,
}

/// The account that a helper runs as. A launcher that is not root starts all as itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HelperAccount {
    /// That of QEMU.
    #[default]
    Qemu,
    /// That of the launcher, for a helper that needs root to make a sandbox of its own.
    Launcher,
    /// Another, such as the owner of a folder.
    Other(Account),
}

impl Helper {
    /// Whether it is passt. A user who starts its command line must tell it `--runas UID:GID`: as root it would become
    /// `nobody`, who may not make a socket in the machine's folder, and passt of 2023-03 goes on without one.
    pub fn is_passt(&self) -> bool {
        self.name.starts_with("passt-")
    }

    /// What the guest is without when a helper of this name has ended while it runs.
    pub fn lost_with(name: &str) -> Option<&'static str> {
        name.starts_with("passt-").then_some("its network card has no connection until the machine is started again")
    }

    /// The account to change to; `None`: the launcher's.
    pub fn runs_as<'a>(&'a self, qemu: Option<&'a Account>) -> Option<&'a Account> {
        match &self.account {
            HelperAccount::Qemu => qemu,
            HelperAccount::Launcher => None,
            HelperAccount::Other(account) => Some(account),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_of_version_0_1_0_is_read() {
        let json = r#"{"name":"swtpm","argv":["/usr/bin/swtpm"],"fd":3,"origin":{"default":"a test"}}"#;
        let helper: Helper = serde_json::from_str(json).unwrap();
        assert_eq!((helper.name.as_str(), &helper.account), ("swtpm", &HelperAccount::Qemu));
    }

    #[test]
    fn a_helper_runs_as_qemu_does_unless_it_says_otherwise() {
        let account = |uid| Account { uid, gid: uid, groups: Vec::new() };
        let qemu = account(61184);
        for (wanted, expected) in [
            (HelperAccount::Qemu, Some(61184)),
            (HelperAccount::Launcher, None),
            (HelperAccount::Other(account(1000)), Some(1000)),
        ] {
            let origin = Origin::Default(String::new());
            let helper =
                Helper { name: String::new(), argv: Vec::new(), inherits: Vec::new(), account: wanted, origin };
            assert_eq!(helper.runs_as(Some(&qemu)).map(|account| account.uid), expected);
        }
    }
}
