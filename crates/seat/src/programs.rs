//! Programs of other packages that machines need beside them: whether they are there, before anything is taken for a seat.
//!
//! Not here: starting them (`tpm`, `network`).

use std::path::Path;

use rustix::fs::Access;

/// Whether a program would be found by its name, as a start of it looks.
pub(crate) fn is_there(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| is_program(&folder.join(name)))
}

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{is_program, is_there};

    #[test]
    fn a_program_is_a_file_that_can_be_run() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(is_there("sh") && !is_there("no-such-program"));
        assert!(!is_program(file.path()) && !is_program("/bin".as_ref()));
    }
}
