//! What firmware has put into a guest's memory: its SMBIOS and ACPI tables, read through QEMU's monitor.

use std::collections::BTreeMap;

use serde_json::json;

use super::talk::Qmp;

/// Where SeaBIOS leaves the anchors of both.
const ANCHORS: (u32, usize) = (0xf_0000, 0x1_0000);

/// Bytes of the guest's physical memory.
fn read(qmp: &mut Qmp, address: u32, length: usize) -> Vec<u8> {
    let command = format!("xp /{}xw {address:#x}", length.div_ceil(4));
    let text = qmp.ask_with("human-monitor-command", json!({ "command-line": command }));
    // A line is `00000000000f0000: 0x00000000 0x…`.
    let words = text.as_str().unwrap().lines().filter_map(|line| line.split_once(": ")).flat_map(|(_, words)| {
        words.split_whitespace().map(|word| u32::from_str_radix(word.trim_start_matches("0x"), 16).expect(word))
    });
    let mut bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
    assert!(bytes.len() >= length, "{command}: {text}");
    bytes.truncate(length);
    bytes
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// What follows the anchor with this word.
fn anchor(qmp: &mut Qmp, word: &[u8]) -> Vec<u8> {
    let bytes = read(qmp, ANCHORS.0, ANCHORS.1);
    let at = (0..bytes.len()).step_by(16).find(|at| bytes[*at..].starts_with(word));
    bytes[at.unwrap_or_else(|| panic!("no {}", String::from_utf8_lossy(word)))..].to_vec()
}

/// A structure of SMBIOS.
#[derive(Debug)]
pub struct Structure {
    /// The number of its type.
    pub kind: u8,
    /// Its handle.
    pub handle: u16,
    /// Its formatted part.
    pub formatted: Vec<u8>,
    /// Its strings.
    pub strings: Vec<String>,
}

/// The guest's SMBIOS structures.
pub fn smbios(qmp: &mut Qmp) -> Vec<Structure> {
    let entry = anchor(qmp, b"_SM_");
    let length = usize::from(u16::from_le_bytes([entry[0x16], entry[0x17]]));
    let table = read(qmp, number(&entry, 0x18), length);
    let mut found = Vec::new();
    let mut rest = table.as_slice();
    while rest.len() > 4 {
        let (formatted, strings) = rest.split_at(usize::from(rest[1]));
        let end = strings.windows(2).position(|pair| pair == [0, 0]).unwrap();
        let texts = strings[..end].split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
        found.push(Structure {
            kind: formatted[0],
            handle: u16::from_le_bytes([formatted[2], formatted[3]]),
            formatted: formatted.to_vec(),
            strings: texts.filter(|text| !text.is_empty()).collect(),
        });
        rest = &strings[end + 2..];
    }
    found
}

/// The guest's ACPI tables by their signatures; one of several of a kind is the last.
pub fn acpi(qmp: &mut Qmp) -> BTreeMap<String, Vec<Vec<u8>>> {
    let root = number(&anchor(qmp, b"RSD PTR "), 16);
    let length = number(&read(qmp, root, 8), 4) as usize;
    let root = read(qmp, root, length);
    let mut tables: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for at in (36..length).step_by(4) {
        let address = number(&root, at);
        let length = number(&read(qmp, address, 8), 4) as usize;
        let table = read(qmp, address, length);
        tables.entry(String::from_utf8_lossy(&table[..4]).into_owned()).or_default().push(table);
    }
    tables
}
