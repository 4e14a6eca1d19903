//! What a monitor's EDID tells: maker, name, serial number, preferred mode.
//!
//! Layout: VESA E-EDID Standard, release A2, section 3. The bytes come from a monitor or from whatever sits in the
//! cable, so every offset is checked and a wrong checksum makes it no EDID. Only the base block is needed: names
//! and the preferred mode have to be there; extension blocks are counted, not trusted.

use spec::inventory::Monitor;

/// The most bytes an EDID has: a base block and 255 extensions of 128 bytes each.
pub(super) const MOST_BYTES: usize = 256 * BLOCK;

const BLOCK: usize = 128;
const HEADER: [u8; 8] = [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];
/// The four 18-byte descriptors of the base block (section 3.10).
const DESCRIPTORS: [usize; 4] = [54, 72, 90, 108];
const TAG_SERIAL: u8 = 0xff;
const TAG_NAME: u8 = 0xfc;

/// Why bytes are not believed to be an EDID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EdidProblem {
    /// Fewer bytes than one block, or no whole number of blocks.
    Length(usize),
    /// The fixed first eight bytes are others.
    Header,
    /// The bytes of the base block do not add up to zero.
    Checksum,
}

impl std::fmt::Display for EdidProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Length(bytes) => write!(f, "{bytes} bytes are no whole number of EDID blocks"),
            Self::Header => f.write_str("it does not start as an EDID does"),
            Self::Checksum => f.write_str("the EDID's checksum is wrong"),
        }
    }
}

/// Reads the monitor's facts from its EDID.
pub(super) fn parse(bytes: &[u8]) -> Result<Monitor, EdidProblem> {
    let Some((base, extensions)) = bytes.split_first_chunk::<BLOCK>() else {
        return Err(EdidProblem::Length(bytes.len()));
    };
    if !extensions.len().is_multiple_of(BLOCK) || bytes.len() > MOST_BYTES {
        return Err(EdidProblem::Length(bytes.len()));
    }
    if !base.starts_with(&HEADER) {
        return Err(EdidProblem::Header);
    }
    if base.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) != 0 {
        return Err(EdidProblem::Checksum);
    }
    let product = u16::from_le_bytes([base[10], base[11]]);
    let number = u32::from_le_bytes([base[12], base[13], base[14], base[15]]);
    let number = (number != 0).then(|| number.to_string());
    Ok(Monitor {
        manufacturer: manufacturer(u16::from_be_bytes([base[8], base[9]])),
        product: Some(product),
        name: text(base, TAG_NAME),
        serial: text(base, TAG_SERIAL).or(number),
        preferred_mode: preferred_mode(base),
    })
}

/// Three letters of five bits each, 1 = A (section 3.4.1).
fn manufacturer(id: u16) -> Option<String> {
    [10, 5, 0].iter().map(|shift| letter(id >> shift & 0x1f)).collect()
}

fn letter(number: u16) -> Option<char> {
    let number = u8::try_from(number).ok().filter(|number| (1..=26).contains(number))?;
    Some(char::from(b'A' + number - 1))
}

/// The text of the first display descriptor with `tag`: 13 characters, ended by a line feed, padded with spaces.
fn text(base: &[u8; BLOCK], tag: u8) -> Option<String> {
    let descriptor = DESCRIPTORS
        .iter()
        .filter_map(|start| base.get(*start..start + 18))
        .find(|descriptor| descriptor.starts_with(&[0, 0, 0, tag]))?;
    let characters = descriptor.get(5..18)?.iter().take_while(|byte| **byte != 0x0a);
    // It goes to terminals and into seat files: nothing but printable ASCII.
    let text: String =
        characters.map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '?' }).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The active pixels of the first detailed timing, which is the preferred mode (section 3.10.2).
