//! What the guest's firmware or kernel reads about the board.

pub mod acpi;
pub(crate) mod files;
pub mod smbios;
