//! What is in the chip of UEFI variables, as far as the board must know: whether an order to boot in is among them.
//!
//! The layout is edk2's (MdeModulePkg/Include/Guid/VariableFormat.h): a firmware volume's header, the header of a store, and
//! variables one after another. Not here: writing any; that is the firmware's.

/// Where a volume's header says how long it is (UEFI PI 1.8, volume 3, section 3.2.1).
const VOLUME_HEADER_LEN_AT: usize = 48;
/// A store's header: which kind it is, its size, its state.
const STORE_HEADER: usize = 28;
/// Of variables that may be signed, all that OVMF has.
const AUTHENTICATED: [u8; 16] =
    [0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92];
/// A variable's header, and where it keeps what.
const HEADER: usize = 60;
const STATE_AT: usize = 2;
const NAME_LEN_AT: usize = 36;
const DATA_LEN_AT: usize = 40;
const VENDOR_AT: usize = 44;
/// Every header begins so; erased cells do not.
const START: [u8; 2] = 0x55aa_u16.to_le_bytes();
/// A variable that is whole; and one that is about to be replaced, but is not yet.
const WHOLE: [u8; 2] = [0x3f, 0x3e];
/// Variables begin at multiples of this.
const ALIGN: usize = 4;

/// The vendor of variables that the UEFI specification names (section 3.3).
const GLOBAL: [u8; 16] =
    [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c];
const BOOT_ORDER: &str = "BootOrder\0";

/// Whether the variables in `cells` have an order to boot in. What cannot be understood has none.
pub(super) fn have_boot_order(cells: &[u8]) -> bool {
    find(cells).is_some()
}

fn find(cells: &[u8]) -> Option<()> {
    let header = cells.get(VOLUME_HEADER_LEN_AT..)?.first_chunk().map(|len| u16::from_le_bytes(*len))?;
    let store = cells.get(usize::from(header)..)?;
    if !store.starts_with(&AUTHENTICATED) {
        return None;
    }
    let name: Vec<u8> = BOOT_ORDER.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut rest = store.get(STORE_HEADER..)?;
    // Each step is at least a header long.
    while rest.starts_with(&START) {
        let number =
            |at: usize| rest.get(at..)?.first_chunk().map(|number| u32::from_le_bytes(*number) as usize);
        let (name_len, data_len) = (number(NAME_LEN_AT)?, number(DATA_LEN_AT)?);
        let is_whole = rest.get(STATE_AT).is_some_and(|state| WHOLE.contains(state));
        let is_global = rest.get(VENDOR_AT..).is_some_and(|vendor| vendor.starts_with(&GLOBAL));
        if is_whole && is_global && data_len > 0 && rest.get(HEADER..HEADER.checked_add(name_len)?)? == name {
            return Some(());
        }
        let len = HEADER.checked_add(name_len)?.checked_add(data_len)?;
        rest = rest.get(len.checked_next_multiple_of(ALIGN)?..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{AUTHENTICATED, GLOBAL, have_boot_order};

    /// A variable as OVMF writes it.
    fn variable(state: u8, vendor: &[u8], name: &str, data: &[u8]) -> Vec<u8> {
        let name: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        let mut bytes = vec![0xaa, 0x55, state, 0, 7, 0, 0, 0];
        bytes.extend([0; 28]);
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend((data.len() as u32).to_le_bytes());
        for part in [vendor, &name, data] {
            bytes.extend(part);
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0xff);
        bytes
    }

    fn chip(variables: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![0; 72];
        bytes[48] = 72;
        bytes.extend(AUTHENTICATED);
        bytes.extend([0; 12]);
        bytes.extend(variables.concat());
        bytes.resize(4096, 0xff);
        bytes
    }

    #[test]
    fn an_order_to_boot_in_is_found_among_others_when_it_is_whole() {
        let other = variable(0x3f, &GLOBAL, "Boot0000", &[1; 33]);
        let order = |state, vendor: &[u8], data: &[u8]| variable(state, vendor, "BootOrder", data);
        for (variables, found) in [
            (vec![], false),
            (vec![other.clone()], false),
            (vec![order(0x3f, &GLOBAL, &[1, 0])], true),
            (vec![other.clone(), order(0x3f, &GLOBAL, &[1, 0, 0, 0])], true),
            (vec![other.clone(), order(0x3e, &GLOBAL, &[1, 0])], true),
            // Deleted, half written, of somebody else, empty.
            (vec![order(0x3c, &GLOBAL, &[1, 0])], false),
            (vec![order(0x7f, &GLOBAL, &[1, 0])], false),
            (vec![order(0x3f, &[1; 16], &[1, 0])], false),
            (vec![order(0x3f, &GLOBAL, &[])], false),
            (vec![variable(0x3f, &GLOBAL, "BootOrderx", &[1, 0])], false),
        ] {
            assert_eq!(have_boot_order(&chip(&variables)), found, "{variables:x?}");
        }
    }

    #[test]
    fn what_is_no_store_of_variables_has_no_order() {
        let whole = chip(&[variable(0x3f, &GLOBAL, "BootOrder", &[1, 0])]);
        for len in 0..whole.len().min(200) {
            have_boot_order(&whole[..len]);
        }
        let mut huge = whole.clone();
        huge[72 + 28 + 36..][..4].copy_from_slice(&[0xff; 4]);
        let mut other = whole.clone();
        other[72] = 0;
        let mut far = whole;
        far[48..50].copy_from_slice(&[0xff; 2]);
        for bytes in [huge, other, far, vec![0xff; 4096], vec![0; 4096], Vec::new()] {
            assert!(!have_boot_order(&bytes));
        }
    }
}
