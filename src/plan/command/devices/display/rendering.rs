//! What a GPU of the host renders for `virtio-vga-gl`, and how QEMU's account comes by its node.

use serde_json::{Map, Value};

use super::checks;
use crate::host::RenderNode;
use crate::machine::Rendering;
use crate::plan::Severity::Hard;
use crate::plan::draft::{self, Draft, by_fact};
use crate::qemu::command::QemuOption;
use crate::units::PciAddress;

/// The object of `-display` that renders and shows nothing; a server shows what it has rendered.
pub(super) fn headless(draft: &mut Draft, gl: Option<&Rendering>, given: &[PciAddress]) -> Map<String, Value> {
    checks::known(draft, "egl-headless");
    let mut object = Map::from_iter([("type".to_owned(), Value::from("egl-headless"))]);
    let node = node(draft, gl.unwrap_or(&Rendering::default()), given);
    object.extend(node.map(|node| ("rendernode".to_owned(), node.into())));
    object
}

/// What has a display whose clients are on this host show what the GPU has rendered.
pub(super) fn on_display(draft: &mut Draft, rendering: &Rendering, given: &[PciAddress]) -> Map<String, Value> {
    let mut members = Map::from_iter([("gl".to_owned(), Value::from("on"))]);
    members.extend(node(draft, rendering, given).map(|node| ("rendernode".to_owned(), node.into())));
    members
}

/// SPICE whose client on this host shows what the GPU has rendered.
pub(super) fn shared(draft: &mut Draft, rendering: &Rendering, given: &[PciAddress], spice: QemuOption) -> QemuOption {
    let spice = spice.with("gl", "on");
    match node(draft, rendering, given) {
        Some(node) => {
            let origin = match &rendering.render_node {
                Some(_) => draft.file("video.render_node"),
                None => by_fact("the first GPU that the guest is not given"),
            };
            let mut spice = spice;
            spice.set_from("rendernode", node, origin);
            spice
        }
        None => spice,
    }
}

/// The node, to which QEMU's account gets the right by its group.
fn node(draft: &mut Draft, rendering: &Rendering, given: &[PciAddress]) -> Option<String> {
    const KEY: &str = "display.render_node";
    let nodes = draft.host.render_nodes.as_deref();
    let Some(nodes) = nodes else {
        draft.unknown(KEY, Hard, "vfio-run did not look for GPUs that render");
        return rendering.render_node.as_deref().map(draft::text);
    };
    let is_given = |node: &RenderNode| node.address.is_some_and(|address| given.contains(&address));
    let found = match &rendering.render_node {
        Some(path) => nodes.iter().find(|node| node.path == *path).cloned(),
        None => nodes.iter().find(|node| !is_given(node)).cloned(),
    };
    let list = nodes.iter().map(|node| node.path.display().to_string()).collect::<Vec<_>>().join(", ");
    let Some(node) = found else {
        let (detail, remedy) = match &rendering.render_node {
            Some(path) if nodes.is_empty() => (
                format!("{} is no GPU that renders; this host has none", path.display()),
                "use `video: Virtio`".to_owned(),
            ),
            Some(path) => (
                format!("{} is no GPU that renders", path.display()),
                format!("name one of these in `render_node`: {list}"),
            ),
            None if nodes.is_empty() => (
                "no GPU of this host renders: there is no /dev/dri/renderD…".to_owned(),
                "load the GPU's driver, or use `video: Virtio`".to_owned(),
            ),
            None => ("the guest is given each GPU that could render".to_owned(), "use `video: Virtio`".to_owned()),
        };
        draft.no(KEY, Hard, detail, &remedy);
        draft.about("video");
        return rendering.render_node.as_deref().map(draft::text);
    };
    let shown = node.path.display();
    if is_given(&node) {
        let detail = format!("{shown} is of a GPU that the guest is given");
        draft.no(KEY, Hard, detail, "name another in `render_node`, or use `video: Virtio`");
        draft.about("video");
        return Some(draft::text(&node.path));
    }
    let process = &draft.host.process;
    let allowed = match &mut draft.account {
        _ if node.mode & 0o006 == 0o006 => Some(true),
        // By its group, not as its owner: the programs of the desktop go on using the GPU.
        Some(account) if account.uid != 0 => {
            let by_group = node.gid != 0 && node.mode & 0o060 == 0o060;
            if by_group && !account.groups.contains(&node.gid) {
                account.groups.push(node.gid);
            }
            Some(by_group || account.uid == node.uid)
        }
        _ if process.uid == 0 => Some(true),
        None | Some(_) => (process.uid == node.uid || process.gid == node.gid).then_some(true),
    };
    match allowed {
        Some(true) => draft.yes(KEY, Hard, format!("{shown} renders for the guest")),
        None => draft.unknown(KEY, Hard, format!("whether you can open {shown} depends on your groups")),
        Some(false) => {
            let detail = format!("QEMU's account cannot open {shown} (group {}, mode {:o})", node.gid, node.mode);
            draft.no(KEY, Hard, detail, "give the node a group of its own with a udev rule, or use `video: Virtio`");
            draft.about("video");
        }
    }
    Some(draft::text(&node.path))
}
