//! Whether the kernel can name the machine's sockets.

use std::path::{Path, PathBuf};

use crate::plan::draft::Draft;
use crate::plan::{Inherited, Severity};

/// The longest path of a socket: `sun_path` has 108 bytes and ends with zero (unix(7)).
const LONGEST: usize = 107;
/// The sockets that have a place in the run directory whatever the machine is, and the longest that QEMU makes itself.
const ALWAYS: &str = "control.sock";
const OF_DISPLAY: &str = "spice.sock";

pub(in crate::plan) fn check(draft: &mut Draft) {
    let display = draft.paths.display.to_string_lossy().into_owned();
    let shows = draft.options.iter().filter_map(|option| option.value.written()).any(|value| value.contains(&display));
    let mut paths: Vec<PathBuf> = vec![draft.paths.run.join(ALWAYS)];
    paths.extend(shows.then(|| draft.paths.display.join(OF_DISPLAY)));
    paths.extend(draft.descriptors.iter().filter_map(|descriptor| match &descriptor.what {
        Inherited::Listen(path) => Some(path.clone()),
        _ => None,
    }));
    // A helper that listens has one there for a moment.
    paths.extend(draft.helpers.iter().map(|helper| draft.paths.run.join(format!("{}.sock", helper.name))));
    let length = |path: &Path| path.as_os_str().len();
    let Some(longest) = paths.into_iter().filter(|path| length(path) > LONGEST).max_by_key(|path| length(path)) else {
        return;
    };
    let detail = format!(
        "the path of a socket has at most {LONGEST} bytes, and {} has {}",
        longest.display(),
        longest.as_os_str().len()
    );
    let remedy = "give the machine a shorter `name`, or set `XDG_RUNTIME_DIR` to a shorter path";
    draft.no("folders.sockets", Severity::Hard, detail, remedy);
}

#[cfg(test)]
mod tests {
    use crate::plan::sample::{Shape, host, plan};

    #[test]
    fn a_path_that_no_socket_can_have_forbids_the_start() {
        let mut host = host(Shape::simple(4, 1));
        let machine = |name: usize, more: &str| {
            format!("(name: \"{}\", guest: Other, memory: (size: \"1 GiB\"){more})", "x".repeat(name))
        };
        let finding = |host: &_, text: &str| plan(text, host).findings.into_iter().find(|f| f.key == "folders.sockets");
        host.process.run_dir = "/r".into();
        // /r/NAME/control.sock
        assert!(finding(&host, &machine(60, "")).is_none());
        host.process.run_dir =
            format!("/{}/vfio-run", "r".repeat(107 - 60 - "////control.sock".len() - "vfio-run".len())).into();
        assert!(finding(&host, &machine(60, "")).is_none());
        let found = finding(&host, &machine(61, "")).unwrap();
        assert!(found.blocks() && found.sentence().contains("control.sock has 108"), "{found:?}");
        // The folder beside it has the longer name.
        assert!(finding(&host, &machine(60, ", display: Spice()")).is_some());
    }
}
