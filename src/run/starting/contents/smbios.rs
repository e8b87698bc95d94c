//! A structure of the host's SMBIOS tables as it fits among those that QEMU makes (DMTF DSP0134, chapter 7).

use uuid::Uuid;

const BIOS: u8 = 0;
const SYSTEM: u8 = 1;
const BOARD: u8 = 2;
const CHASSIS: u8 = 3;
const OEM_STRINGS: u8 = 11;

/// Where in the formatted part a system has its UUID.
const SYSTEM_UUID: std::ops::Range<usize> = 0x08..0x18;
/// Where a board has the handle of its chassis, and behind it the number of objects that it contains, with their handles.
const BOARD_CHASSIS: std::ops::Range<usize> = 0x0b..0x0d;
const BOARD_OBJECTS: usize = 0x0e;
/// QEMU's handle of the chassis.
const CHASSIS_HANDLE: u16 = 0x300;

/// The structure under the handle that QEMU gives to one of its type (`T*_BASE` in QEMU's `hw/smbios/smbios.c`), since two
/// structures must not share a handle; without references to what the guest does not have; a system's with this UUID if there
/// is one.
pub fn for_guest(mut structure: Vec<u8>, uuid: Option<Uuid>) -> Vec<u8> {
    let &[kind, length, ..] = structure.as_slice() else { return structure };
    let mut length = usize::from(length);
    let handle = match kind {
        BIOS => Some(0u16),
        SYSTEM => Some(0x100),
        BOARD => Some(0x200),
        CHASSIS => Some(CHASSIS_HANDLE),
        OEM_STRINGS => Some(0xe00),
        _ => None,
    };
    if let (Some(handle), Some(place)) = (handle, structure.get_mut(2..4)) {
        place.copy_from_slice(&handle.to_le_bytes());
    }
    if kind == BOARD {
        if length >= BOARD_CHASSIS.end {
            structure[BOARD_CHASSIS].copy_from_slice(&CHASSIS_HANDLE.to_le_bytes());
        }
        if length > BOARD_OBJECTS {
            structure.drain(BOARD_OBJECTS + 1..length);
            structure[BOARD_OBJECTS] = 0;
            length = BOARD_OBJECTS + 1;
            structure[1] = length as u8;
        }
    }
    if let Some(uuid) = uuid.filter(|_| kind == SYSTEM && length >= SYSTEM_UUID.end) {
        // Since SMBIOS 2.6 the first three parts are little-endian.
        structure[SYSTEM_UUID].copy_from_slice(&uuid.to_bytes_le());
    }
    structure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_has_the_uuid_that_is_wanted() {
        let mut system = vec![1, 0x1b, 9, 0, 1, 2, 0, 3];
        system.extend([0xaa; 16]);
        system.extend([6, 0, 0]);
        system.extend(b"ACME\0X\0S1\0\0");
        let uuid: Uuid = "00112233-4455-6677-8899-aabbccddeeff".parse().unwrap();
        let given = for_guest(system.clone(), Some(uuid));
        assert_eq!(given[2..4], [0, 1]);
        assert_eq!(given[8..16], [0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66]);
        assert_eq!(given[16..24], [0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]);
        assert_eq!(given[24..], system[24..]);
        let own = for_guest(system.clone(), None);
        assert_eq!(own[4..], system[4..]);
        // SMBIOS 2.0 had none.
        let old = b"\x01\x08\x01\x00\x01\x02\x03\x04A\0\0".to_vec();
        assert_eq!(for_guest(old.clone(), Some(uuid))[4..], old[4..]);
    }

    #[test]
    fn a_board_is_in_qemus_chassis_and_contains_nothing() {
        let mut board = vec![2, 0x13, 0x02, 0, 1, 2, 3, 4, 5, 9, 6, 0x55, 0x55, 0x0a, 2, 0x11, 0x11, 0x22, 0x22];
        board.extend(b"ACME\0\0");
        let expected = [&[2, 0x0f, 0, 2, 1, 2, 3, 4, 5, 9, 6, 0, 3, 0x0a, 0][..], b"ACME\0\0"].concat();
        assert_eq!(for_guest(board, None), expected);
        let short = vec![2, 0x08, 2, 0, 1, 2, 3, 4, 0, 0];
        assert_eq!(for_guest(short.clone(), None)[4..], short[4..]);
        assert_eq!(for_guest(vec![2], None), [2]);
    }
}
