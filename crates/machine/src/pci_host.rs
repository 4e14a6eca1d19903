//! The PCI host of the board: config accesses into the hierarchy, and BARs onto the buses where the guest puts them.
//!
//! One lock for all of config space, as one config cycle at a time on a real bus; BAR accesses take the function's
//! lock only. Not here: what a function answers (`pci` and the devices).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pci::{
    Apertures, BarIndex, Bdf, Change, ConfigAddress, Ecam, FunctionId, Hierarchy, Mapping, Occupied, Pin,
    Place, SharedFunction, Space,
};

use crate::bus::{Bus, Device, Effect};
use crate::firmware::acpi::board::intx_gsi;
use crate::firmware::files::SetUp;
use crate::layout;

/// Something besides the trap that must be where a BAR is: doorbells, memory slots. Called in the order of the moves.
pub(crate) trait BarFollower: Send {
    /// The BAR answers there from now on.
    fn map(&mut self, mapping: &Mapping);

    /// The BAR does not answer there any more.
    fn unmap(&mut self, mapping: &Mapping);

    /// Another BAR lies in the page of this one, which is smaller than a page, or none does. Told after each move there.
    fn share_page(&mut self, mapping: &Mapping, shares: bool) {
        let _ = (mapping, shares);
    }
}

/// The page in which memory is shown to the guest, in bytes.
const PAGE: u64 = 4096;

/// The PCI host. Devices of the buses refer back to it weakly: the board alone owns it.
pub(crate) struct PciHost {
    me: Weak<PciHost>,
    inner: Mutex<Inner>,
}

struct Inner {
    hierarchy: Hierarchy,
    ports: Weak<Bus>,
    memory: Weak<Bus>,
    // What really lies on a bus. A BAR over a board device or over RAM's neighbours is nobody's: not placed.
    placed: Vec<Mapping>,
    followers: Vec<(FunctionId, Box<dyn BarFollower>)>,
    ecam: Option<Ecam>,
}

impl PciHost {
    /// An empty root bus whose functions' BARs come to lie on `ports` and `memory`.
    pub(crate) fn new(apertures: Apertures, ports: &Arc<Bus>, memory: &Arc<Bus>) -> Arc<Self> {
        let inner = Inner {
            hierarchy: Hierarchy::new(apertures),
            ports: Arc::downgrade(ports),
            memory: Arc::downgrade(memory),
            placed: Vec::new(),
            followers: Vec::new(),
            ecam: None,
        };
        Arc::new_cyclic(|me| Self { me: Weak::clone(me), inner: Mutex::new(inner) })
    }

    /// Plugs `function` in.
    pub(crate) fn add(&self, place: Place, function: SharedFunction) -> Result<FunctionId, Occupied> {
        let mut inner = self.lock();
        let (id, effects) = inner.hierarchy.add(place, function)?;
        inner.apply(&self.me, effects);
        Ok(id)
    }

    /// Lets `follower` know where the function's BARs are, from now on.
    pub(crate) fn follow_bars(&self, id: FunctionId, mut follower: Box<dyn BarFollower>) {
        let mut inner = self.lock();
        for mapping in inner.placed.iter().filter(|mapping| mapping.function == id) {
            follower.map(mapping);
        }
        inner.followers.push((id, follower));
    }

    /// The address at which the guest now reaches a function.
    pub(crate) fn bdf(&self, id: FunctionId) -> Option<Bdf> {
        self.lock().hierarchy.bdf(id)
    }

    /// The GSI at which a function's interrupt pin arrives; `None` for a function without a pin.
    pub(crate) fn intx_gsi(&self, id: FunctionId) -> Option<u32> {
        let inner = self.lock();
        let function = inner.hierarchy.function(id)?;
        let mut register = [0];
        lock(&function).read_config(pci::register::INTERRUPT_PIN, &mut register);
        let [register] = register;
        let (device, pin) = inner.hierarchy.root_pin(id, Pin::from_register(register)?)?;
        Some(intx_gsi(device, pin.index()))
    }

    /// Shows config space in memory at `ecam`, or no longer.
    pub(crate) fn place_ecam(&self, ecam: Option<Ecam>) {
        self.lock().place_ecam(&self.me, ecam);
    }

    /// What the guest has set up so far.
    pub(crate) fn set_up(&self) -> SetUp {
        let inner = self.lock();
        let memory = inner.placed.iter().filter(|mapping| mapping.space == Space::Memory);
        let high = memory.map(|mapping| &mapping.range).filter(|range| range.start >= layout::ABOVE_4G);
        let high = high.cloned().reduce(|all, one| all.start.min(one.start)..all.end.max(one.end));
        SetUp { ecam: inner.ecam, high }
    }

    /// Reads config space; bytes past the register's end read as ones.
    pub(crate) fn read_config(&self, address: ConfigAddress, data: &mut [u8]) {
        data.fill(0xff);
        if let Some(reached) = data.get_mut(..address.len) {
            self.lock().hierarchy.read_config(address.bdf, address.offset, reached);
        }
    }

    /// Writes config space; when it returns, BARs lie where the guest has put them. What else it changed comes back.
    pub(crate) fn write_config(&self, address: ConfigAddress, data: &[u8]) -> Vec<Effect> {
        let Some(reached) = data.get(..address.len) else { return Vec::new() };
        let mut inner = self.lock();
        let effects = inner.hierarchy.write_config(address.bdf, address.offset, reached);
        inner.apply(&self.me, effects)
    }

