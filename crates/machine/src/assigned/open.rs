//! Opening assigned functions while the machine does other things: each on a thread of its own, because the kernel resets
//! a function when it is opened and waits 100 ms for it.
//!
//! The IOMMU map of guest memory is made meanwhile: what takes longest decides when the machine starts.

use std::sync::Arc;
use std::thread::JoinHandle;

use linux::memory::RamBlock;
use linux::vfio::{Access, Device, Errno, KernelDevice, Operation};
use spec::PciAddress;

use super::attention::Attention;
use super::hardware::{Hardware, Terms};
use super::health::Health;
use super::{AssignError, Assigned, Function, FunctionPlace, Request, reach};
use crate::events::Events;
use crate::followers::{self, Dma, FollowError};

/// Functions that are being opened.
pub(crate) struct Opening {
    access: Arc<Access>,
    threads: Vec<(FunctionPlace, JoinHandle<Result<Opened, AssignError>>)>,
}

struct Opened {
    device: Arc<KernelDevice>,
    hardware: Arc<Hardware>,
}

/// An opening thread calls the kernel and walks a config space.
const STACK: usize = 256 << 10;

impl Opening {
    /// Begins to open what `request` names, for a machine that `firmware` starts or that starts a kernel at once.
    pub(crate) fn begin(request: Request, firmware: bool, events: &Arc<Events>) -> Result<Self, AssignError> {
        request.check()?;
        let mut roms = request.roms;
        let access = Arc::new(request.access);
        let mut threads = Vec::with_capacity(request.functions.len());
        for place in request.functions {
            let (address, access) = (place.address, Arc::clone(&access));
            let health = Health::new(address, Arc::clone(events));
            let rom = roms.remove(&address).unwrap_or_default();
            let terms = Terms { rom, legacy_vga: place.legacy_vga, firmware };
            let thread = std::thread::Builder::new()
                .name(format!("open {address}"))
                .stack_size(STACK)
                .spawn(move || open(&access, address, terms, health))
                .map_err(AssignError::Thread)?;
            threads.push((place, thread));
        }
        // On a host with one processor to spare they would begin when the mapping's turn is over, and all wait for them.
        std::thread::yield_now();
        Ok(Self { access, threads })
    }

    /// Lets the functions reach the guest's memory. It is pinned, and zeroed before, here.
    pub(crate) fn map(&self, blocks: &[RamBlock]) -> Result<(), AssignError> {
        let bytes = blocks.iter().map(|block| block.memory.len() as u64).sum();
        let space = self.access.space();
        // A kernel that does not tell is the judge when it maps.
        if let Ok(limits) = space.limits() {
            let range = |block: &RamBlock| block.guest..block.guest + block.memory.len() as u64;
            reach::check(blocks.iter().map(range), &limits)?;
        }
        followers::show_all(&Dma(space), blocks).map_err(|error| match error {
            FollowError::Iommu(ref cause) if cause.errno() != Some(Errno::NOMEM) => {
                AssignError::Map { bytes, error }
            }
            error => AssignError::Memory { bytes, error },
        })
    }

    /// Waits until all are open.
    pub(crate) fn finish(self) -> Result<Assigned, AssignError> {
        let mut assigned = Assigned {
            access: self.access,
            devices: Vec::new(),
            functions: Vec::new(),
            attention: Attention::default(),
        };
        for (place, thread) in self.threads {
            let opened = thread.join().map_err(|_| AssignError::Panicked { address: place.address })??;
            let watched = assigned.attention.watch(&opened.hardware);
            watched.map_err(|errno| AssignError::Watch { address: place.address, errno })?;
            assigned.devices.push(opened.device);
            assigned.functions.push(Function { place, hardware: opened.hardware });
        }
        assigned.functions.sort_by_key(|function| (function.place.slot, function.place.function));
        assigned.reset_left_over()?;
        Ok(assigned)
    }
}

fn open(access: &Access, address: PciAddress, terms: Terms, health: Health) -> Result<Opened, AssignError> {
    let device = access.open_device(address).map_err(|error| match error.operation {
        _ if error.errno() == Some(Errno::BUSY) => AssignError::Busy { address },
        // What is mapped already has to suit the function that comes.
        Operation::Attach { .. } => AssignError::Attach { address, error },
        _ => AssignError::Open { address, error },
    })?;
    let device = Arc::new(device);
    let shared: Arc<dyn Device> = Arc::clone(&device) as _;
    let hardware = Hardware::examine(address, shared, terms, health)
        .map_err(|error| AssignError::Examine { address, error })?;
    Ok(Opened { device, hardware: Arc::new(hardware) })
}
