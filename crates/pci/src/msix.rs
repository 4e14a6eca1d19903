//! MSI-X as registers (PCI Local Bus 3.0, section 6.8.2): the table and pending bits in a BAR, the control word in
//! config space, and which vectors may send which message now.
//!
//! It sends nothing: changes name the vectors whose message came, changed or went, so that routes are set in batches.

use std::ops::Range;

use crate::capability::standard_id;
use crate::msi::Message;
use crate::register::Register;
use crate::{BarIndex, ConfigSpace, NoRoom};

/// Vectors of one function at most: the table size field has 11 bits.
pub const MSIX_VECTORS: u16 = 2048;
/// Bytes of a table entry.
pub const MSIX_ENTRY_BYTES: u64 = 16;
/// Bytes of the capability, its header included.
pub const MSIX_CAPABILITY_BYTES: u16 = 12;

const CONTROL: u16 = 2;
const TABLE: u16 = 4;
const PENDING: u16 = 8;
const ENABLE: u16 = 1 << 15;
const MASK_ALL: u16 = 1 << 14;
const MASKED: u8 = 1;

/// Where a function's table and pending bits lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsixLayout {
    /// Vectors, 1 to 2048.
    pub vectors: u16,
    /// The table's BAR.
    pub table_bar: BarIndex,
    /// The table's offset there, a multiple of 8.
    pub table_offset: u32,
    /// The pending bits' BAR.
    pub pending_bar: BarIndex,
    /// The pending bits' offset there, a multiple of 8.
    pub pending_offset: u32,
}

impl MsixLayout {
    /// Lays both out in a BAR of their own, and gives its size: table first, pending bits in the upper half.
    pub fn own_bar(bar: BarIndex, vectors: u16) -> (Self, u64) {
        let vectors = vectors.clamp(1, MSIX_VECTORS);
        let half = (u32::from(vectors) * 16).next_power_of_two().max(0x800);
        let layout =
            Self { vectors, table_bar: bar, table_offset: 0, pending_bar: bar, pending_offset: half };
        (layout, u64::from(half) * 2)
    }

    /// Reads the layout from a capability's 12 bytes; `None` when it names a BAR that does not exist.
    ///
    /// Hardware may lie: whether both parts lie inside their BARs is for the caller, who knows the sizes.
    pub fn read(capability: [u8; 12]) -> Option<Self> {
        let [_, _, c0, c1, t0, t1, t2, t3, p0, p1, p2, p3] = capability;
        let table = u32::from_le_bytes([t0, t1, t2, t3]);
        let pending = u32::from_le_bytes([p0, p1, p2, p3]);
        Some(Self {
            vectors: (u16::from_le_bytes([c0, c1]) & 0x7ff) + 1,
            table_bar: BarIndex::bar(t0 & 7)?,
            table_offset: table & !7,
            pending_bar: BarIndex::bar(p0 & 7)?,
            pending_offset: pending & !7,
        })
    }

    /// The bytes of the table in its BAR.
    pub fn table(&self) -> Range<u64> {
        let start = u64::from(self.table_offset);
        start..start + u64::from(self.vectors) * MSIX_ENTRY_BYTES
    }

    /// The bytes of the pending bits in their BAR: whole quadwords.
    pub fn pending(&self) -> Range<u64> {
        let start = u64::from(self.pending_offset);
        start..start + u64::from(self.vectors.div_ceil(64)) * 8
    }

    /// Which part of a BAR an access starts in, and how far into it.
    pub fn part(&self, bar: BarIndex, offset: u64) -> MsixPart {
        if bar == self.table_bar && self.table().contains(&offset) {
            MsixPart::Table(offset - self.table().start)
        } else if bar == self.pending_bar && self.pending().contains(&offset) {
            MsixPart::Pending(offset - self.pending().start)
        } else {
            MsixPart::Neither
        }
    }
}

/// A part of a BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsixPart {
    /// The table, at this offset from its start.
    Table(u64),
    /// The pending bits, at this offset from their start.
    Pending(u64),
    /// Neither of them.
    Neither,
}

/// What a vector may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VectorChange {
    /// Which.
    pub vector: u16,
    /// The message it sends; `None` while it is masked or MSI-X is off.
    pub message: Option<Message>,
    /// It was pending and is free to go now: send its message once.
    pub fire: bool,
}

