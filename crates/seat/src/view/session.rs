//! One viewer, from its hello to its end.

use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use spec::ControlRequest;

use super::encode::{Area, OURS, PixelFormat, changed};
use super::listen::Stream;
use super::password::CHALLENGE;
use super::protocol::{Message, Nonsense, take};
use super::{MAX_VIEWERS, View};
use super::{keys, password};
use crate::control::{Control, ControlError};
use crate::picture::{Camera, Picture, PictureError};

const VERSION: &[u8; 12] = b"RFB 003.008\n";

/// Security types.
const NO_SECURITY: u8 = 1;
const VNC_PASSWORD: u8 = 2;

/// Encodings: pixels as they are, and two that only say what the viewer understands.
const RAW: i32 = 0;
const DESKTOP_SIZE: i32 = -223;
const SCAN_KEYS: i32 = -258;

/// A viewer that says nothing for so long in its hello is none.
const HELLO: Duration = Duration::from_secs(10);
/// Nor is one that does not take what it asked for.
const SEND: Duration = Duration::from_secs(20);
/// How long a wrong password is not told to be wrong: guessing takes as long.
const WRONG: Duration = Duration::from_secs(1);
/// Time between two looks at the picture, and how often a viewer is listened to.
const FRAME: Duration = Duration::from_millis(40);
/// Bytes of one read.
const READ: usize = 4096;

