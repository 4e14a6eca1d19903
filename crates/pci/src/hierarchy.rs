//! Bus 0 with its functions, root ports, and one secondary bus below each: who answers a guest address, and where
//! every BAR is mapped now.
//!
//! It decides and calls functions; what a mapping means (a KVM slot, a trap) is for `machine`, which owns one
//! hierarchy behind a lock and carries the effects out in order.

use std::fmt;
use std::sync::Arc;

use crate::function::lock;
use crate::mapping::settle;
use crate::piece::pieces;
use crate::register::{self, header_type};
use crate::{Apertures, BarRange, Bdf, Change, DEVICES, FUNCTIONS, Forwarding, Mapping, Pin, SharedFunction};

/// A function's identity for as long as it is in the hierarchy, whatever bus numbers the guest programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionId(u32);

impl fmt::Display for FunctionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "function {}", self.0)
    }
}

/// Where a function is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// On bus 0.
    Root {
        /// Device number, below 32.
        device: u8,
        /// Function number, below 8.
        function: u8,
    },
    /// In the slot of a root port, as device 0: an express link has no other.
    Slot {
        /// The port.
        port: FunctionId,
        /// Function number, below 8.
        function: u8,
    },
}

/// What the hierarchy asks of the machine, in the order in which to do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A BAR answers there from now on.
    Map(Mapping),
    /// A BAR does not answer there any more. Comes before the maps of the same access.
    Unmap(Mapping),
    /// A function changed something besides its BARs.
    Changed(FunctionId, Change),
}

/// A function cannot be plugged in there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Occupied {
    /// Another function is there.
    #[error("{0:?} has a function already")]
    Taken(Place),
    /// There is no such place: a number is too high, or the port is no bridge on bus 0.
    #[error("{0:?} does not exist")]
    Missing(Place),
}

struct Entry {
    id: FunctionId,
    place: Place,
    function: SharedFunction,
    // What the function last said. Only a config write, a reset and a refresh can change it, and each asks again, so
    // other functions need not be locked to settle who is mapped.
    bars: Vec<BarRange>,
    forwarding: Option<Forwarding>,
}

/// All functions of a machine.
///
/// The effects of one call are to be carried out before the next call, or a range may seem taken: keep the lock that
/// guards the hierarchy until they are.
pub struct Hierarchy {
    apertures: Apertures,
    entries: Vec<Entry>,
    mapped: Vec<Mapping>,
    next: u32,
}

impl Hierarchy {
    /// An empty bus 0 whose BARs may lie in `apertures`.
    pub fn new(apertures: Apertures) -> Self {
        Self { apertures, entries: Vec::new(), mapped: Vec::new(), next: 0 }
    }

    /// Plugs a function in. Function 0 of a device must be there for a guest to look for the others.
    ///
    /// # Errors
    /// When the place is taken or does not exist.
    pub fn add(
        &mut self,
        place: Place,
        function: SharedFunction,
    ) -> Result<(FunctionId, Vec<Effect>), Occupied> {
        if !self.exists(place) {
            return Err(Occupied::Missing(place));
        }
        if self.entries.iter().any(|entry| entry.place == place) {
            return Err(Occupied::Taken(place));
        }
        let id = FunctionId(self.next);
        self.next += 1;
        let (bars, forwarding) = ask(&function);
        self.entries.push(Entry { id, place, function, bars, forwarding });
        Ok((id, self.settle()))
    }

    /// Takes a function out, and with a port all that is below it.
    pub fn remove(&mut self, id: FunctionId) -> Vec<Effect> {
        self.entries.retain(|entry| entry.id != id && entry.port() != Some(id));
        self.settle()
    }

    /// The function behind an identity.
    pub fn function(&self, id: FunctionId) -> Option<SharedFunction> {
        self.entry(id).map(|entry| Arc::clone(&entry.function))
    }

