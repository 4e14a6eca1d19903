//! The optical drive: what it answers to ATA commands (ATA8-ACS) and to packets (MMC-6, SPC-4, SFF-8020i).
//!
//! Pure but for the disc that it reads. Not here: how answers travel (`controller`), and pages of data (`pages`).

use super::pages::{self, Configuration};
use crate::storage::Storage;

/// Bytes of a block on a disc.
pub(crate) const BLOCK: u64 = 2048;
/// Bytes of a packet.
pub(super) const PACKET: usize = 12;

/// Blocks that one packet reads at most: what the ten-byte command can ask for.
const BLOCKS_LIMIT: u32 = 0xffff;

/// Why a packet failed: sense key, additional code and its qualifier (SPC-4, section 4.5.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sense {
    pub(super) key: u8,
    pub(super) code: u8,
    pub(super) qualifier: u8,
}

impl Sense {
    pub(super) const MEDIUM_ERROR: Self = Self::new(0x3, 0x11, 0x00);
    const NO_MEDIUM: Self = Self::new(0x2, 0x3a, 0x02);
    const NO_COMMAND: Self = Self::new(0x5, 0x20, 0x00);
    const OUT_OF_RANGE: Self = Self::new(0x5, 0x21, 0x00);
    const BAD_FIELD: Self = Self::new(0x5, 0x24, 0x00);
    const NOT_SAVED: Self = Self::new(0x5, 0x39, 0x00);
    const LOCKED: Self = Self::new(0x5, 0x53, 0x02);

    const fn new(key: u8, code: u8, qualifier: u8) -> Self {
        Self { key, code, qualifier }
    }
}

/// What is to be sent to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Nothing,
    Data(Vec<u8>),
    Blocks { first: u64, count: u64 },
}

/// A drive with a disc in it.
pub(super) struct Drive {
    disc: Box<dyn Storage>,
    sense: Sense,
    locked: bool,
    open: bool,
    // The tray was closed or opened since the host asked last.
    event: u8,
}

/// Media events (MMC-6, section 6.6.2.7).
mod event {
    pub(super) const NONE: u8 = 0;
    pub(super) const NEW: u8 = 2;
    pub(super) const REMOVED: u8 = 3;
}

impl Drive {
    pub(super) fn new(disc: Box<dyn Storage>) -> Self {
        Self { disc, sense: Sense::default(), locked: false, open: false, event: event::NONE }
    }

    /// The disc.
    pub(super) fn disc(&self) -> &dyn Storage {
        self.disc.as_ref()
    }

    fn blocks(&self) -> u32 {
        u32::try_from(self.disc.len() / BLOCK).unwrap_or(u32::MAX)
    }

    /// Forgets what a reset makes it forget. The tray stays as it is.
    pub(super) fn reset(&mut self) {
        self.sense = Sense::default();
        self.locked = false;
    }

    /// Answers a packet.
    ///
    /// # Errors
    /// What the host will be told when it asks for the sense.
    pub(super) fn packet(&mut self, packet: &[u8; PACKET]) -> Result<Answer, Sense> {
        let answer = self.answer(packet);
        if let Err(sense) = answer {
            self.sense = sense;
        }
        answer
    }

    /// Remembers why reading failed.
    pub(super) fn failed(&mut self, sense: Sense) {
        self.sense = sense;
    }

