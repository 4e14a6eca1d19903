//! The devices soldered to the board, each a [`crate::bus::Device`].