/// A change of what the guest programmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MsixChange {
    /// Counts the changes of the function, in the order in which they were made.
    pub number: u64,
    /// MSI-X is on, and INTx is not.
    pub enabled: bool,
    /// The vectors whose message changed, in order. When MSI-X goes off, all that had one.
    pub vectors: Vec<VectorChange>,
}

/// The MSI-X state of a function.
#[derive(Clone, Debug)]
pub struct Msix {
    layout: MsixLayout,
    entries: Vec<[u8; 16]>,
    pending: Vec<u8>,
    enabled: bool,
    mask_all: bool,
    changes: u64,
}

impl Msix {
    /// The power-on state: off, every vector masked.
    pub fn new(layout: MsixLayout) -> Self {
        let mut entry = [0; 16];
        entry[12] = MASKED;
        let pending = usize::from(layout.vectors.div_ceil(64)) * 8;
        Self {
            layout,
            entries: vec![entry; layout.vectors.into()],
            pending: vec![0; pending],
            enabled: false,
            mask_all: false,
            changes: 0,
        }
    }

    /// Appends the capability to `config`, and gives its offset.
    ///
    /// # Errors
    /// When there is no room.
    pub fn add_capability(&self, config: &mut ConfigSpace) -> Result<u16, NoRoom> {
        let offset = config.add_capability(standard_id::MSIX, MSIX_CAPABILITY_BYTES)?;
        self.define_at(config, offset);
        Ok(offset)
    }

    /// Puts the registers of a capability at `offset`, where a device has it. Its header of two bytes stays as it is.
    pub fn define_at(&self, config: &mut ConfigSpace, offset: u16) {
        let layout = &self.layout;
        let control = layout.vectors.wrapping_sub(1) & 0x7ff;
        config.define(offset + CONTROL, Register::word(control).writable((ENABLE | MASK_ALL).into()));
        let table = layout.table_offset & !7 | u32::from(layout.table_bar.get());
        let pending = layout.pending_offset & !7 | u32::from(layout.pending_bar.get());
        config.define(offset + TABLE, Register::dword(table));
        config.define(offset + PENDING, Register::dword(pending));
    }

    /// Where table and pending bits lie.
    pub fn layout(&self) -> &MsixLayout {
        &self.layout
    }

    /// True while MSI-X is on.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// The message a vector sends now; `None` while it is masked, MSI-X is off, or there is no such vector.
    pub fn message(&self, vector: u16) -> Option<Message> {
        let entry = self.entries.get(usize::from(vector))?;
        let [a0, a1, a2, a3, a4, a5, a6, a7, d0, d1, d2, d3, control, ..] = *entry;
        let on = self.enabled && !self.mask_all && control & MASKED == 0;
        on.then(|| Message {
            address: u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
            data: u32::from_le_bytes([d0, d1, d2, d3]),
        })
    }

    /// Takes the control word as it now reads; to call after each write and reset of the config space it is in.
    pub fn set_control(&mut self, control: u16) -> Option<MsixChange> {
        let (was, masked) = (self.enabled, self.mask_all);
        let now = (control & ENABLE != 0, control & MASK_ALL != 0);
        if now == (was, masked) {
            return None;
        }
        let before: Vec<_> = (0..self.layout.vectors).map(|vector| self.message(vector)).collect();
        (self.enabled, self.mask_all) = now;
        let vectors = self.compare(0, &before);
        (was != self.enabled || !vectors.is_empty()).then(|| self.change(vectors))
    }

    /// Answers a read in the table, at an offset from its start. Bytes past its end are zeros.
    pub fn read_table(&self, offset: u64, data: &mut [u8]) {
        for (index, byte) in (0..).zip(data) {
            *byte = self.table_byte(offset.saturating_add(index)).copied().unwrap_or(0);
        }
    }

    /// Takes a write in the table, at an offset from its start. Bytes past its end vanish.
    pub fn write_table(&mut self, offset: u64, data: &[u8]) -> Option<MsixChange> {
        let first = u16::try_from(offset / MSIX_ENTRY_BYTES).ok()?;
        let last = offset.saturating_add(data.len() as u64).saturating_sub(1) / MSIX_ENTRY_BYTES;
        let last = u16::try_from(last).unwrap_or(MSIX_VECTORS).min(self.layout.vectors.saturating_sub(1));
        let before: Vec<_> = (first..=last).map(|vector| self.message(vector)).collect();
        for (&written, at) in data.iter().zip(offset..) {
            // The low address bits must be zero, and all of the control dword but the mask bit is reserved.
            let writable = match at % MSIX_ENTRY_BYTES {
                0 => 0xfc,
                12 => MASKED,
                13..16 => 0,
                _ => 0xff,
            };
            if let Some(byte) = self.table_byte_mut(at) {
                *byte = written & writable;
            }
        }
        let vectors = self.compare(first, &before);
        (!vectors.is_empty()).then(|| self.change(vectors))
    }

