//! `vfio-run import DOMAIN.xml`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::shared::home::home;
use super::shared::{planned, whole_file};
use crate::cli::{ImportArgs, OutputArgs};
use crate::host::Root;
use crate::import::{self, Beside, Imported, MAX_TEXT, Scripts};
use crate::report;
use crate::units::exit;

/// Where libvirt keeps its domains.
const DOMAINS: &str = "/etc/libvirt/qemu";
/// Where libvirt looks for hooks.
const HOOKS: &str = "/etc/libvirt/hooks";

/// Makes a machine file from a domain.
pub fn import(args: &ImportArgs, output: OutputArgs) -> Result<u8> {
    let root = planned::root();
    let (shown, text) = read(args, &root)?;
    if let Some(folder) = args.hooks.as_ref().filter(|folder| !folder.is_dir()) {
        bail!("{} is no folder; libvirt's hooks are in {HOOKS}", folder.display());
    }
    let target = args.output.as_deref().map(super::disk::absolute).transpose()?;
    if let Some(target) = target.as_ref().filter(|target| target.symlink_metadata().is_ok()) {
        bail!("{} exists already, and is not overwritten: name another file with `-o`", target.display());
    }
    let path = target.clone().unwrap_or_else(|| PathBuf::from("/machine.ron"));
    let folder = args.hooks.as_deref().map(super::disk::absolute).transpose()?;
    let scripts = |folder, named| Scripts { root: &root, folder, named, host: Some(&root) };
    let hooks = match (&folder, &args.libvirt) {
        (Some(folder), _) => Some(scripts(folder.as_path(), true)),
        (None, Some(_)) => Some(scripts(Path::new(HOOKS), false)),
        (None, None) => None,
    };
    let home = home(&root);
    let beside = Beside { root: Some(&root), home: home.as_deref(), hooks, path: &path };
    let read = match args.qemu {
        Some(_) => import::script(&text, &shown, beside),
        None => import::domain(&text, beside),
    };
    let imported = match read {
        Ok(imported) => imported,
        Err(error) => {
            report::complain(&format!("{shown}: {error}"));
            return Ok(exit::USAGE);
        }
    };
    let refused = args.strict && imported.needs_person();
    if let Some(target) = target.as_ref().filter(|_| !refused) {
        if let Some((file, key)) = &imported.key {
            whole_file::write_new(file, key.as_bytes(), 0o600)?;
        }
        whole_file::write_new(target, imported.file.as_bytes(), 0o666)?;
    }
    show(args, output, &imported, refused)?;
    Ok(if refused { exit::REFUSED } else { exit::OK })
}

/// The domain's text, and what it is called in messages.
fn read(args: &ImportArgs, root: &Root) -> Result<(String, String)> {
    let (shown, bytes) = match (&args.libvirt, args.domain.as_ref().or(args.qemu.as_ref())) {
        (Some(name), _) => {
            if name.is_empty() || name.contains('/') || name.starts_with('.') {
                bail!("{name:?} is no name of a domain; `ls {DOMAINS}` shows them");
            }
            let path = format!("{DOMAINS}/{name}.xml");
            let bytes = root.bytes(&path, MAX_TEXT);
            let bytes = bytes.with_context(|| {
                format!("cannot read {path}; only root may, and `ls {DOMAINS}` shows which there are")
            })?;
            (path, bytes)
        }
        (None, Some(path)) if path == Path::new("-") => {
            let mut bytes = Vec::new();
            let read = std::io::stdin().lock().take(MAX_TEXT as u64 + 1).read_to_end(&mut bytes);
            read.context("cannot read standard input")?;
            ("standard input".to_owned(), bytes)
        }
        (None, Some(path)) => {
            let bytes = root.bytes(super::disk::absolute(path)?, MAX_TEXT);
            (path.display().to_string(), bytes.with_context(|| format!("cannot read {}", path.display()))?)
        }
        (None, None) => bail!("name a domain's file, or `--libvirt NAME`"),
    };
    if bytes.len() > MAX_TEXT {
        bail!("{shown} is larger than 1 MiB, and no domain or script is");
    }
    let text = String::from_utf8(bytes).ok().with_context(|| format!("{shown} is not UTF-8; save it as UTF-8"))?;
    Ok((shown, text))
}

fn show(args: &ImportArgs, output: OutputArgs, imported: &Imported, refused: bool) -> Result<()> {
    let written = args.output.as_deref().filter(|_| !refused);
    if output.json {
        let needs = imported.needs_person();
        return report::json(&serde_json::json!({
            "name": imported.name, "machine": imported.file, "written": written, "needs_you": needs,
            "entries": imported.entries,
        }));
    }
    let width = if args.output.is_none() { report::messages_width() } else { report::wrap_width() };
    let whole = output.verbose > 0;
    let text = report::import(imported, written, whole, output.quiet, width);
    if args.output.is_none() {
        if !refused {
            report::print(imported.file.as_bytes());
        }
        report::complain(&text);
    } else if !text.is_empty() {
        report::say(&text);
    }
    Ok(())
}
