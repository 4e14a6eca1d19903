//! Handing the picture of the emulated graphics card to whoever asked: into a memory file that came with the request.
//!
//! A memory file (memfd) and no other: a write into it never waits for anybody.

use std::os::fd::OwnedFd;

use machine::{Machine, Picture};
use spec::ControlAnswer;

/// Draws the picture into `file`.
pub(crate) fn hand_over(machine: &Machine, file: Option<OwnedFd>) -> ControlAnswer {
    let refuse = |message: &str| ControlAnswer::Error { message: message.to_owned() };
    let Some(file) = file.filter(is_memory) else {
        return refuse("a request for the picture comes with a memory file (memfd) to draw into");
    };
    let Some(picture) = machine.picture() else {
        return refuse("the machine has no emulated display; start it with --display");
    };
    match write(&file, &picture) {
        Ok(()) => ControlAnswer::Picture { width: picture.width, height: picture.height },
        Err(errno) => refuse(&format!("write the picture: {errno}")),
    }
}

/// Only memory files have seals.
fn is_memory(file: &OwnedFd) -> bool {
    rustix::fs::fcntl_get_seals(file).is_ok()
}

fn write(file: &OwnedFd, picture: &Picture) -> rustix::io::Result<()> {
    let mut rest = picture.pixels.as_slice();
    let mut at = 0;
    while !rest.is_empty() {
        let written = rustix::io::pwrite(file, rest, at)?;
        if written == 0 {
            return Err(rustix::io::Errno::NOSPC);
        }
        rest = rest.get(written..).unwrap_or_default();
        at += written as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use machine::Picture;
    use rustix::fs::MemfdFlags;

    use super::{is_memory, write};

    #[test]
    fn only_memory_files_are_drawn_into() {
        let file = rustix::fs::memfd_create("picture", MemfdFlags::CLOEXEC).unwrap();
        assert!(is_memory(&file));
        let picture = Picture { width: 1, height: 2, pixels: vec![1, 2, 3, 0, 4, 5, 6, 0] };
        write(&file, &picture).unwrap();
        let mut bytes = [0; 9];
        assert_eq!(rustix::io::pread(&file, &mut bytes, 0).unwrap(), 8);
        assert_eq!(bytes[..8], picture.pixels);
        let (_reading, writing) = rustix::pipe::pipe().unwrap();
        assert!(!is_memory(&writing));
    }
}
