//! What `/proc/PID/stat` says of a process (proc_pid_stat(5)).

use std::fs;

/// Fields counted from behind the program's name: number in the manual page less 3.
pub(crate) const STATE: usize = 0;
pub(crate) const USER_TIME: usize = 11;
pub(crate) const SYSTEM_TIME: usize = 12;
pub(crate) const START_TIME: usize = 19;

/// Returns the fields behind the program's name; none if there is no such process.
pub(crate) fn stat(pid: u32) -> Option<Vec<String>> {
    fields(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Returns when a process started, in clock ticks since this machine's boot; none for a dead one nobody collected.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let fields = stat(pid)?;
    if fields.get(STATE)? == "Z" {
        return None;
    }
    fields.get(START_TIME)?.parse().ok()
}

fn fields(text: &str) -> Option<Vec<String>> {
    // The name, in parentheses, may hold anything, parentheses and spaces too.
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::{STATE, USER_TIME, fields};

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let found = fields("7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 55 66 0").unwrap();
        assert_eq!((&*found[STATE], &*found[USER_TIME]), ("S", "55"));
    }
}
