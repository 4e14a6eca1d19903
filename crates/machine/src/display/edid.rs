//! What the monitor says of itself (VESA E-EDID 1.4): a name, and the picture it likes best.

/// Bytes of the one block.
pub(super) const EDID_BYTES: usize = 128;

/// Blanking of the preferred mode, as CVT's reduced blanking has it: pixels of a line, and lines.
const BLANK: (u32, u32) = (160, 30);
/// Front porch and width of the sync pulses.
const H_SYNC: (u32, u32) = (48, 32);
const V_SYNC: (u32, u32) = (3, 6);
const REFRESH_HZ: u32 = 60;
/// Pixels of an inch, for the size in millimetres.
const DOTS_PER_INCH: u32 = 96;

/// The block of a monitor that prefers `width` by `height`.
pub(super) fn edid(width: u16, height: u16) -> [u8; EDID_BYTES] {
    let mut block = [0; EDID_BYTES];
    let (wide_mm, high_mm) = (millimetres(width), millimetres(height));
    let mut put = |at: usize, bytes: &[u8]| {
        for (place, byte) in block.iter_mut().skip(at).zip(bytes) {
            *place = *byte;
        }
    };
    put(0, &[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
    // Vendor "ALD" in three letters of five bits; product 1; year 2026; EDID 1.4.
    put(8, &[0x05, 0x84, 1, 0, 0, 0, 0, 0, 0, 36, 1, 4]);
    // Digital, eight bits a colour; size in centimetres; gamma 2.2; sRGB, first timing is the native one.
    put(20, &[0xa0, (wide_mm / 10) as u8, (high_mm / 10) as u8, 120, 0x06]);
    // Chromaticity of sRGB.
    put(25, &[0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54]);
    // 640x480, 800x600 and 1024x768 at 60 Hz; no standard timings.
    put(35, &[0x21, 0x08, 0x00]);
    put(38, &[1; 16]);
    put(54, &timing(width.into(), height.into(), wide_mm, high_mm));
    put(72, b"\0\0\0\xfc\0Allod\n       ");
    // Range limits: 50 to 75 Hz, 30 to 160 kHz, 600 MHz.
    put(90, &[0, 0, 0, 0xfd, 0, 50, 75, 30, 160, 60, 0, 0x0a, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20]);
    put(108, &[0, 0, 0, 0x10]);
    let sum = block.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(last) = block.last_mut() {
        *last = 0_u8.wrapping_sub(sum);
    }
    block
}

/// The detailed timing descriptor (section 3.10.2).
fn timing(width: u32, height: u32, wide_mm: u32, high_mm: u32) -> [u8; 18] {
    let clock_10_khz = ((width + BLANK.0) * (height + BLANK.1) * REFRESH_HZ / 10_000).min(0xffff);
    let [clock_low, clock_high, ..] = clock_10_khz.to_le_bytes();
    let (low, high) = (|value: u32| value as u8, |value: u32| (value >> 8 & 0x0f) as u8);
    [
        clock_low,
        clock_high,
        low(width),
        low(BLANK.0),
        high(width) << 4 | high(BLANK.0),
        low(height),
        low(BLANK.1),
        high(height) << 4 | high(BLANK.1),
        low(H_SYNC.0),
        low(H_SYNC.1),
        low(V_SYNC.0) << 4 | low(V_SYNC.1),
        0,
        low(wide_mm),
        low(high_mm),
        high(wide_mm) << 4 | high(high_mm),
        0,
        0,
        // Separate syncs, horizontal positive.
        0x1a,
    ]
}

fn millimetres(pixels: u16) -> u32 {
    u32::from(pixels) * 254 / (DOTS_PER_INCH * 10)
}

#[cfg(test)]
mod tests {
    use super::edid;

    #[test]
    fn the_block_adds_up_and_says_what_it_prefers() {
        for (width, height) in [(640, 480), (1280, 800), (1920, 1080), (3840, 2160)] {
            let block = edid(width, height);
            assert_eq!(block.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
            let pair = |low: usize, high: usize| u16::from(block[low]) | u16::from(block[high] >> 4) << 8;
            assert_eq!((pair(56, 58), pair(59, 61)), (width, height));
        }
        assert_eq!(&edid(1280, 800)[77..82], b"Allod");
    }
}
