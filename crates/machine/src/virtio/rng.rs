//! The entropy device (section 5.4): the host's random bytes for the guest's pool.

use std::io;

use super::request::Request;
use super::{Broken, Kind, VirtioDevice};

const DEVICE_ID: u16 = 4;
/// No class of its own: 0xff.
const CLASS: u32 = 0xff_0000;
/// Linux asks for one buffer at a time.
const QUEUE: u16 = 8;

/// Bytes given in one request at most. A buffer need not be filled (section 5.4.6.2), and who wants more asks again.
const BYTES_IN_ONE_REQUEST: usize = 4096;

/// The source of random bytes.
type Source = fn(&mut [u8]) -> io::Result<()>;

/// The device.
pub(crate) struct Rng {
    source: Source,
}

impl Rng {
    /// A device that gives what `source` fills buffers with.
    pub(crate) fn new(source: Source) -> Self {
        Self { source }
    }
}

impl VirtioDevice for Rng {
    fn kind(&self) -> Kind {
        Kind {
            name: "virtio-rng".to_owned(),
            id: DEVICE_ID,
            class: CLASS,
            features: 0,
            queues: vec![QUEUE],
            frugal: true,
            config: Vec::new(),
            rom: None,
        }
    }

    fn answer(&mut self, _queue: usize, request: Request<'_>) -> Result<u32, Broken> {
        let wanted = request.writable.len();
        if wanted == 0 || !request.readable.is_empty() {
            return Err(Broken::Request);
        }
        let mut bytes = [0; BYTES_IN_ONE_REQUEST];
        let count = usize::try_from(wanted).unwrap_or(BYTES_IN_ONE_REQUEST).min(BYTES_IN_ONE_REQUEST);
        let bytes = bytes.get_mut(..count).unwrap_or_default();
        // A host without entropy has none to give: the guest gets an empty answer and asks elsewhere.
        match (self.source)(bytes) {
            Ok(()) => Ok(request.writable.write(bytes) as u32),
            Err(_) => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{BYTES_IN_ONE_REQUEST, Rng};
    use crate::virtio::testing::{Driver, Piece};
    use crate::virtio::{Broken, VirtioDevice};

    fn sevens(buffer: &mut [u8]) -> io::Result<()> {
        buffer.fill(7);
        Ok(())
    }

    fn nothing(_: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    #[test]
    fn buffers_are_filled_as_far_as_a_request_goes() {
        let limit = BYTES_IN_ONE_REQUEST as u32;
        for (pieces, written) in [
            (vec![Piece::writable(0x1_0000, 64)], Ok(64)),
            (vec![Piece::writable(0x1_0000, 3), Piece::writable(0x1_1000, 5)], Ok(8)),
            (vec![Piece::writable(0x1_0000, 2 * limit)], Ok(limit)),
            (vec![Piece::writable(0x1_0000, 0)], Err(Broken::Request)),
            (vec![Piece::readable(0x1_0000, 64)], Err(Broken::Request)),
            (vec![Piece::readable(0x1_0000, 1), Piece::writable(0x1_1000, 64)], Err(Broken::Request)),
        ] {
            let driver = Driver::new();
            let result = driver.with_request(&pieces, |request| Rng::new(sevens).answer(0, request));
            assert_eq!(result, written, "{pieces:?}");
            if let (Ok(written), [only]) = (result, pieces.as_slice()) {
                assert_eq!(driver.byte(only.address + u64::from(written) - 1), 7);
                assert_eq!(driver.byte(only.address + u64::from(written)), 0);
            }
        }
    }

    #[test]
    fn a_host_without_entropy_gives_an_empty_answer() {
        let driver = Driver::new();
        let pieces = [Piece::writable(0x1_0000, 64)];
        assert_eq!(driver.with_request(&pieces, |request| Rng::new(nothing).answer(0, request)), Ok(0));
    }
}
