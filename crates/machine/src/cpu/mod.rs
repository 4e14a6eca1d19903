//! What a virtual CPU shows of itself.

pub mod cpuid;
pub mod hyperv;
pub mod msrs;
