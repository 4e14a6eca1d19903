//! Every keyboard and pointer there is, as the kernel's event devices give them; ones plugged in later are found too.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes of an event: two longs of time, type, code, value (Linux include/uapi/linux/input.h, on 64 bits).
const EVENT: usize = 24;
/// Type of key events (input-event-codes.h).
const EV_KEY: u16 = 1;
/// The code of the power button.
const KEY_POWER: u16 = 116;
/// The code of a pointer's left button.
const BTN_LEFT: u16 = 0x110;
/// Value of a key going down; up is 0, repeat is 2.
const DOWN: i32 = 1;
/// Events taken from one device in one go.
const BATCH: usize = 64;
/// How often new devices are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Devices opened at most.
const DEVICE_LIMIT: usize = 64;

/// Keys by code, from KEY_1 (2) to KEY_SPACE (57); blank where a key types nothing (input-event-codes.h).
const LETTERS: &[u8; 58] = b"\0\x001234567890-=\0\0qwertyuiop[]\0\0asdfghjkl;'`\0\\zxcvbnm,./\0*\0 ";

/// All open keyboards.
#[derive(Debug, Default)]
pub(crate) struct Keyboards {
    open: BTreeMap<PathBuf, File>,
    looked: Option<Instant>,
    found: Vec<String>,
    power: bool,
    clicks: u32,
}

impl Keyboards {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Returns what was typed since the last call.
    pub(crate) fn read(&mut self) -> String {
        self.look_for_devices();
        let (mut typed, mut power, mut clicks) = (String::new(), false, 0);
        self.open.retain(|_, file| {
            let mut buffer = [0; EVENT * BATCH];
            match file.read(&mut buffer) {
                Ok(count) => {
                    let pressed = buffer[..count].chunks_exact(EVENT).filter_map(pressed);
                    for code in pressed {
                        power |= code == KEY_POWER;
                        clicks += u32::from(code == BTN_LEFT);
                        typed.extend(letter(code));
                    }
                    true
                }
                // Nothing typed, or the device is gone.
                Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
            }
        });
        self.power |= power;
        self.clicks += clicks;
        typed
    }

    /// Returns the names of the devices found since the last call. What is typed on them from now on is heard.
    pub(crate) fn take_found(&mut self) -> Vec<String> {
        std::mem::take(&mut self.found)
    }

    /// Returns how often a left button has been pressed so far.
    pub(crate) fn clicks(&self) -> u32 {
        self.clicks
    }

    /// Says whether the power button has been pressed.
    pub(crate) fn power_pressed(&self) -> bool {
        self.power
    }

    /// Waits until something is typed, at most for `limit`.
    pub(crate) fn wait(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let mut polled: Vec<PollFd> =
            self.open.values().map(|file| PollFd::new(file, PollFlags::IN)).collect();
        let timeout = Timespec::try_from(limit).ok();
        let ready = poll(&mut polled, timeout.as_ref()).unwrap_or(0);
        if ready > 0 {
            // The picture keeps its pace: typed text comes with the next frame.
            std::thread::sleep(end.saturating_duration_since(Instant::now()));
        }
    }

    fn look_for_devices(&mut self) {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked = Some(Instant::now());
        let Ok(entries) = fs::read_dir("/dev/input") else { return };
        for entry in entries.flatten().take(DEVICE_LIMIT) {
            let path = entry.path();
            if !entry.file_name().to_string_lossy().starts_with("event") || self.open.contains_key(&path) {
                continue;
            }
            let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
            if let Ok(file) = OpenOptions::new().read(true).custom_flags(nonblocking).open(&path) {
                let name = Path::new("/sys/class/input").join(entry.file_name()).join("device/name");
                self.found.push(fs::read_to_string(name).unwrap_or_default().trim().to_owned());
                self.open.insert(path, file);
            }
        }
    }
}

/// Returns the code of the key when an event is one going down.
fn pressed(event: &[u8]) -> Option<u16> {
    let [.., t0, t1, c0, c1, v0, v1, v2, v3] = *event else { return None };
    let (kind, code) = (u16::from_le_bytes([t0, t1]), u16::from_le_bytes([c0, c1]));
    (kind == EV_KEY && i32::from_le_bytes([v0, v1, v2, v3]) == DOWN).then_some(code)
}

/// Returns what a key types.
fn letter(code: u16) -> Option<char> {
    LETTERS.get(usize::from(code)).filter(|letter| **letter != 0).map(|letter| char::from(*letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u16, code: u16, value: i32) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        bytes.extend(kind.to_le_bytes());
        bytes.extend(code.to_le_bytes());
        bytes.extend(value.to_le_bytes());
        bytes
    }

    #[test]
    fn only_keys_going_down_type_a_letter() {
        // Codes of input-event-codes.h: KEY_A 30, KEY_0 11, KEY_M 50, KEY_SPACE 57, KEY_ENTER 28, KEY_F1 59.
        let rows = [
            (event(EV_KEY, 30, 1), Some('a')),
            (event(EV_KEY, 11, 1), Some('0')),
            (event(EV_KEY, 50, 1), Some('m')),
            (event(EV_KEY, 57, 1), Some(' ')),
            (event(EV_KEY, 30, 0), None),
            (event(EV_KEY, 30, 2), None),
            (event(3, 30, 1), None),
            (event(EV_KEY, 28, 1), None),
            (event(EV_KEY, 59, 1), None),
            (event(EV_KEY, BTN_LEFT, 1), None),
            (event(EV_KEY, u16::MAX, 1), None),
            (vec![1, 2, 3], None),
        ];
        for (bytes, expected) in rows {
            assert_eq!(pressed(&bytes).and_then(letter), expected, "{bytes:?}");
        }
    }
}
