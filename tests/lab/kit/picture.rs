//! A picture of a screen, to look at and to ask.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// A colour: red, green, blue.
pub type Colour = [u8; 3];

/// A picture of a screen.
pub struct Picture {
    /// Where it was kept, as PNG.
    pub file: PathBuf,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    pixels: Vec<u8>,
}

impl Picture {
    /// Reads a binary portable pixmap, as QEMU writes it: `P6`, width, height, 255, then bytes.
    pub fn from_ppm(bytes: &[u8], file: PathBuf) -> Result<Self> {
        let mut at = 0;
        let mut words = Vec::new();
        while words.len() < 4 {
            let end = bytes[at..].iter().position(u8::is_ascii_whitespace).context("a cut-off picture")? + at;
            words.push(std::str::from_utf8(&bytes[at..end])?);
            at = end + 1;
        }
        let (width, height): (usize, usize) = (words[1].parse()?, words[2].parse()?);
        if words[0] != "P6" || bytes.len() < at + width * height * 3 {
            bail!("not a picture: {words:?}, {} bytes", bytes.len());
        }
        Ok(Self { file, width, height, pixels: bytes[at..].to_vec() })
    }

    /// The colour at a place, from the top left.
    pub fn at(&self, x: usize, y: usize) -> Colour {
        let start = (y * self.width + x) * 3;
        [self.pixels[start], self.pixels[start + 1], self.pixels[start + 2]]
    }

    /// Which part of the screen has this colour, from 0 to 1.
    pub fn part_in(&self, colour: Colour) -> f64 {
        let count = self.pixels.chunks_exact(3).filter(|pixel| *pixel == colour).count();
        count as f64 / (self.width * self.height) as f64
    }

    /// How many colours there are. A console with text has at least two, an empty screen one.
    pub fn colours(&self) -> usize {
        let mut seen: HashMap<&[u8], ()> = HashMap::new();
        for pixel in self.pixels.chunks_exact(3) {
            seen.insert(pixel, ());
        }
        seen.len()
    }

    /// Whether this is what the tiny guest paints: four quarters in its four colours.
    pub fn is_tiny_guest(&self) -> bool {
        let (x, y) = (self.width / 4, self.height / 4);
        self.at(x, y) == [0x00, 0xc0, 0x40]
            && self.at(3 * x, y) == [0xf0, 0x80, 0x00]
            && self.at(x, 3 * y) == [0x40, 0x60, 0xf0]
            && self.at(3 * x, 3 * y) == [0xc0, 0x00, 0xc0]
    }
}

#[test]
fn a_pixmap_is_read() {
    let picture = Picture::from_ppm(b"P6\n2 1\n255\n\x01\x02\x03\xff\xff\xff", PathBuf::new()).unwrap();
    assert_eq!((picture.width, picture.height, picture.colours()), (2, 1, 2));
    assert_eq!(picture.at(1, 0), [255; 3]);
    assert!((picture.part_in([1, 2, 3]) - 0.5).abs() < 1e-9);
    assert!(Picture::from_ppm(b"P6\n2 2\n255\n\x01", PathBuf::new()).is_err());
}
