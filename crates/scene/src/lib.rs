//! What a seat of the demo shows: a band with its name, a disc on its way, the keys that were typed.
//!
//! The program `allod-scene` draws it on real cards; whoever took a picture of a monitor asks [`judge`] whether that
//! seat's scene is on it. Both sides share [`layout`] and [`canvas`], so that a picture is compared with what had to
//! be drawn. Not here: cards and keyboards (the program's own files).
#![forbid(unsafe_code)]

pub mod canvas;
pub mod judge;
pub mod layout;

pub use canvas::{Canvas, Color};
pub use layout::Layout;
