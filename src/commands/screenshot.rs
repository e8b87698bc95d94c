//! `vfio-run screenshot NAME FILE`: what the emulated screen shows.
//!
//! QEMU is given no path but a file in memory, whose pages are counted as its own: it may run as another user, in a sandbox, and a
//! guest may have taken it over. So what becomes a file of the caller's is a picture that is made here.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{MemfdFlags, memfd_create};

use super::shared::asked::{done, supervised};
use super::shared::whole_file;
use crate::cli::{OutputArgs, ScreenshotArgs};
use crate::report;
use crate::run::control::Request;
use crate::units::exit;

/// The largest picture: 16384 × 8192, of three bytes a point.
const MOST: u64 = 16384 * 8192 * 3;
/// The longest side: QEMU's screens have 16 bits for it at the most.
const LONGEST: u32 = 1 << 16;

/// Writes the picture.
pub fn screenshot(args: &ScreenshotArgs, output: OutputArgs) -> Result<u8> {
    let (name, file) = (&args.name, args.file.as_path());
    let to_output = file == Path::new("-");
    if to_output && output.json {
        bail!("`--json` and the file `-` both want standard output");
    }
    let then = "and then it can be asked";
    supervised(name, then)?;
    if !to_output {
        may_write(file, args.force)?;
    }
    let mut memory = File::from(memfd_create("screen", MemfdFlags::CLOEXEC).context("no memory for the picture")?);
    // QEMU takes a descriptor only for what it was opened for.
    let written = OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", memory.as_raw_fd()))?;
    let reply = done(name, &Request::Screen, Some(written.as_fd()), then)?;
    drop(written);
    let picture = Picture::read(&mut memory).context("QEMU's picture cannot be read")?;
    let png = picture.png()?;
    let (width, height) = (picture.width, picture.height);
    match (to_output, args.force) {
        (true, _) => report::print(&png),
        (false, true) => whole_file::write(file, &png)?,
        (false, false) => new_file(file, &png).with_context(|| format!("cannot write {}", file.display()))?,
    }
    if output.json {
        let file = file.display().to_string();
        let value =
            serde_json::json!({ "name": name, "state": reply.state, "file": file, "width": width, "height": height });
        report::json(&value)?;
    } else if !to_output {
        tracing::info!("the screen of {name}, {width} × {height}: {}", file.display());
    }
    Ok(exit::OK)
}

/// Refuses what is there already, unless it is a regular file that may be replaced.
fn may_write(path: &Path, force: bool) -> Result<()> {
    // Whatever else keeps the file from being written is told when it is.
    let Ok(there) = std::fs::symlink_metadata(path) else { return Ok(()) };
    let (kind, path) = (there.file_type(), path.display());
    let what = match kind {
        kind if kind.is_file() && force => return Ok(()),
        kind if kind.is_file() => bail!("{path} is there already; `--force` replaces it"),
        kind if kind.is_dir() => "a folder",
        kind if kind.is_symlink() => "a symbolic link",
        kind if kind.is_fifo() => "a named pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    };
    bail!("{path} is {what}, and only a regular file can be replaced; the file `-` is standard output")
}

/// Writes a file that is not there yet; none is left if that fails.
fn new_file(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    file.write_all(content).and_then(|()| file.sync_all()).inspect_err(|_| drop(std::fs::remove_file(path)))
}

/// A picture in red, green and blue, a byte each.
#[derive(Debug)]
struct Picture {
    width: u32,
    height: u32,
    colours: Vec<u8>,
}

impl Picture {
    /// Reads a PPM as QEMU writes it (`ppm_save` in QEMU's `ui/console.c`): `P6`, width, height, 255, then the colours.
    fn read(ppm: &mut impl std::io::Read) -> Result<Self> {
        let mut header = Vec::new();
        while header.iter().filter(|byte| **byte == b'\n').count() < 3 {
            let mut byte = [0];
            ppm.read_exact(&mut byte).context("it ends too soon")?;
            header.extend(byte);
            if header.len() > 40 {
                bail!("it is no PPM");
            }
        }
        let words: Vec<&str> = str::from_utf8(&header).unwrap_or_default().split_ascii_whitespace().collect();
        let ["P6", width, height, "255"] = words[..] else { bail!("it is no PPM of 8 bits a colour") };
        let side = |text: &str| text.parse().ok().filter(|side| (1..=LONGEST).contains(side));
        let (width, height) = side(width).zip(side(height)).context("it has no size")?;
        let bytes = u64::from(width) * u64::from(height) * 3;
        if bytes > MOST {
            bail!("{width} × {height} is larger than vfio-run reads");
        }
        let mut colours = Vec::new();
        ppm.take(bytes).read_to_end(&mut colours)?;
        if colours.len() as u64 != bytes {
            bail!("it ends too soon");
        }
        Ok(Self { width, height, colours })
    }

    fn png(&self) -> Result<Vec<u8>> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.colours)?;
        writer.finish()?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Picture> {
        Picture::read(&mut &*bytes)
    }

    #[test]
    fn a_ppm_becomes_a_png_of_the_same_points() {
        let picture = read(b"P6\n2 1\n255\nabcdefand more").unwrap();
        let made = picture.png().unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(made)).read_info().unwrap();
        let mut points = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut points).unwrap();
        assert_eq!((info.width, info.height, points.as_slice()), (2, 1, b"abcdef".as_slice()));
    }

    #[test]
    fn only_a_regular_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (path, what) in [
            (at("link"), "a symbolic link"),
            (at("pipe"), "a named pipe"),
            (at("socket"), "a socket"),
            (at(""), "a folder"),
            ("/dev/full".into(), "a device"),
            ("/dev/stdout".into(), "a symbolic link"),
        ] {
            for force in [false, true] {
                let error = may_write(&path, force).unwrap_err().to_string();
                assert!(error.contains(&format!(" is {what}, and")) && !error.contains("--force"), "{error}");
            }
        }
        assert!(may_write(&at("file"), false).unwrap_err().to_string().contains("`--force` replaces it"));
        may_write(&at("file"), true).unwrap();
        may_write(&at("new"), false).unwrap();
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        for (bytes, words) in [
            (b"".as_slice(), "ends too soon"),
            (&[0; 100], "no PPM"),
            (b"P6\n2 1\n255\nabcde", "ends too soon"),
            (b"P6\n0 1\n255\n", "no size"),
            (b"P6\n-1 1\n255\n", "no size"),
            (b"P6\n65536 65536\n255\n", "larger than vfio-run reads"),
            (b"P5\n2 1\n255\nab", "no PPM of 8 bits"),
            (b"P6\n2 1\n65535\nab", "no PPM of 8 bits"),
        ] {
            let error = format!("{:#}", read(bytes).unwrap_err());
            assert!(error.contains(words), "{error}");
        }
    }
}
