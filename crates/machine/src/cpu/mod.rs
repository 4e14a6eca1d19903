//! What a virtual CPU shows of itself.

pub mod cpuid;
