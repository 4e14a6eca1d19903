//! The devices soldered to the board, each a [`crate::bus::Device`].
//!
//! A device here is pure: it makes no kernel call and knows no time but its [`clock::Clock`]; what it needs of
//! the outside (an interrupt line, a wake-up of the event thread) it was given when it was made. Every one of
//! them takes any access of any width at any offset. The machine places them on its buses and owns their ports.

mod calendar;
pub mod clock;
pub mod debug_port;
pub mod i8042;
pub mod output;
pub mod port92;
pub mod power;
pub mod reset_control;
pub mod reset_pulse;
pub mod rtc;
pub mod serial;

#[cfg(test)]
mod storm;
#[cfg(test)]
mod testing;

/// Answers a read of a device whose registers are bytes: the ISA bus splits a wider access into byte cycles.
fn read_bytes(offset: u64, data: &mut [u8], mut register: impl FnMut(u64) -> u8) {
    for (index, byte) in (0..).zip(data) {
        *byte = register(offset.wrapping_add(index));
    }
}

/// Hands a write to a device whose registers are bytes, lowest port first, as the ISA bus does.
fn write_bytes(offset: u64, data: &[u8], mut register: impl FnMut(u64, u8)) {
    for (index, byte) in (0..).zip(data) {
        register(offset.wrapping_add(index), *byte);
    }
}