/// The conversation ended in another way than by the viewer's wish.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("{0}")]
    Stream(#[from] std::io::Error),
    #[error(transparent)]
    Nonsense(#[from] Nonsense),
    #[error("it speaks no RFB 3.7 or later")]
    Version,
    #[error("it does not know the password")]
    Password,
    #[error("there are {MAX_VIEWERS} others")]
    Crowded,
    #[error("it wants pixels of a kind that there is not")]
    Format,
    #[error(transparent)]
    Picture(#[from] PictureError),
    #[error(transparent)]
    Control(#[from] ControlError),
}

struct Session {
    stream: Stream,
    camera: Camera,
    format: PixelFormat,
    follows_size: bool,
    told_of_scan_keys: bool,
    wanted: Option<bool>,
    seen: Option<Picture>,
    // The size the viewer believes in.
    size: (u32, u32),
    buttons: u8,
}

/// Talks to a viewer until it goes away; it is one of the `viewers` once it has shown that it may be.
pub(super) fn serve(view: &View, mut stream: Stream, viewers: &AtomicUsize) -> Result<(), SessionError> {
    stream.set_patience(Some(HELLO), SEND)?;
    greet(view, &mut stream)?;
    let _place = Place::take(viewers)?;
    let mut camera = Camera::new(Control::connect(&view.machine)?)?;
    let picture = camera.take()?;
    let size = (picture.width, picture.height);
    stream.write_all(&hello(size, &view.name))?;
    stream.set_patience(Some(FRAME), SEND)?;
    let session = Session {
        stream,
        camera,
        format: OURS,
        follows_size: false,
        told_of_scan_keys: false,
        wanted: None,
        seen: None,
        size,
        buttons: 0,
    };
    session.run()
}

/// A place among the viewers.
struct Place<'v>(&'v AtomicUsize);

impl<'v> Place<'v> {
    fn take(viewers: &'v AtomicUsize) -> Result<Self, SessionError> {
        let place = Self(viewers);
        // Given back by the drop, also when there was none.
        match viewers.fetch_add(1, Ordering::AcqRel) {
            before if before < MAX_VIEWERS => Ok(place),
            _ => Err(SessionError::Crowded),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Version, security, and the client's first word.
fn greet(view: &View, stream: &mut Stream) -> Result<(), SessionError> {
    stream.write_all(VERSION)?;
    let mut version = [0; 12];
    stream.read_exact(&mut version)?;
    // 3.3 has another handshake, and nobody speaks it any more.
    if !version.starts_with(b"RFB 003.") || &version < b"RFB 003.007\n" {
        return Err(SessionError::Version);
    }
    let kind = if view.password.is_some() { VNC_PASSWORD } else { NO_SECURITY };
    stream.write_all(&[1, kind])?;
    let mut chosen = [0];
    stream.read_exact(&mut chosen)?;
    let passed = chosen == [kind] && view.password.as_ref().map_or(Ok(true), |word| knows(word, stream))?;
    if !passed {
        // Not an event that is waited for: the wait is what is meant.
        std::thread::sleep(WRONG);
        let reason = b"wrong password";
        stream.write_all(&[0, 0, 0, 1, 0, 0, 0, reason.len() as u8])?;
        stream.write_all(reason)?;
        return Err(SessionError::Password);
    }
    stream.write_all(&[0; 4])?;
    // Whether it shares the machine with other viewers: it does.
    stream.read_exact(&mut chosen)?;
    Ok(())
}

fn knows(password: &password::Password, stream: &mut Stream) -> Result<bool, SessionError> {
    let (mut challenge, mut answer) = ([0; CHALLENGE], [0; CHALLENGE]);
    linux::random::fill(&mut challenge)?;
    stream.write_all(&challenge)?;
    stream.read_exact(&mut answer)?;
    Ok(password.answers(&challenge, &answer))
}

fn hello((width, height): (u32, u32), name: &str) -> Vec<u8> {
    let mut hello = Vec::new();
    hello.extend((width as u16).to_be_bytes());
    hello.extend((height as u16).to_be_bytes());
    hello.extend(OURS.bytes());
    hello.extend((name.len() as u32).to_be_bytes());
    hello.extend(name.as_bytes());
    hello
}

impl Session {
    fn run(mut self) -> Result<(), SessionError> {
        let mut bytes = Vec::new();
        let mut looked = Instant::now();
        loop {
            let mut buffer = [0; READ];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => bytes.extend_from_slice(buffer.get(..read).unwrap_or_default()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            while let Some(message) = take(&mut bytes)? {
                self.heed(message)?;
            }
            let whole = self.wanted == Some(false);
            if self.wanted.is_some() && (whole || looked.elapsed() >= FRAME) {
                looked = Instant::now();
                self.update()?;
            }
        }
    }

    fn heed(&mut self, message: Message) -> Result<(), SessionError> {
        match message {
            Message::Format(format) => self.format = format.ok_or(SessionError::Format)?,
            Message::Encodings(encodings) => {
                self.follows_size = encodings.contains(&DESKTOP_SIZE);
                if encodings.contains(&SCAN_KEYS) && !self.told_of_scan_keys {
                    self.told_of_scan_keys = true;
                    self.send_rectangles(&[(Area { x: 0, y: 0, width: 0, height: 0 }, SCAN_KEYS)], None)?;
                }
            }
            Message::Update { incremental } => {
                // A wish for all of it stays one until it is met.
                self.wanted = Some(incremental && self.wanted != Some(false));
            }
            Message::Key { keysym, down } => self.key(keys::of_keysym(keysym), down)?,
            Message::ScanKey { scancode, keysym, down } => {
                self.key(keys::of_scancode(scancode).or(keys::of_keysym(keysym)), down)?;
            }
            Message::Pointer { x, y, buttons } => self.pointer(x, y, buttons)?,
            Message::CutText => {}
        }
        Ok(())
    }

    fn key(&mut self, code: Option<u16>, down: bool) -> Result<(), SessionError> {
        match code.map(|code| self.camera.control().ask(ControlRequest::Key { code, down })) {
            // A key that the machine's keyboard lacks is nobody's fault.
            None | Some(Ok(_) | Err(ControlError::Refused { .. })) => Ok(()),
            Some(Err(error)) => Err(error.into()),
        }
    }

    fn pointer(&mut self, x: u16, y: u16, buttons: u8) -> Result<(), SessionError> {
        // RFB: bit 0 left, 1 middle, 2 right; 3 and 4 are the wheel's two ways, 5 and 6 its sideways ones, 7 back.
        let pressed = buttons & !self.buttons;
        self.buttons = buttons;
        let wheel = i8::from(pressed & 0x10 != 0) - i8::from(pressed & 0x08 != 0);
        let held = buttons & 1 | (buttons & 4) >> 1 | (buttons & 2) << 1 | (buttons & 0x80) >> 4;
        match self.camera.control().ask(ControlRequest::Pointer { x, y, buttons: held, wheel }) {
            Ok(_) | Err(ControlError::Refused { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends what the viewer has not seen, if there is any.
    fn update(&mut self) -> Result<(), SessionError> {
        let picture = self.camera.take()?;
        let size = (picture.width, picture.height);
        if size != self.size {
            if !self.follows_size {
                // It believes in the old size: it must come again.
                return Err(std::io::Error::from(ErrorKind::ConnectionAborted).into());
            }
            self.size = size;
            self.seen = None;
            let (width, height) = size;
            self.wanted = None;
            return self.send_rectangles(&[(Area { x: 0, y: 0, width, height }, DESKTOP_SIZE)], None);
        }
        let seen = self.seen.as_ref().filter(|_| self.wanted == Some(true));
        let areas: Vec<_> = changed(seen, &picture).into_iter().map(|area| (area, RAW)).collect();
        if areas.is_empty() {
            return Ok(());
        }
        self.wanted = None;
        self.send_rectangles(&areas, Some(&picture))?;
        self.seen = Some(picture);
        Ok(())
    }

    fn send_rectangles(
        &mut self,
        rectangles: &[(Area, i32)],
        picture: Option<&Picture>,
    ) -> Result<(), SessionError> {
        let mut out = vec![0, 0];
        // Tiles of the largest picture are fewer than this counts.
        out.extend((rectangles.len() as u16).to_be_bytes());
        for (area, encoding) in rectangles {
            for value in [area.x, area.y, area.width, area.height] {
                out.extend((value as u16).to_be_bytes());
            }
            out.extend(encoding.to_be_bytes());
            if let (RAW, Some(picture)) = (*encoding, picture) {
                self.format.append(picture, *area, &mut out);
            }
        }
        self.stream.write_all(&out)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