    /// Answers a read in the pending bits, at an offset from their start. They are read-only.
    pub fn read_pending(&self, offset: u64, data: &mut [u8]) {
        for (index, byte) in (0..).zip(data) {
            let index = usize::try_from(offset.saturating_add(index)).ok();
            *byte = index.and_then(|index| self.pending.get(index)).copied().unwrap_or(0);
        }
    }

    /// Gives the message to send for an interrupt; a masked vector becomes pending and sends none.
    pub fn raise(&mut self, vector: u16) -> Option<Message> {
        let message = self.message(vector);
        if message.is_none() && self.enabled && vector < self.layout.vectors {
            self.set_pending(vector, true);
        }
        message
    }

    /// Goes back to power-on: off, every vector masked, nothing pending.
    pub fn reset(&mut self) -> Option<MsixChange> {
        let change = self.set_control(0);
        *self = Self { changes: self.changes, ..Self::new(self.layout) };
        change
    }

    fn change(&mut self, vectors: Vec<VectorChange>) -> MsixChange {
        self.changes += 1;
        MsixChange { number: self.changes, enabled: self.enabled, vectors }
    }

    /// The vectors from `first` whose message is not as in `before`, with what was pending set free.
    fn compare(&mut self, first: u16, before: &[Option<Message>]) -> Vec<VectorChange> {
        let mut changes = Vec::new();
        for (vector, before) in (first..).zip(before) {
            let message = self.message(vector);
            if message != *before {
                let fire = message.is_some() && self.set_pending(vector, false);
                changes.push(VectorChange { vector, message, fire });
            }
        }
        changes
    }

    /// Sets a pending bit and says what it was.
    fn set_pending(&mut self, vector: u16, pending: bool) -> bool {
        let bit = 1 << (vector % 8);
        let Some(byte) = self.pending.get_mut(usize::from(vector / 8)) else { return false };
        let was = *byte & bit != 0;
        *byte = if pending { *byte | bit } else { *byte & !bit };
        was
    }

    fn table_byte(&self, offset: u64) -> Option<&u8> {
        let index = usize::try_from(offset / MSIX_ENTRY_BYTES).ok()?;
        self.entries.get(index)?.get((offset % MSIX_ENTRY_BYTES) as usize)
    }

