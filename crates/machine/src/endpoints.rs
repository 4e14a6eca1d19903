//! The machine's own endpoints: the emulated functions on bus 0, at their places and wired.
//!
//! Not here: what they do (`virtio`, `display`), and functions of the host. The chipset is the caller.

use std::io;
use std::sync::{Arc, Mutex};

use linux::kvm::Vm;
use linux::memory::{GuestMemory, GuestRam};
use linux::net::{Link, StreamLink, TapLink};
use pci::{BarError, Occupied, Pin, Place};
use spec::seat_file::{BootFirst, DiskKind};

use crate::ahci::{self, AhciFunction};
use crate::assigned::Assigned;
use crate::bus::{Bus, RangeTaken};
use crate::display::{Card, DISPI_PORTS, DispiPorts, Display, DisplayFunction, MemoryPlace};
use crate::events::Events;
use crate::firmware::acpi::board::intx_gsi;
use crate::input::Motion;
use crate::messages::{Lines, Messages, Triggers};
use crate::nvme::{self, NvmeDisk, NvmeFunction};
use crate::pci_host::PciHost;
use crate::storage::told::Told;
use crate::storage::{Image, Storage};
use crate::virtio::{
    Block, Doorbells, Engine, FunctionError, Interrupt, Net, Point, Pointer, Rng, SECTOR, Tablet,
    VirtioDevice, VirtioFunction, serve_network,
};
use crate::worker::Worker;

/// A disk of a machine.
#[derive(Clone, Debug)]
pub struct Disk {
    /// What messages to its owner call it.
    pub title: String,
    /// What it stores its bytes in.
    pub storage: Image,
    /// What it is to the guest.
    pub shown: DiskKind,
    /// Whether the guest may only read it.
    pub read_only: bool,
}

/// A network card of a machine.
#[derive(Clone, Debug)]
pub struct Network {
    /// The file that its frames go through.
    pub file: Arc<std::os::fd::OwnedFd>,
    /// Whether the file is a tap interface's, or the stream of a user-mode network.
    pub is_tap: bool,
    /// Its address.
    pub mac: [u8; 6],
    /// The option ROM by which firmware starts a system through it.
    pub rom: Option<Arc<[u8]>>,
}

impl Network {
    /// A link for one life of the machine; what the last one had not read of the stream is still there.
    fn link(&self) -> io::Result<Link> {
        let file = self.file.try_clone()?;
        Ok(if self.is_tap { Link::Tap(TapLink::new(file)?) } else { Link::Stream(StreamLink::new(file)?) })
    }
}

impl Disk {
    /// The smallest disk there can be, in bytes: one sector.
    pub const SMALLEST: u64 = SECTOR;
}

/// Which endpoints there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoints {
    /// Whether there is an entropy device.
    pub(crate) rng: bool,
    /// The disks, in order.
    pub(crate) disks: Vec<Disk>,
    /// The discs in optical drives, in order.
    pub(crate) cdroms: Vec<Arc<linux::disk::Disk>>,
    /// The network cards, in order.
    pub(crate) networks: Vec<Network>,
    /// The emulated graphics card.
    pub(crate) display: Option<Card>,
    /// What firmware tries to start from first.
    pub(crate) boot: BootFirst,
}

