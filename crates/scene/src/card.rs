//! A graphics card as the kernel's direct rendering manager shows it: heads with a picture each.
//!
//! Dumb buffers and the old way of setting modes: every driver has both, and a scene needs no more.

use anyhow::{Context, Result, bail};
use drm::buffer::DrmFourcc;
use drm::control::dumbbuffer::{DumbBuffer, DumbMapping};
use drm::control::{ClipRect, Device, Mode, ModeTypeFlags, connector, crtc, framebuffer};
use scene::canvas::{Area, Canvas};
use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// Cards looked for.
const CARD_LIMIT: usize = 64;

/// An open card.
#[derive(Debug)]
pub(crate) struct Card {
    file: File,
    /// The name of the card in sysfs, as card0.
    name: String,
    /// Whether the driver wants to be told what changed; found out by the first try.
    wants_damage: Cell<bool>,
}

impl AsFd for Card {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl drm::Device for Card {}
impl Device for Card {}

/// Which heads are wanted, and with which picture.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    /// Width and height; the preferred mode when none.
    pub(crate) mode: Option<(u16, u16)>,
    /// How many there have to be.
    pub(crate) heads: usize,
}

/// One monitor's place on the card.
#[derive(Debug)]
pub(crate) struct Head {
    buffer: DumbBuffer,
    framebuffer: framebuffer::Handle,
}

/// A head's picture in memory.
pub(crate) struct Screen<'a> {
    mapping: DumbMapping<'a>,
    framebuffer: framebuffer::Handle,
    size: (u32, u32),
    pitch: usize,
}

/// Finds the first card there is.
pub(crate) fn first() -> Result<PathBuf> {
    (0..CARD_LIMIT)
        .map(|number| PathBuf::from(format!("/dev/dri/card{number}")))
        .find(|path| path.exists())
        .context("there is no graphics card with a driver (no /dev/dri/card*)")
}

impl Card {
    /// Opens a card.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { file, name, wants_damage: Cell::new(true) })
    }

    /// Sets a mode with a picture of its own on each head that has a monitor; switches further heads on when
    /// `choice` wants more.
    pub(crate) fn heads(&self, choice: &Choice) -> Result<Vec<Head>> {
        let resources = self.resource_handles().context("cannot ask the card for its heads")?;
        let mut connectors = self.connected(resources.connectors())?;
        if connectors.len() < choice.heads {
            self.switch_on(resources.connectors())?;
            connectors = self.connected(resources.connectors())?;
        }
        if connectors.len() < choice.heads {
            bail!("{} has {} heads with a monitor, not {}", self.name, connectors.len(), choice.heads);
        }
        let mut taken = Vec::new();
        connectors.iter().map(|connector| self.light(connector, choice.mode, &mut taken)).collect()
    }

    fn connected(&self, handles: &[connector::Handle]) -> Result<Vec<connector::Info>> {
        let mut found = Vec::new();
        for handle in handles {
            let info = self.get_connector(*handle, true).context("cannot ask a head for its monitor")?;
            if info.state() == connector::State::Connected {
                found.push(info);
            }
        }
        Ok(found)
    }

    /// Tells the kernel to take every head for connected, as `video=NAME:e` at its command line does.
    fn switch_on(&self, handles: &[connector::Handle]) -> Result<()> {
        for handle in handles {
            let info = self.get_connector(*handle, false).context("cannot ask for a head's name")?;
            let status = format!(
                "/sys/class/drm/{}-{}-{}/status",
                self.name,
                info.interface().as_str(),
                info.interface_id()
            );
            if info.state() != connector::State::Connected {
                fs::write(&status, "on").with_context(|| format!("cannot switch on by {status}"))?;
            }
        }
        Ok(())
    }

    fn light(
        &self,
        connector: &connector::Info,
        size: Option<(u16, u16)>,
        taken: &mut Vec<crtc::Handle>,
    ) -> Result<Head> {
        let name = format!("{}-{}", connector.interface().as_str(), connector.interface_id());
        let mode = choose(connector.modes(), size).with_context(|| {
            format!("{name} has no such mode: {size:?} among {}", list(connector.modes()))
        })?;
        let crtc = self.free_crtc(connector, taken).with_context(|| format!("{name} has no free CRTC"))?;
        taken.push(crtc);
        let (width, height) = mode.size();
        let buffer = self
            .create_dumb_buffer((width.into(), height.into()), DrmFourcc::Xrgb8888, 32)
            .with_context(|| format!("no memory for a picture of {width}x{height}"))?;
        let framebuffer = self.add_framebuffer(&buffer, 24, 32).context("cannot make a frame buffer")?;
        self.set_crtc(crtc, Some(framebuffer), (0, 0), &[connector.handle()], Some(mode))
            .with_context(|| format!("cannot set {width}x{height} on {name}"))?;
        Ok(Head { buffer, framebuffer })
    }

    fn free_crtc(&self, connector: &connector::Info, taken: &[crtc::Handle]) -> Option<crtc::Handle> {
        let resources = self.resource_handles().ok()?;
        let encoders = connector.encoders().iter().filter_map(|encoder| self.get_encoder(*encoder).ok());
        encoders
            .flat_map(|encoder| resources.filter_crtcs(encoder.possible_crtcs()))
            .find(|crtc| !taken.contains(crtc))
    }
}

fn choose(modes: &[Mode], size: Option<(u16, u16)>) -> Option<Mode> {
    match size {
        Some(size) => modes.iter().find(|mode| mode.size() == size).copied(),
        None => {
            let preferred = modes.iter().find(|mode| mode.mode_type().contains(ModeTypeFlags::PREFERRED));
            preferred.or(modes.first()).copied()
        }
    }
}

fn list(modes: &[Mode]) -> String {
    let sizes: Vec<String> =
        modes.iter().map(|mode| format!("{}x{}", mode.size().0, mode.size().1)).collect();
    sizes.join(", ")
}

impl Head {
    /// Returns width and height in pixels.
    pub(crate) fn size(&self) -> (u32, u32) {
        drm::buffer::Buffer::size(&self.buffer)
    }

    /// Maps the picture.
    pub(crate) fn canvas<'a>(&'a mut self, card: &Card) -> Result<Screen<'a>> {
        let (size, pitch) = (self.size(), drm::buffer::Buffer::pitch(&self.buffer) as usize);
        let framebuffer = self.framebuffer;
        let mapping = card.map_dumb_buffer(&mut self.buffer).context("cannot map a picture")?;
        Ok(Screen { mapping, framebuffer, size, pitch })
    }
}

impl Screen<'_> {
    /// Returns the picture to draw on.
    pub(crate) fn canvas(&mut self) -> Canvas<'_> {
        Canvas::new(&mut self.mapping, self.size.0, self.size.1, self.pitch)
    }

    /// Tells the card which part changed; cards whose memory is what the monitor shows need no telling.
    pub(crate) fn publish(&self, card: &Card, area: Area) -> Result<()> {
        if !card.wants_damage.get() {
            return Ok(());
        }
        let corner = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
        let clip = ClipRect::new(
            corner(area.x),
            corner(area.y),
            corner(area.x.saturating_add(area.width)),
            corner(area.y.saturating_add(area.height)),
        );
        match card.dirty_framebuffer(self.framebuffer, &[clip]) {
            Ok(()) => Ok(()),
            // ENOSYS: the driver has nothing to be told.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOSYS.raw_os_error()) => {
                card.wants_damage.set(false);
                Ok(())
            }
            Err(error) => Err(error).context("cannot publish what changed"),
        }
    }
}