    /// All functions, in the order in which they came.
    pub fn functions(&self) -> impl Iterator<Item = (FunctionId, Place)> + '_ {
        self.entries.iter().map(|entry| (entry.id, entry.place))
    }

    /// The address at which the guest now reaches a function; `None` while no bus number leads there.
    pub fn bdf(&self, id: FunctionId) -> Option<Bdf> {
        match self.entry(id)?.place {
            Place::Root { device, function } => Bdf::new(0, device, function),
            Place::Slot { port, function } => {
                let bus = self.entry(port)?.forwarding.as_ref()?.secondary;
                let bdf = Bdf::new(bus, 0, function)?;
                (self.find(bdf)?.id == id).then_some(bdf)
            }
        }
    }

    /// The device on bus 0 and its pin by which a function's interrupt leaves the hierarchy.
    pub fn root_pin(&self, id: FunctionId, pin: Pin) -> Option<(u8, Pin)> {
        match self.entry(id)?.place {
            Place::Root { device, .. } => Some((device, pin)),
            // The slot's device number is 0, so the port sees the pin it is.
            Place::Slot { port, .. } => self.root_pin(port, pin.swizzle(0)),
        }
    }

    /// What is mapped now.
    pub fn mapped(&self) -> &[Mapping] {
        &self.mapped
    }

    /// Reads config space; where nobody answers, ones.
    pub fn read_config(&self, bdf: Bdf, offset: u16, data: &mut [u8]) {
        data.fill(0xff);
        let Some(entry) = self.find(bdf) else { return };
        let multifunction = self.is_multifunction(entry.place);
        let mut function = lock(&entry.function);
        for piece in pieces(offset, data.len()) {
            let Some(data) = data.get_mut(piece.from..piece.from + piece.len) else { return };
            function.read_config(piece.offset, data);
            let header = register::HEADER_TYPE.checked_sub(piece.offset).map(usize::from);
            if let Some(byte) = header.and_then(|index| data.get_mut(index)) {
                // Whether the slot has more functions is a fact of the slot, not of what is plugged into it.
                *byte =
                    *byte & header_type::LAYOUT | if multifunction { header_type::MULTIFUNCTION } else { 0 };
            }
        }
    }

    /// Writes config space, and says what that changed; where nobody answers, nothing.
    pub fn write_config(&mut self, bdf: Bdf, offset: u16, data: &[u8]) -> Vec<Effect> {
        let Some(entry) = self.find(bdf) else { return Vec::new() };
        let id = entry.id;
        let mut changes = Vec::new();
        {
            let mut function = lock(&entry.function);
            for piece in pieces(offset, data.len()) {
                if let Some(data) = data.get(piece.from..piece.from + piece.len) {
                    changes.append(&mut function.write_config(piece.offset, data));
                }
            }
        }
        let mut effects = Vec::new();
        if changes.contains(&Change::SecondaryBusReset) {
            self.reset_where(|entry| entry.port() == Some(id), &mut effects);
        }
        effects.extend(changes.into_iter().map(|change| Effect::Changed(id, change)));
        effects.append(&mut self.refresh(id));
        effects
    }

    /// Follows a function that moved its BARs outside of a config access.
    pub fn refresh(&mut self, id: FunctionId) -> Vec<Effect> {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) else { return Vec::new() };
        let now = ask(&entry.function);
        if now.0 == entry.bars && now.1 == entry.forwarding {
            return Vec::new();
        }
        (entry.bars, entry.forwarding) = now;
        self.settle()
    }

    /// Resets every function to power-on, as a machine reset does.
    pub fn reset(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.reset_where(|_| true, &mut effects);
        effects
    }

    fn reset_where(&mut self, which: impl Fn(&Entry) -> bool, effects: &mut Vec<Effect>) {
        for entry in self.entries.iter_mut().filter(|entry| which(entry)) {
            let changes = lock(&entry.function).reset();
            effects.extend(changes.into_iter().map(|change| Effect::Changed(entry.id, change)));
            (entry.bars, entry.forwarding) = ask(&entry.function);
        }
        effects.append(&mut self.settle());
    }

    fn settle(&mut self) -> Vec<Effect> {
        let wanted: Vec<_> = self.entries.iter().flat_map(|entry| self.wishes(entry)).collect();
        let (left, came) = settle(&mut self.mapped, &wanted);
        left.into_iter().map(Effect::Unmap).chain(came.into_iter().map(Effect::Map)).collect()
    }

    /// The ranges of a function that every bridge above and the board let through.
    fn wishes(&self, entry: &Entry) -> Vec<Mapping> {
        let port = entry.port().map(|port| self.entry(port).and_then(|port| port.forwarding.as_ref()));
        let admitted = |bar: &BarRange| {
            let range = bar.placed()?;
            let passes = port.is_none_or(|port| port.is_some_and(|port| port.passes(bar, &range)));
            (passes && self.apertures.admit(bar, &range)).then(|| Mapping {
                function: entry.id,
                bar: bar.index,
                space: bar.kind.space(),
                range,
            })
        };
        entry.bars.iter().filter_map(admitted).collect()
    }

    fn find(&self, bdf: Bdf) -> Option<&Entry> {
        let (device, function) = (bdf.device(), bdf.function());
        let place = if bdf.bus() == 0 {
            Place::Root { device, function }
        } else {
            let holds = |entry: &&Entry| {
                entry.port().is_none()
                    && entry.forwarding.as_ref().is_some_and(|bridge| bridge.holds_bus(bdf.bus()))
            };
            // Two ports that claim one bus are a guest's error; the lower device answers.
            let port = self.entries.iter().filter(holds).min_by_key(|entry| entry.place)?;
            let right_below = port.forwarding.as_ref().is_some_and(|bridge| bridge.secondary == bdf.bus());
            if !right_below || device != 0 {
                return None;
            }
            Place::Slot { port: port.id, function }
        };
        self.entries.iter().find(|entry| entry.place == place)
    }

    fn is_multifunction(&self, place: Place) -> bool {
        self.entries.iter().any(|entry| match (entry.place, place) {
            (Place::Root { device, function }, Place::Root { device: same, .. }) => {
                device == same && function != 0
            }
            (Place::Slot { port, function }, Place::Slot { port: same, .. }) => port == same && function != 0,
            _ => false,
        })
    }

    fn exists(&self, place: Place) -> bool {
        match place {
            Place::Root { device, function } => device < DEVICES && function < FUNCTIONS,
            Place::Slot { port, function } => {
                function < FUNCTIONS
                    && self
                        .entry(port)
                        .is_some_and(|entry| entry.port().is_none() && entry.forwarding.is_some())
            }
        }
    }

    fn entry(&self, id: FunctionId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == id)
    }
}

impl Entry {
    fn port(&self) -> Option<FunctionId> {
        match self.place {
            Place::Root { .. } => None,
            Place::Slot { port, .. } => Some(port),
        }
    }
}

fn ask(function: &SharedFunction) -> (Vec<BarRange>, Option<Forwarding>) {
    let function = lock(function);
    (function.bars(), function.forwarding())
}

#[cfg(test)]
mod tests;
