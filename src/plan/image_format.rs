//! The format of an image that somebody has not told. A file that a guest may write is not believed to be qcow2 by its content
//! alone: a guest could write such a header into a raw image, and the next start would open each file of the host that it names.

use std::path::Path;

use crate::host::{FileFact, FileKind};
use crate::units::DiskFormat;

/// What header and name say of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageFormat {
    /// It is an image of this format.
    Is(DiskFormat),
    /// It is an image in this format of QEMU's, which vfio-run does not use.
    Other(String),
    /// It has the header of a qcow2 image and another name.
    Unsure,
}

/// What header and name say of a file.
pub fn image_format(path: &Path, file: Option<&FileFact>) -> ImageFormat {
    if let Some(other) = file.and_then(|file| file.other_format.clone()) {
        return ImageFormat::Other(other);
    }
    if file.is_some_and(|file| file.kind == Some(FileKind::Block)) {
        return ImageFormat::Is(DiskFormat::Raw);
    }
    let named = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("qcow2"));
    match (file.and_then(|file| file.format), named) {
        (Some(DiskFormat::Qcow2), false) => ImageFormat::Unsure,
        (Some(format), _) => ImageFormat::Is(format),
        (None, true) => ImageFormat::Is(DiskFormat::Qcow2),
        (None, false) => ImageFormat::Is(DiskFormat::Raw),
    }
}