    fn answer(&mut self, packet: &[u8; PACKET]) -> Result<Answer, Sense> {
        let [command, p1, p2, p3, p4, p5, p6, p7, p8, p9, ..] = *packet;
        let word = |high: u8, low: u8| usize::from(u16::from_be_bytes([high, low]));
        let long = |a, b, c, d| u32::from_be_bytes([a, b, c, d]);
        match command {
            // TEST UNIT READY, SEEK, SET CD SPEED
            0x00 | 0x2b | 0xbb => self.ready().map(|()| Answer::Nothing),
            // REQUEST SENSE
            0x03 => Ok(cut(pages::sense(std::mem::take(&mut self.sense)), p4.into())),
            // INQUIRY: no vital product data
            0x12 if p1 & 1 == 0 && p2 == 0 => Ok(cut(pages::inquiry(), word(p3, p4))),
            // START STOP UNIT
            0x1b => self.start_stop(p4),
            // PREVENT ALLOW MEDIUM REMOVAL
            0x1e => {
                self.locked = p4 & 1 != 0;
                Ok(Answer::Nothing)
            }
            // READ CAPACITY
            0x25 => {
                self.ready()?;
                Ok(Answer::Data(pages::capacity(self.blocks())))
            }
            // READ(10), READ(12)
            0x28 => self.read(long(p2, p3, p4, p5), u16::from_be_bytes([p7, p8]).into()),
            0xa8 => self.read(long(p2, p3, p4, p5), long(p6, p7, p8, p9)),
            // READ TOC/PMA/ATIP
            0x43 => {
                self.ready()?;
                // Old hosts write the format into the last byte.
                let format = if p2 & 0xf == 0 { p9 >> 6 } else { p2 & 0xf };
                let toc = pages::table_of_contents(format, p1 & 2 != 0, p6, self.blocks());
                Ok(cut(toc.ok_or(Sense::BAD_FIELD)?, word(p7, p8)))
            }
            // GET CONFIGURATION
            0x46 => {
                let which = Configuration {
                    kind: p1 & 3,
                    first: u16::from_be_bytes([p2, p3]),
                    is_dvd: self.is_dvd(),
                    present: !self.open,
                };
                Ok(cut(pages::configuration(&which), word(p7, p8)))
            }
            // GET EVENT STATUS NOTIFICATION: only when asked, never later
            0x4a if p1 & 1 != 0 => {
                let media = p4 & 0x10 != 0;
                let event = if media { std::mem::take(&mut self.event) } else { event::NONE };
                Ok(cut(pages::events(media, event, self.open), word(p7, p8)))
            }
            // READ DISC INFORMATION: of the disc, not of its resources
            0x51 if p1 & 7 == 0 => {
                self.ready()?;
                Ok(cut(pages::disc_information(), word(p7, p8)))
            }
            // MODE SENSE(10)
            0x5a if p2 >> 6 == 3 => Err(Sense::NOT_SAVED),
            0x5a => {
                let pages = pages::mode(p2 & 0x3f, p2 >> 6 == 1, self.locked);
                Ok(cut(pages.ok_or(Sense::BAD_FIELD)?, word(p7, p8)))
            }
            // MECHANISM STATUS
            0xbd => Ok(cut(pages::mechanism(self.open), word(p8, p9))),
            0x12 | 0x4a | 0x51 => Err(Sense::BAD_FIELD),
            _ => Err(Sense::NO_COMMAND),
        }
    }

    fn read(&self, first: u32, count: u32) -> Result<Answer, Sense> {
        self.ready()?;
        let end = first.checked_add(count).filter(|end| *end <= self.blocks());
        match (end, count) {
            (None, _) => Err(Sense::OUT_OF_RANGE),
            (Some(_), 0) => Ok(Answer::Nothing),
            (Some(_), 1..=BLOCKS_LIMIT) => Ok(Answer::Blocks { first: first.into(), count: count.into() }),
            (Some(_), _) => Err(Sense::BAD_FIELD),
        }
    }

    /// Opens or closes the tray; the disc never leaves it.
    fn start_stop(&mut self, what: u8) -> Result<Answer, Sense> {
        let open = match what & 3 {
            2 if self.locked => return Err(Sense::LOCKED),
            2 => true,
            3 => false,
            _ => self.open,
        };
        if open != self.open {
            self.open = open;
            self.event = if open { event::REMOVED } else { event::NEW };
        }
        Ok(Answer::Nothing)
    }

    fn ready(&self) -> Result<(), Sense> {
        if self.open { Err(Sense::NO_MEDIUM) } else { Ok(()) }
    }

    /// What is on it would not fit on a CD of 80 minutes.
    fn is_dvd(&self) -> bool {
        self.blocks() > 80 * 60 * 75
    }
}

/// No more than the host has room for.
fn cut(mut data: Vec<u8>, room: usize) -> Answer {
    data.truncate(room);
    if data.is_empty() { Answer::Nothing } else { Answer::Data(data) }
}