    /// Follows a function that moved its BARs outside of a config access.
    pub(crate) fn refresh(&self, id: FunctionId) {
        let mut inner = self.lock();
        let effects = inner.hierarchy.refresh(id);
        inner.apply(&self.me, effects);
    }

    /// A panic elsewhere cannot leave the hierarchy half-changed.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Carries out what concerns the buses, in order, and gives the rest back.
    fn apply(&mut self, host: &Weak<PciHost>, effects: Vec<pci::Effect>) -> Vec<Effect> {
        let mut rest = Vec::new();
        for effect in effects {
            match effect {
                pci::Effect::Map(mapping) => self.place(mapping),
                pci::Effect::Unmap(mapping) => self.displace(&mapping),
                pci::Effect::Changed(_, Change::EcamMoved(ecam)) => self.place_ecam(host, ecam),
                pci::Effect::Changed(id, change) => rest.push(Effect::Pci(id, change)),
            }
        }
        rest
    }

    fn place(&mut self, mapping: Mapping) {
        let Some(function) = self.hierarchy.function(mapping.function) else { return };
        let device = BarDevice { function, id: mapping.function, bar: mapping.bar };
        let Some(bus) = self.bus(mapping.space) else { return };
        if bus.insert(mapping.range.clone(), Arc::new(Mutex::new(device))).is_ok() {
            self.followers(mapping.function).for_each(|follower| follower.map(&mapping));
            self.placed.push(mapping.clone());
            self.tell_page(&mapping);
        }
    }

    fn displace(&mut self, mapping: &Mapping) {
        let Some(index) = self.placed.iter().position(|placed| placed == mapping) else { return };
        self.placed.swap_remove(index);
        self.followers(mapping.function).for_each(|follower| follower.unmap(mapping));
        if let Some(bus) = self.bus(mapping.space) {
            bus.remove(mapping.range.start);
        }
        self.tell_page(mapping);
    }

    /// Tells the BARs below a page that lie where `mapping` does whether they are alone there. Larger ones begin a page
    /// and end one.
    fn tell_page(&mut self, mapping: &Mapping) {
        let is_small = |of: &Mapping| of.space == Space::Memory && of.range.end - of.range.start < PAGE;
        let page = |of: &Mapping| of.range.start / PAGE;
        if !is_small(mapping) {
            return;
        }
        let there = self.placed.iter().filter(|placed| is_small(placed) && page(placed) == page(mapping));
        let there: Vec<_> = there.cloned().collect();
        for small in &there {
            self.followers(small.function).for_each(|follower| follower.share_page(small, there.len() > 1));
        }
    }

    fn followers(&mut self, id: FunctionId) -> impl Iterator<Item = &mut Box<dyn BarFollower>> {
        self.followers.iter_mut().filter(move |(of, _)| *of == id).map(|(_, follower)| follower)
    }

    fn place_ecam(&mut self, host: &Weak<PciHost>, ecam: Option<Ecam>) {
        let Some(memory) = self.memory.upgrade() else { return };
        if let Some(old) = self.ecam.take() {
            memory.remove(old.range().start);
        }
        let Some(ecam) = ecam else { return };
        let device = EcamDevice { host: Weak::clone(host), ecam };
        if memory.insert(ecam.range(), Arc::new(Mutex::new(device))).is_ok() {
            self.ecam = Some(ecam);
        }
    }

    fn bus(&self, space: Space) -> Option<Arc<Bus>> {
        match space {
            Space::Memory => self.memory.upgrade(),
            Space::Io => self.ports.upgrade(),
        }
    }
}

/// A trapped BAR on a bus.
struct BarDevice {
    function: SharedFunction,
    id: FunctionId,
    bar: BarIndex,
}

impl BarDevice {
    fn effects(&self, changes: Vec<Change>) -> Vec<Effect> {
        changes.into_iter().map(|change| Effect::Pci(self.id, change)).collect()
    }
}

impl Device for BarDevice {
    fn name(&self) -> &str {
        "PCI BAR"
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) -> Vec<Effect> {
        let changes = lock(&self.function).read_bar(self.bar, offset, data);
        self.effects(changes)
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Vec<Effect> {
        let changes = lock(&self.function).write_bar(self.bar, offset, data);
        self.effects(changes)
    }
}

/// The memory-mapped config window on the memory bus.
struct EcamDevice {
    host: Weak<PciHost>,
    ecam: Ecam,
}

impl Device for EcamDevice {
    fn name(&self) -> &str {
        "PCI config window"
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) -> Vec<Effect> {
        data.fill(0xff);
        if let (Some(address), Some(host)) = (self.ecam.decode(offset, data.len()), self.host.upgrade()) {
            host.read_config(address, data);
        }
        Vec::new()
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Vec<Effect> {
        match (self.ecam.decode(offset, data.len()), self.host.upgrade()) {
            (Some(address), Some(host)) => host.write_config(address, data),
            _ => Vec::new(),
        }
    }
}

fn lock<'a>(function: &'a Mutex<dyn pci::Function + 'static>) -> MutexGuard<'a, dyn pci::Function + 'static> {
    function.lock().unwrap_or_else(PoisonError::into_inner)
}
