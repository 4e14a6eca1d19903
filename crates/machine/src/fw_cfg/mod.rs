//! The fw_cfg device: by it, stock firmware reads what it must know of the board (QEMU docs/specs/fw_cfg.rst).
//!
//! The two ports of old, selector and data, and the DMA interface. Not here: what is in it (`firmware::files`).

mod contents;

use std::sync::Arc;

use linux::memory::{GuestAddress, GuestBytes, GuestMemory};

use crate::bus::{Device, Effect};

pub(crate) use contents::Contents;

/// The first port: the selector.
pub(crate) const BASE: u64 = 0x510;
/// The number of ports from [`BASE`].
pub(crate) const PORTS: u64 = 12;

const SELECTOR: u64 = 0;
const DATA: u64 = 1;
/// Two big-endian dwords: the address of a request. The write of the second starts it.
const DMA_HIGH: u64 = 4;
const DMA_LOW: u64 = 8;

/// What the DMA address reads as, by which firmware sees that there is DMA.
const DMA_SIGNATURE: [u8; 8] = *b"QEMU CFG";

/// The bits of a request's control word.
mod control {
    pub(super) const ERROR: u32 = 1 << 0;
    pub(super) const READ: u32 = 1 << 1;
    pub(super) const SKIP: u32 = 1 << 2;
    pub(super) const SELECT: u32 = 1 << 3;
    pub(super) const WRITE: u32 = 1 << 4;
}

/// Bytes of a request: control, length, address, all big-endian.
const REQUEST_LEN: usize = 16;
/// Bytes moved in one step.
const STEP: usize = 4096;

/// The device.
pub(crate) struct FwCfg {
    contents: Contents,
    ram: Arc<GuestMemory>,
    selected: u16,
    // Bytes of the selected item that were read already.
    offset: usize,
    dma_high: u32,
}

impl FwCfg {
    /// A device that holds `contents` and reaches `ram` by DMA.
    pub(crate) fn new(contents: Contents, ram: Arc<GuestMemory>) -> Self {
        Self { contents, ram, selected: 0, offset: 0, dma_high: 0 }
    }

    fn select(&mut self, key: u16) {
        self.selected = key;
        self.offset = 0;
        self.contents.refresh(key);
    }

    /// The next byte of the selected item; zero behind its end and where there is none.
    fn next_byte(&mut self) -> u8 {
        let byte = self.contents.item(self.selected).get(self.offset).copied().unwrap_or(0);
        self.offset = self.offset.saturating_add(1);
        byte
    }

    /// Carries the request at `address` out and tells the guest so.
    fn serve(&mut self, address: u64) {
        let mut request = [0; REQUEST_LEN];
        // Without a request there is nothing to answer to.
        if self.ram.read_slice(&mut request, GuestAddress(address)).is_err() {
            return;
        }
        let [c0, c1, c2, c3, l0, l1, l2, l3, to @ ..] = request;
        let (wanted, len) = (u32::from_be_bytes([c0, c1, c2, c3]), u32::from_be_bytes([l0, l1, l2, l3]));
        if wanted & control::SELECT != 0 {
            self.select((wanted >> 16) as u16);
        }
        let done = match wanted & (control::READ | control::SKIP | control::WRITE) {
            0 => true,
            bits if bits & control::READ != 0 => self.copy(u64::from_be_bytes(to), len as usize),
            bits if bits & control::SKIP != 0 => {
                self.offset = self.offset.saturating_add(len as usize);
                true
            }
            // The guest may write to none of the items.
            _ => false,
        };
        let answer = if done { 0 } else { control::ERROR };
        // The request was read from there, so the answer has its place.
        let _ = self.ram.write_slice(&answer.to_be_bytes(), GuestAddress(address));
    }

    /// Copies `len` bytes to the guest's `to`, zeros behind the item's end; false when that is not all RAM.
    fn copy(&mut self, to: u64, len: usize) -> bool {
        let mut moved = 0;
        // Ends at the end of RAM at the latest.
        while moved < len {
            let step = STEP.min(len - moved);
            let item = self.contents.item(self.selected);
            let rest = item.get(self.offset..).unwrap_or_default();
            let mut bytes = [0; STEP];
            bytes.iter_mut().zip(rest).take(step).for_each(|(place, byte)| *place = *byte);
            let Some(address) = to.checked_add(moved as u64) else { return false };
            let part = bytes.get(..step).unwrap_or_default();
            if self.ram.write_slice(part, GuestAddress(address)).is_err() {
                return false;
            }
            moved += step;
            self.offset = self.offset.saturating_add(step);
        }
        true
    }
}

