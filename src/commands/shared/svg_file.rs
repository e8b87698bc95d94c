//! Where a picture is written: a file, of which only an SVG is replaced, or standard output.

use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::whole_file;
use super::wrong_argument::WrongArgument;
use crate::cli::OutputArgs;
use crate::report;

/// How many bytes of a file are looked at to see whether it is an SVG.
const HEAD: u64 = 4096;

/// Where a picture is written.
#[derive(Debug)]
pub struct SvgFile<'a>(Option<&'a Path>);

impl<'a> SvgFile<'a> {
    /// The file at this path, or standard output for `-`; fails if something else would be lost.
    pub fn check(path: &'a Path, output: OutputArgs) -> Result<Self> {
        let standard = path == Path::new("-");
        if standard && output.json {
            bail!(WrongArgument::new(
                "--svg",
                "`-` and `--json` both want standard output: write the picture into a file, or leave one out"
            ));
        }
        if standard {
            return Ok(Self(None));
        }
        may_write(path)?;
        Ok(Self(Some(path)))
    }

    /// Writes the picture.
    pub fn write(self, picture: &str) -> Result<()> {
        match self.0 {
            None => report::print(picture.as_bytes()),
            Some(path) => {
                whole_file::write(path, picture.as_bytes())?;
                tracing::info!("wrote {}", path.display());
            }
        }
        Ok(())
    }
}

/// Refuses what would be lost.
fn may_write(path: &Path) -> Result<()> {
    let shown = path.display();
    let other = "name another file, or remove it first";
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {shown}")),
    };
    if !kind.is_file() {
        let what = if kind.is_symlink() {
            "a link"
        } else if kind.is_dir() {
            "a folder"
        } else {
            "no regular file"
        };
        bail!("{shown} is {what}; {other}");
    }
    let mut head = Vec::new();
    // If it has become a pipe meanwhile, nobody waits for a writer.
    let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let read = file.and_then(|file| file.take(HEAD).read_to_end(&mut head));
    read.with_context(|| format!("cannot read {shown}, to see whether it is an SVG"))?;
    let head = String::from_utf8_lossy(&head);
    if !head.is_empty() && !is_svg(&head) {
        bail!("{shown} is there and holds no SVG; {other}");
    }
    Ok(())
}

/// Whether a document that begins so is an SVG: its first element is, after what XML allows before it. A page or a text with a
/// picture in it is none.
fn is_svg(head: &str) -> bool {
    let mut rest = head.trim_start_matches('\u{feff}').trim_start();
    loop {
        let end = match rest {
            it if it.starts_with("<!--") => "-->",
            it if it.starts_with("<?") => "?>",
            // One with declarations of its own ends with them.
            it if it.starts_with("<!DOCTYPE svg") => match it.find(['[', '>']) {
                Some(at) if it[at..].starts_with('[') => "]>",
                _ => ">",
            },
            _ => break,
        };
        let Some((_, after)) = rest.split_once(end) else { return false };
        rest = after.trim_start();
    }
    let name = rest.strip_prefix("<svg");
    name.is_some_and(|after| {
        after.starts_with(|next: char| next.is_ascii_whitespace() || matches!(next, '>' | '/' | ':'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_svg_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let refused = |name: &str| may_write(&path(name)).unwrap_err().to_string();
        assert!(may_write(&path("new.svg")).is_ok());
        std::fs::write(path("empty.svg"), "").unwrap();
        std::fs::write(path("old.svg"), "<?xml version=\"1.0\"?>\n<svg xmlns=\"\"/>").unwrap();
        std::fs::write(path("win11.ron"), "(guest: Windows11)").unwrap();
        assert!(may_write(&path("empty.svg")).is_ok() && may_write(&path("old.svg")).is_ok());
        for (text, is) in [
            ("\u{feff}<?xml version=\"1.0\"?>\n<!-- <html> -->\n<!DOCTYPE svg PUBLIC \"a\" \"b\">\n<svg>", true),
            ("<!DOCTYPE svg [<!ENTITY a \"b\">]>\n<svg\nwidth=\"1\">", true),
            ("\n<svg/>", true),
            ("# Notes\n\n<svg>", false),
            ("<!DOCTYPE html><html><svg>", false),
            ("<?xml version=\"1.0\"?><page><svg/></page>", false),
            ("<!-- <svg>", false),
            ("<svgs>", false),
        ] {
            std::fs::write(path("other"), text).unwrap();
            assert_eq!(may_write(&path("other")).is_ok(), is, "{text}");
        }
        assert!(refused("win11.ron").contains("holds no SVG; name another file"), "{}", refused("win11.ron"));
        std::fs::create_dir(path("folder")).unwrap();
        assert!(refused("folder").contains("is a folder"));
        std::os::unix::fs::symlink("old.svg", path("link.svg")).unwrap();
        assert!(refused("link.svg").contains("is a link"));
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(refused("pipe").contains("is no regular file"));
    }
}