    fn table_byte_mut(&mut self, offset: u64) -> Option<&mut u8> {
        let index = usize::try_from(offset / MSIX_ENTRY_BYTES).ok()?;
        self.entries.get_mut(index)?.get_mut((offset % MSIX_ENTRY_BYTES) as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::{Message, Msix, MsixLayout, MsixPart, VectorChange};
    use crate::BarIndex;
    use crate::test_function::{endpoint, seeded};

    const BAR: BarIndex = BarIndex::bar(1).unwrap();
    const ON: u16 = 0x8000;
    const ALL_MASKED: u16 = 0xc000;

    fn msix(vectors: u16) -> Msix {
        Msix::new(MsixLayout::own_bar(BAR, vectors).0)
    }

    fn program(msix: &mut Msix, vector: u64, message: Message) {
        msix.write_table(vector * 16, &message.address.to_le_bytes());
        msix.write_table(vector * 16 + 8, &message.data.to_le_bytes());
    }

    const MESSAGE: Message = Message { address: 0xfee0_0000, data: 0x31 };

    #[test]
    fn layouts_hold_their_vectors_and_read_back_from_the_capability() {
        for (vectors, size, pending) in
            [(1, 0x1000, 0x800..0x808), (128, 0x1000, 0x800..0x810), (129, 0x2000, 0x1000..0x1018)]
        {
            let (layout, bytes) = MsixLayout::own_bar(BAR, vectors);
            assert_eq!((bytes, layout.pending()), (size, pending));
            assert!(layout.table().end <= layout.pending().start);
            let mut config = endpoint();
            let offset = Msix::new(layout).add_capability(&mut config).unwrap();
            let mut capability = [0; 12];
            config.read(offset, &mut capability);
            assert_eq!(MsixLayout::read(capability), Some(layout));
        }
        assert_eq!(MsixLayout::read([0xff; 12]), None, "BAR 7 does not exist");
        let (layout, _) = MsixLayout::own_bar(BAR, 4);
        for (bar, offset, part) in [
            (BAR, 0x3f, MsixPart::Table(0x3f)),
            (BAR, 0x40, MsixPart::Neither),
            (BAR, 0x807, MsixPart::Pending(7)),
            (BAR, 0x808, MsixPart::Neither),
            (BarIndex::ROM, 0, MsixPart::Neither),
        ] {
            assert_eq!(layout.part(bar, offset), part);
        }
    }

    #[test]
    fn a_vector_has_a_message_only_while_nothing_masks_it() {
        let mut msix = msix(3);
        program(&mut msix, 2, MESSAGE);
        let change = |message| VectorChange { vector: 2, message, fire: false };
        assert_eq!(msix.write_table(0x2c, &[0; 4]), None, "off");
        let on = msix.set_control(ON).unwrap();
        assert_eq!((on.enabled, on.vectors), (true, vec![change(Some(MESSAGE))]));
        assert_eq!(msix.set_control(ON | 2), None, "the size field is no state");
        assert_eq!(msix.set_control(ALL_MASKED).unwrap().vectors, vec![change(None)]);
        assert_eq!(msix.write_table(0x2c, &[1, 0, 0, 0]), None);
        assert_eq!(msix.set_control(ON), None, "it masks itself now");
        let moved = Message { data: 0x32, ..MESSAGE };
        assert_eq!(msix.write_table(0x28, &moved.data.to_le_bytes()), None);
        assert_eq!(msix.write_table(0x2c, &[0; 4]).unwrap().vectors, vec![change(Some(moved))]);
        let off = msix.reset().unwrap();
        assert_eq!((off.enabled, off.vectors), (false, vec![change(None)]));
        assert_eq!(msix.reset(), None);
        assert!(msix.set_control(ON).unwrap().number > off.number, "a reset is one change of many");
    }

    #[test]
    fn reserved_bits_of_the_table_stay_zero() {
        let mut msix = msix(1);
        msix.write_table(0, &[0xff; 16]);
        let mut entry = [0; 20];
        msix.read_table(0, &mut entry);
        let mut expected = [0xff; 20];
        expected[0] = 0xfc;
        expected[12..].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(entry, expected);
    }

    #[test]
    fn a_masked_vector_waits_and_fires_once() {
        let mut msix = msix(65);
        program(&mut msix, 64, MESSAGE);
        assert_eq!(msix.raise(64), None);
        msix.set_control(ON);
        assert_eq!(msix.raise(64), None);
        assert_eq!(msix.raise(65), None);
        let mut pending = [0xff; 16];
        msix.read_pending(0, &mut pending);
        assert_eq!(u128::from_le_bytes(pending), 1 << 64);
        let change = msix.write_table(0x40c, &[0]).unwrap();
        assert_eq!(change.vectors, vec![VectorChange { vector: 64, message: Some(MESSAGE), fire: true }]);
        msix.read_pending(8, &mut pending);
        assert_eq!(pending, [0; 16]);
        assert_eq!(msix.raise(64), Some(MESSAGE));
    }

    proptest! {
        #![proptest_config(seeded(256))]

        #[test]
        fn changes_tell_all_that_happened(
            writes in proptest::collection::vec((any::<u16>(), 0..0x60_u64, any::<u64>(), 1..9_usize), 0..200),
        ) {
            let mut msix = msix(5);
            let mut told: Vec<Option<Message>> = vec![None; 5];
            for (control, offset, data, len) in writes {
                let changes = [
                    msix.set_control(control),
                    msix.write_table(offset, &data.to_le_bytes()[..len]),
                    msix.write_table(u64::MAX - offset, &data.to_le_bytes()[..len]),
                ];
                msix.read_table(u64::MAX - offset, &mut data.to_le_bytes()[..len]);
                msix.read_pending(u64::MAX - offset, &mut data.to_le_bytes()[..len]);
                for change in changes.into_iter().flatten().flat_map(|change| change.vectors) {
                    told[usize::from(change.vector)] = change.message;
                }
                let now: Vec<_> = (0..5).map(|vector| msix.message(vector)).collect();
                prop_assert_eq!(&told, &now);
            }
        }
    }
}
