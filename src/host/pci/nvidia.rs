//! What keeps NVIDIA's driver from letting one of several cards go. It waits without end for the card's last user, and users
//! come by nodes that all its cards share.

use serde::{Deserialize, Serialize};

use super::function::PciFunction;
use super::holders::{self, Holder};
use super::nodes::{self, Node};
use crate::host::Root;

/// The name of the driver.
pub(super) const DRIVER: &str = "nvidia";

/// NVIDIA's driver, if it has more than one card.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Nvidia {
    /// Whether its DRM part sets modes, and so uses each card itself (`nvidia_drm.modeset`); `None`: only root can read that.
    pub modeset: Option<bool>,
    /// The nodes of all its cards.
    pub nodes: Vec<Node>,
    /// Who has one of them open.
    pub holders: Vec<Holder>,
}

impl Nvidia {
    /// `None`: it has one card or none, whose nodes are that card's.
    pub(super) fn read(root: &Root, functions: &[PciFunction]) -> Option<Self> {
        let cards = || functions.iter().filter(|f| f.driver.as_deref() == Some(DRIVER));
        if cards().count() < 2 {
            return None;
        }
        let mut nodes = Vec::new();
        for (n, card) in cards().enumerate() {
            // Those that they share once.
            let driver = nodes::Driver { name: Some(DRIVER), group: card.group, address: card.address, alone: n == 0 };
            nodes::of_driver(root, &driver, &mut nodes);
        }
        let mut holders = holders::of_nodes(root, &nodes);
        holders::name_users(root, &mut holders);
        Some(Self { modeset: modeset(root), nodes, holders })
    }
}

fn modeset(root: &Root) -> Option<bool> {
    const FOLDER: &str = "/sys/module/nvidia_drm";
    if !root.path(FOLDER).exists() {
        return Some(false);
    }
    let text = root.text_up_to(format!("{FOLDER}/parameters/modeset"), 16)?;
    Some(matches!(text.as_str(), "Y" | "1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::sample_tree;

    fn card(address: &str, driver: &str) -> PciFunction {
        PciFunction {
            address: address.parse().unwrap(),
            ids: "10de:2684".parse().unwrap(),
            subsystem: None,
            class: 0x03_0000,
            driver: Some(driver.to_owned()),
            group: None,
            port: None,
            details: None,
        }
    }

    #[test]
    fn of_several_cards_the_nodes_of_all_count_and_who_has_one_open() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| sample_tree::put(folder.path(), path, text);
        let root = Root::new(folder.path());
        put("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t x\nDevice Minor: \t 0\n");
        put("proc/driver/nvidia/gpus/0000:02:00.0/information", "Device Minor: \t 1\n");
        put("proc/7/comm", "ollama\n");
        put("proc/7/maps", "7f1c00000000-7f1c00010000 rw-s 100000000 00:05 423 /dev/nvidiactl\n");
        let cards = [card("01:00.0", "nvidia"), card("02:00.0", "nvidia"), card("03:00.0", "amdgpu")];
        let read = || Nvidia::read(&root, &cards).unwrap();
        let paths: Vec<String> = read().nodes.iter().map(|node| node.path.display().to_string()).collect();
        assert_eq!(paths, ["/dev/nvidia0", "/dev/nvidia-modeset", "/dev/nvidiactl", "/dev/nvidia1"]);
        assert_eq!(read().holders.iter().map(|holder| holder.comm.as_str()).collect::<Vec<_>>(), ["ollama"]);
        assert_eq!(read().modeset, Some(false));
        put("sys/module/nvidia_drm/refcnt", "2\n");
        assert_eq!(read().modeset, None);
        put("sys/module/nvidia_drm/parameters/modeset", "Y\n");
        assert_eq!(read().modeset, Some(true));
        put("sys/module/nvidia_drm/parameters/modeset", "N\n");
        assert_eq!(read().modeset, Some(false));
        assert_eq!(Nvidia::read(&root, &cards[1..]), None);
    }
}
