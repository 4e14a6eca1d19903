//! The host's random numbers.
//!
//! For a guest's entropy device. Not here: how much a guest gets of them.

/// Fills `buffer` with random bytes of the kernel's generator (getrandom(2)).
///
/// # Errors
/// When the kernel has no such call; it waits only while the host has not yet gathered entropy after its start.
pub fn fill(buffer: &mut [u8]) -> std::io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
            // More than 256 bytes may come in parts when a signal arrives.
            Ok(got) => filled += got,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn two_fills_differ_and_an_empty_one_ends() {
        let (mut first, mut second) = ([0; 4096], [0; 4096]);
        fill(&mut first).unwrap();
        fill(&mut second).unwrap();
        assert_ne!(first, second);
        fill(&mut []).unwrap();
    }
}