impl Device for FwCfg {
    fn name(&self) -> &str {
        "fw_cfg"
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) -> Vec<Effect> {
        for (index, place) in (0..).zip(data) {
            *place = match offset.wrapping_add(index) {
                DATA => self.next_byte(),
                port @ DMA_HIGH..PORTS => {
                    let index = usize::try_from(port - DMA_HIGH).unwrap_or(0);
                    DMA_SIGNATURE.get(index).copied().unwrap_or(0)
                }
                _ => 0,
            };
        }
        Vec::new()
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Vec<Effect> {
        match (offset, data) {
            (SELECTOR, &[low, high]) => self.select(u16::from_le_bytes([low, high])),
            (DMA_HIGH, &[a, b, c, d]) => self.dma_high = u32::from_be_bytes([a, b, c, d]),
            (DMA_LOW, &[a, b, c, d]) => {
                let address = u64::from(self.dma_high) << 32 | u64::from(u32::from_be_bytes([a, b, c, d]));
                self.dma_high = 0;
                self.serve(address);
            }
            // Other widths select nothing; data cannot be written by port.
            _ => {}
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use linux::memory::{GuestAddress, GuestBytes, GuestMemory, GuestRam, PageKind, RamSpec};
    use proptest::prelude::*;

    use super::{Contents, FwCfg};
    use crate::bus::Device;

    const REQUEST: u64 = 0x100;
    const TARGET: u64 = 0x2000;

    fn device() -> (FwCfg, Arc<GuestMemory>) {
        let blocks = vec![0..0x4000];
        let ram =
            GuestRam::allocate(&RamSpec { blocks, pages: PageKind::Small, shared: false, prefault: false })
                .unwrap();
        let view = Arc::new(ram.view().clone());
        let mut contents = Contents::default();
        contents.file("etc/b", (0..=255).collect::<Vec<u8>>());
        contents.file("etc/a", b"first".to_vec());
        contents.key(0x05, vec![2, 0]);
        (FwCfg::new(contents, Arc::clone(&view)), view)
    }

    fn by_port(device: &mut FwCfg, key: u16, len: usize) -> Vec<u8> {
        device.write(0, &key.to_le_bytes());
        let mut bytes = vec![0xee; len];
        for byte in bytes.chunks_mut(1) {
            device.read(1, byte);
        }
        bytes
    }

    /// Makes a request and gives the control word that it leaves.
    fn request(device: &mut FwCfg, ram: &GuestMemory, control: u32, len: u32, to: u64) -> u32 {
        let bytes = [&control.to_be_bytes()[..], &len.to_be_bytes(), &to.to_be_bytes()].concat();
        ram.write_slice(&bytes, GuestAddress(REQUEST)).unwrap();
        device.write(4, &[0; 4]);
        device.write(8, &(REQUEST as u32).to_be_bytes());
        u32::from_be(ram.read_obj::<u32>(GuestAddress(REQUEST)).unwrap())
    }

    fn bytes(ram: &GuestMemory, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        ram.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    #[test]
    fn items_are_read_byte_by_byte_with_zeros_behind_them() {
        let (mut device, _) = device();
        for (key, expected) in [
            (0x00, &b"QEMU\0"[..]),
            (0x01, &[3, 0, 0, 0, 0]),
            (0x05, &[2, 0, 0]),
            (0x20, b"first\0"),
            (0x21, &[0, 1, 2]),
            (0x22, &[0, 0]),
            (0xffff, &[0]),
        ] {
            assert_eq!(by_port(&mut device, key, expected.len()), expected, "{key:#x}");
        }
    }

    #[test]
    fn the_directory_lists_the_files_sorted_with_size_and_key() {
        let (mut device, _) = device();
        let directory = by_port(&mut device, 0x19, 4 + 2 * 64);
        let mut expected = vec![0, 0, 0, 2];
        for (size, key, name) in [(5_u32, 0x20_u16, "etc/a"), (256, 0x21, "etc/b")] {
            expected.extend(size.to_be_bytes());
            expected.extend(key.to_be_bytes());
            expected.extend([0; 2]);
            let mut field = name.as_bytes().to_vec();
            field.resize(56, 0);
            expected.extend(field);
        }
        assert_eq!(directory, expected);
    }

    #[test]
    fn requests_select_read_and_skip_and_say_when_they_are_done() {
        let (mut device, ram) = device();
        let mut signature = [0; 8];
        device.read(4, &mut signature);
        assert_eq!(&signature, b"QEMU CFG");
        // Select and read; go on reading; skip; read on.
        assert_eq!(request(&mut device, &ram, 0x0021_000a, 3, TARGET), 0);
        assert_eq!(bytes(&ram, TARGET, 3), [0, 1, 2]);
        assert_eq!(request(&mut device, &ram, 2, 2, TARGET), 0);
        assert_eq!(bytes(&ram, TARGET, 2), [3, 4]);
        assert_eq!(request(&mut device, &ram, 4, 250, 0), 0);
        assert_eq!(request(&mut device, &ram, 2, 3, TARGET), 0);
        assert_eq!(bytes(&ram, TARGET, 3), [255, 0, 0]);
        // An item that does not exist is all zeros.
        assert_eq!(request(&mut device, &ram, 0x8000_000a, 4, TARGET), 0);
        assert_eq!(bytes(&ram, TARGET, 4), [0; 4]);
    }

    #[test]
    fn requests_that_cannot_be_served_end_with_the_error_bit() {
        let (mut device, ram) = device();
        for (control, len, to) in [
            (0x0021_000a_u32, 16_u32, 0x3ff8),
            (0x0021_000a, u32::MAX, 0),
            (0x0021_000a, 8, u64::MAX - 3),
            // Writing.
            (0x0021_0018, 8, TARGET),
        ] {
            let answer = request(&mut device, &ram, control, len, to);
            assert_eq!(answer, 1, "{control:#x} {len:#x} {to:#x}");
            // The first of these overwrote the request's own place.
        }
        // A request outside RAM is nobody's.
        device.write(4, &[0xff; 4]);
        device.write(8, &[0xff; 4]);
    }

    proptest! {
        #[test]
        fn any_accesses_and_requests_are_survived(
            accesses in prop::collection::vec((any::<bool>(), 0_u64..16, any::<[u8; 8]>(), 0_usize..9), 0..64),
            request in any::<[u8; 16]>(),
        ) {
            let (mut device, ram) = device();
            ram.write_slice(&request, GuestAddress(REQUEST)).unwrap();
            device.write(8, &(REQUEST as u32).to_be_bytes());
            for (write, offset, mut bytes, len) in accesses {
                if write {
                    device.write(offset, &bytes[..len]);
                } else {
                    device.read(offset, &mut bytes[..len]);
                }
            }
            device.read(u64::MAX, &mut [0; 8]);
        }
    }
}