/// An endpoint could not be built.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Its place is taken.
    #[error(transparent)]
    Slot(#[from] Occupied),
    /// It does not fit into a PCI function.
    #[error(transparent)]
    Function(#[from] FunctionError),
    /// Its ports are taken.
    #[error(transparent)]
    Ports(#[from] RangeTaken),
    /// Its BARs cannot be described.
    #[error(transparent)]
    Bar(#[from] BarError),
    /// The file of a network card cannot be used.
    #[error("use the file of a network card")]
    Network(#[source] io::Error),
    /// A disk or network card got no event fd.
    #[error("make an event fd for a disk or network card")]
    Event(#[source] io::Error),
    /// A disk or network card got no thread.
    #[error("make a thread for a disk or network card")]
    Thread(#[source] io::Error),
}

/// What endpoints are connected to.
pub(crate) struct Sockets<'a> {
    pub(crate) vm: &'a Vm,
    pub(crate) ram: &'a GuestRam,
    pub(crate) events: &'a Arc<Events>,
    pub(crate) pci: &'a PciHost,
    pub(crate) ports: &'a Bus,
    pub(crate) messages: &'a Messages,
    pub(crate) lines: &'a Arc<Lines>,
}

/// Endpoints in their sockets, for one life of the machine.
#[derive(Default)]
pub(crate) struct Plugged {
    // Served by the event thread.
    engines: Vec<Arc<Engine>>,
    // Each ends its thread when it is dropped.
    _workers: Vec<Worker>,
    display: Option<Arc<Display>>,
    tablet: Option<(Pointer, Arc<Engine>)>,
}

/// The device number of the entropy device on bus 0. Disks follow, whether it is there or not: a disk keeps its name.
const RNG_DEVICE: u8 = 1;

/// Disks of one machine at most.
pub const DISK_LIMIT: usize = 8;

/// Optical drives of one machine at most.
pub const CDROM_LIMIT: usize = ahci::PORT_LIMIT;

/// The device number of the optical drives' controller.
const CDROM_DEVICE: u8 = 15;

/// Network cards of one machine at most.
pub const NETWORK_LIMIT: usize = 4;

/// The first network card's device number; the others follow.
const NETWORK_DEVICE: u8 = 11;

/// The graphics card's device number, after those of all disks there can be. Root ports begin at 16.
const DISPLAY_DEVICE: u8 = 10;

/// The tablet's device and function: it comes with the display.
const TABLET: (u8, u8) = (DISPLAY_DEVICE, 1);

impl Endpoints {
    /// The device numbers in use.
    pub(crate) fn devices(&self) -> Vec<u8> {
        let networks = (NETWORK_DEVICE..).take(self.networks.len());
        // The display itself has no pin; its tablet has.
        let display = self.display.as_ref().map(|_| DISPLAY_DEVICE);
        let cdrom = (!self.cdroms.is_empty()).then_some(CDROM_DEVICE);
        let rng = self.rng.then_some(RNG_DEVICE);
        rng.into_iter().chain(self.disk_devices()).chain(display).chain(networks).chain(cdrom).collect()
    }

    /// The device numbers of the disks, in order.
    fn disk_devices(&self) -> impl Iterator<Item = u8> {
        (RNG_DEVICE + 1..).take(self.disks.len())
    }

    /// What firmware tries to start from, the first one first, as Open Firmware writes device paths: disks, then discs, so
    /// that a system that was installed from a disc is started by the next start; what is on `assigned` USB controllers
    /// last. Discs stand before disks when they are to be first. So do network cards; else they stand nowhere. Among each
    /// kind, our own stand before assigned ones. OVMF forgets what begins at a PCI function and is not in this list.
    ///
    /// Virtio's disks are SCSI controllers by their PCI class. The names are those that SeaBIOS (src/boot.c) and OVMF
    /// (OvmfPkg/Library/QemuBootOrderLib) look for.
    pub(crate) fn boot_order(&self, assigned: Option<&Assigned>) -> Vec<String> {
        let disks = self.disk_devices().zip(&self.disks).map(|(device, disk)| match disk.shown {
            DiskKind::Virtio => format!("/pci@i0cf8/scsi@{device:x}/disk@0,0"),
            DiskKind::Nvme => format!("/pci@i0cf8/nvme@{device:x}"),
        });
        let drives = (0..self.cdroms.len())
            .map(|port| format!("/pci@i0cf8/pci8086,2922@{CDROM_DEVICE:x}/drive@{port}/disk@0"));
        let mut order = Vec::new();
        if self.boot == BootFirst::Network {
            let cards = (NETWORK_DEVICE..).take(self.networks.len());
            order.extend(cards.map(|device| format!("/pci@i0cf8/ethernet@{device:x}/ethernet-phy@0")));
            order.extend(assigned.into_iter().flat_map(Assigned::network_cards));
        }
        let disks = disks.chain(assigned.into_iter().flat_map(Assigned::storage));
        match self.boot {
            BootFirst::Cdrom => order.extend(drives.chain(disks)),
            BootFirst::Disks | BootFirst::Network => order.extend(disks.chain(drives)),
        }
        order.extend(assigned.into_iter().flat_map(Assigned::usb_controllers));
        order
    }

    /// Builds the endpoints and plugs them in.
    pub(crate) fn plug(&self, into: &Sockets<'_>) -> Result<Plugged, EndpointError> {
        let mut plugged = Plugged::default();
        let memory = Arc::new(into.ram.view().clone());
        if self.rng {
            let device = Box::new(Rng::new(linux::random::fill));
            let bell = Arc::clone(into.events.shared_fd());
            plugged.engines.push(into.plug(RNG_DEVICE, device, &memory, bell)?);
        }
        for (number, (disk, device)) in self.disks.iter().zip(RNG_DEVICE + 1..).enumerate() {
            let name = format!("disk{number}");
            let storage = Told::boxed(disk.storage.storage(), &disk.title, into.events);
            if disk.shown == DiskKind::Nvme {
                plugged._workers.push(into.plug_nvme(name, storage, disk.read_only, device, &memory)?);
                continue;
            }
            let block = Block::new(name.clone(), storage, disk.read_only);
            let bell = Arc::new(linux::event::new_event().map_err(EndpointError::Event)?);
            let engine = into.plug(device, Box::new(block), &memory, bell)?;
            plugged._workers.push(Worker::spawn(name, engine).map_err(EndpointError::Thread)?);
        }
        for (number, (network, device)) in self.networks.iter().zip(NETWORK_DEVICE..).enumerate() {
            plugged._workers.push(into.plug_network(number, network, device, &memory)?);
        }
        if !self.cdroms.is_empty() {
            plugged._workers.push(into.plug_cdroms(&self.cdroms, &memory)?);
        }
        if let Some(card) = &self.display {
            plugged.display = Some(into.plug_display(card)?);
        }
        if self.display.as_ref().is_some_and(Card::has_tablet) {
            let pointer = Pointer::default();
            let bell = Arc::clone(into.events.shared_fd());
            let tablet = Box::new(Tablet::new(pointer.clone()));
            let engine = into.plug_at(TABLET, tablet, &memory, bell)?;
            plugged.engines.push(Arc::clone(&engine));
            plugged.tablet = Some((pointer, engine));
        }
        Ok(plugged)
    }
}

impl Sockets<'_> {
    fn plug_network(
        &self,
        number: usize,
        network: &Network,
        device: u8,
        memory: &Arc<GuestMemory>,
    ) -> Result<Worker, EndpointError> {
        let name = format!("net{number}");
        let link = network.link().map_err(EndpointError::Network)?;
        let net = Net::new(name.clone(), network.mac, link).with_rom(network.rom.clone());
        let waits = net.waits();
        let readable = net.readable().map_err(EndpointError::Network)?;
        let bell = Arc::new(linux::event::new_event().map_err(EndpointError::Event)?);
        let engine = self.plug(device, Box::new(net), memory, bell)?;
        serve_network(name, engine, readable, waits).map_err(EndpointError::Thread)
    }

    fn plug_nvme(
        &self,
        name: String,
        storage: Box<dyn Storage>,
        read_only: bool,
        device: u8,
        memory: &Arc<GuestMemory>,
    ) -> Result<Worker, EndpointError> {
        let triggers = Triggers::default();
        let bell = Arc::new(linux::event::new_event().map_err(EndpointError::Event)?);
        let shown = NvmeDisk { name: name.clone(), number: device, storage, read_only };
        let controller = nvme::controller(shown, Arc::clone(memory), triggers.clone(), bell);
        let function = NvmeFunction::new(Arc::clone(&controller))?;
        let id = self.pci.add(Place::Root { device, function: 0 }, Arc::new(Mutex::new(function)))?;
        self.messages.plug(id, triggers);
        Worker::spawn(name, controller).map_err(EndpointError::Thread)
    }

    fn plug_cdroms(
        &self,
        discs: &[Arc<linux::disk::Disk>],
        memory: &Arc<GuestMemory>,
    ) -> Result<Worker, EndpointError> {
        let discs = discs.iter().map(|disc| Box::new(Arc::clone(disc)) as Box<dyn Storage>).collect();
        let line = Box::new(self.lines.end(intx_gsi(CDROM_DEVICE, Pin::A.index())));
        let bell = Arc::new(linux::event::new_event().map_err(EndpointError::Event)?);
        let controller = ahci::controller(discs, Arc::clone(memory), line, bell);
        let function = AhciFunction::new(Arc::clone(&controller))?;
        let place = Place::Root { device: CDROM_DEVICE, function: 0 };
        self.pci.add(place, Arc::new(Mutex::new(function)))?;
        Worker::spawn("cdrom".to_owned(), controller).map_err(EndpointError::Thread)
    }

    fn plug_display(&self, card: &Card) -> Result<Arc<Display>, EndpointError> {
        let display = Display::new(card);
        let function = DisplayFunction::new(Arc::clone(&display), card)?;
        let place = Place::Root { device: DISPLAY_DEVICE, function: 0 };
        let id = self.pci.add(place, Arc::new(Mutex::new(function)))?;
        self.pci.follow_bars(id, Box::new(MemoryPlace::new(self.vm, card)));
        let ports = DispiPorts(Arc::clone(&display));
        self.ports.insert(DISPI_PORTS, Arc::new(Mutex::new(ports)))?;
        Ok(display)
    }

    fn plug(
        &self,
        device: u8,
        virtio: Box<dyn VirtioDevice>,
        memory: &Arc<GuestMemory>,
        bell: Arc<linux::EventFd>,
    ) -> Result<Arc<Engine>, EndpointError> {
        self.plug_at((device, 0), virtio, memory, bell)
    }

    fn plug_at(
        &self,
        (device, function): (u8, u8),
        virtio: Box<dyn VirtioDevice>,
        memory: &Arc<GuestMemory>,
        bell: Arc<linux::EventFd>,
    ) -> Result<Arc<Engine>, EndpointError> {
        let triggers = Triggers::default();
        let line = Box::new(self.lines.end(intx_gsi(device, Pin::A.index())));
        let interrupt = Interrupt::new(triggers.clone(), line);
        let engine = Arc::new(Engine::new(virtio, Arc::clone(memory), interrupt, Arc::clone(&bell)));
        let shown = VirtioFunction::new(Arc::clone(&engine), triggers.clone())?;
        let doorbells = Doorbells::new(self.vm, bell, shown.doorbells());
        let id = self.pci.add(Place::Root { device, function }, Arc::new(Mutex::new(shown)))?;
        self.messages.plug(id, triggers);
        self.pci.follow_bars(id, Box::new(doorbells));
        Ok(engine)
    }
}

impl Plugged {
    /// The graphics card.
    pub(crate) fn display(&self) -> Option<&Arc<Display>> {
        self.display.as_ref()
    }

    /// Puts the tablet's pointer somewhere; false when no guest drives it.
    pub(crate) fn put_pointer(&self, motion: &Motion) -> bool {
        let Some((pointer, engine)) = self.tablet.as_ref().filter(|(_, engine)| engine.is_running()) else {
            return false;
        };
        let Motion { x, y, wheel, buttons, .. } = *motion;
        pointer.put(&Point { x, y, wheel, buttons });
        engine.ring_doorbell();
        true
    }

    /// Serves what the guest has asked of devices without a thread of their own; true when more is left.
    pub(crate) fn serve(&self) -> bool {
        // Every one of them, whatever those before it say.
        self.engines.iter().fold(false, |more, engine| engine.serve() | more)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use spec::seat_file::{BootFirst, DiskKind};

    use super::{Disk, Endpoints, Image, Network};

    #[test]
    fn what_is_asked_for_is_started_from_first_and_network_cards_only_when_asked_for() {
        let file = Arc::new(tempfile::tempfile().unwrap().into());
        let card = Network { file: Arc::clone(&file), is_tap: true, mac: [2; 6], rom: None };
        let disc = Arc::new(linux::disk::Disk::from_file(tempfile::tempfile().unwrap().into()).unwrap());
        let disk = Disk {
            title: String::new(),
            storage: Image::Raw(Arc::clone(&disc)),
            shown: DiskKind::Nvme,
            read_only: false,
        };
        let disc_path = "/pci@i0cf8/pci8086,2922@f/drive@0/disk@0";
        let disk_path = "/pci@i0cf8/nvme@2";
        let card_paths = ["/pci@i0cf8/ethernet@b/ethernet-phy@0", "/pci@i0cf8/ethernet@c/ethernet-phy@0"];
        for (boot, order) in [
            (BootFirst::Disks, &[disk_path, disc_path][..]),
            (BootFirst::Cdrom, &[disc_path, disk_path]),
            (BootFirst::Network, &[card_paths[0], card_paths[1], disk_path, disc_path]),
        ] {
            let endpoints = Endpoints {
                boot,
                networks: vec![card.clone(), card.clone()],
                disks: vec![disk.clone()],
                cdroms: vec![Arc::clone(&disc)],
                ..Endpoints::default()
            };
            assert_eq!(endpoints.boot_order(None), order);
        }
    }

    #[test]
    fn device_numbers_are_those_in_use() {
        for (rng, devices) in [(true, vec![1]), (false, vec![])] {
            assert_eq!(Endpoints { rng, ..Endpoints::default() }.devices(), devices);
        }
    }
}
