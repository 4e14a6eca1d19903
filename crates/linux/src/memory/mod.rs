//! Memory of this process that guests and devices use: mappings, and guest RAM made of them.

mod mapping;
mod ram;

pub use mapping::{MapError, Mapping, MappingRange};
pub use ram::{AllocateRamError, GuestMemory, GuestRam, PageKind, RamBlock, RamSpec};
pub use vm_memory::{
    Address, Bytes as GuestBytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion,
    ReadVolatile, VolatileMemoryError, VolatileSlice, bitmap::BitmapSlice,
};