fn preferred_mode(base: &[u8; BLOCK]) -> Option<String> {
    let timing = base.get(54..72)?;
    let [clock_low, clock_high, h_low, _, h_high, v_low, _, v_high, ..] = timing else { return None };
    if *clock_low == 0 && *clock_high == 0 {
        return None;
    }
    let width = u16::from(*h_low) | u16::from(h_high >> 4) << 8;
    let height = u16::from(*v_low) | u16::from(v_high >> 4) << 8;
    (width != 0 && height != 0).then(|| format!("{width}x{height}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dell() -> Vec<u8> {
        let mut edid = vec![0; BLOCK];
        edid[..8].copy_from_slice(&HEADER);
        edid[8..16].copy_from_slice(&[0x10, 0xac, 0x6f, 0x41, 0x4c, 0x30, 0x30, 0x31]);
        edid[54..62].copy_from_slice(&[0x4d, 0xd0, 0x00, 0xa0, 0xf0, 0x70, 0x3e, 0x80]);
        edid[72..90].copy_from_slice(b"\0\0\0\xff\0ABC1234\n     ");
        edid[90..108].copy_from_slice(b"\0\0\0\xfc\0DELL U2720Q\n ");
        seal(&mut edid);
        edid
    }

    fn seal(edid: &mut [u8]) {
        edid[127] = 0;
        edid[127] = edid[..128].iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
    }

    #[test]
    fn a_monitor_is_named_by_its_edid() {
        let monitor = parse(&dell()).unwrap();
        assert_eq!(
            monitor,
            Monitor {
                manufacturer: Some("DEL".to_owned()),
                product: Some(0x416f),
                name: Some("DELL U2720Q".to_owned()),
                serial: Some("ABC1234".to_owned()),
                preferred_mode: Some("3840x2160".to_owned()),
            }
        );
    }

    #[test]
    fn what_an_edid_leaves_out_is_unknown() {
        let mut edid = dell();
        edid[8..10].copy_from_slice(&[0, 0]);
        edid[54..108].fill(0);
        seal(&mut edid);
        let monitor = parse(&edid).unwrap();
        assert_eq!(monitor.manufacturer, None);
        assert_eq!(monitor.name, None);
        assert_eq!(monitor.preferred_mode, None);
        assert_eq!(monitor.serial.as_deref(), Some("825241676"));
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        let mut edid = dell();
        edid[95..100].copy_from_slice(b"\x1b[2J\x80");
        seal(&mut edid);
        assert_eq!(parse(&edid).unwrap().name.as_deref(), Some("?[2J?U2720Q"));
    }

    #[test]
    fn bytes_that_are_no_edid_are_refused_with_the_reason() {
        let mut header = dell();
        header[1] = 0;
        let mut checksum = dell();
        checksum[20] ^= 1;
        let mut with_half_extension = dell();
        with_half_extension.extend([0; 64]);
        for (bytes, problem) in [
            (Vec::new(), EdidProblem::Length(0)),
            (dell()[..127].to_vec(), EdidProblem::Length(127)),
            (with_half_extension, EdidProblem::Length(192)),
            (header, EdidProblem::Header),
            (checksum, EdidProblem::Checksum),
        ] {
            assert_eq!(parse(&bytes), Err(problem));
        }
        let mut whole = dell();
        whole.extend([0xff; 128]);
        assert!(parse(&whole).is_ok());
    }

    proptest! {
        #[test]
        fn hostile_bytes_give_printable_text_or_a_reason(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
            sealed: bool,
        ) {
            if sealed && bytes.len() >= BLOCK {
                bytes.truncate(bytes.len() / BLOCK * BLOCK);
                bytes[..8].copy_from_slice(&HEADER);
                seal(&mut bytes);
                prop_assert!(parse(&bytes).is_ok());
            }
            if let Ok(monitor) = parse(&bytes) {
                let texts = [monitor.name, monitor.serial, monitor.manufacturer].into_iter().flatten();
                prop_assert!(texts.into_iter().all(|text| text.bytes().all(|byte| (0x20..0x7f).contains(&byte))));
            }
        }
    }
}
