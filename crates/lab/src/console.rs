//! The kernel's console as a file: its tail for messages, and the signs of a dead or stuck kernel in it.

use std::fs;
use std::path::Path;

/// Lines shown of a console's end.
const TAIL_LINES: usize = 40;
/// Lines shown from before the first sign of trouble.
const LINES_BEFORE: usize = 5;
/// Printed once by a kernel that gives up.
const PANIC: &str = "Kernel panic - not syncing";
/// Printed by a kernel whose processors or timers stand still; under emulation the sign of a lost interrupt.
const STALLS: [&str; 3] = ["detected stalls on CPUs", "self-detected stall on CPU", "soft lockup - CPU"];

/// What a kernel says of itself that has found a fault of its own, or of a program that met one, and goes on.
pub const COMPLAINTS: [&str; 6] =
    ["Oops", "BUG:", "WARNING: CPU", "Call Trace", "general protection", "KASAN"];

/// What a console log says about the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing bad.
    Sound,
    /// It gave up.
    Panicked,
    /// It found itself standing still.
    Stalled,
}

/// Returns the whole log, readable: no terminal control sequences.
pub fn text(log: &Path) -> String {
    plain(&String::from_utf8_lossy(&fs::read(log).unwrap_or_default()))
}

/// Returns the lines of a log that tell most: from shortly before the first sign of trouble, else the last ones.
pub fn tail(log: &Path) -> String {
    telling_lines(&text(log))
}

fn telling_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.len().saturating_sub(TAIL_LINES);
    // What follows a panic is a long trace; how it came to it stands before.
    let sign = lines.iter().position(|line| judge(line) != Verdict::Sound);
    let start = sign.map_or(last, |sign| last.min(sign.saturating_sub(LINES_BEFORE)));
    lines[start..].iter().take(TAIL_LINES).copied().collect::<Vec<_>>().join("\n")
}

/// Judges a log.
pub fn judge(text: &str) -> Verdict {
    if text.contains(PANIC) {
        Verdict::Panicked
    } else if STALLS.iter().any(|sign| text.contains(sign)) {
        Verdict::Stalled
    } else {
        Verdict::Sound
    }
}

/// Returns the lines of a kernel's messages from its first complaint on.
pub fn complaint(messages: &str) -> Option<String> {
    let complains = |line: &&str| COMPLAINTS.iter().any(|sign| line.contains(sign));
    let lines: Vec<&str> = messages.lines().skip_while(|line| !complains(line)).take(TAIL_LINES).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Removes escape sequences and carriage returns.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\r' => {}
            '\x1b' => {
                // CSI sequences end with a letter or tilde, the others are one character long.
                if characters.next() == Some('[') {
                    characters.by_ref().find(|last| last.is_ascii_alphabetic() || *last == '~');
                }
            }
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{TAIL_LINES, Verdict, complaint, judge, plain, telling_lines};

    #[test]
    fn a_kernel_that_goes_on_is_heard_complaining() {
        for sign in [
            "[ 9.1] Oops: 0002 [#1] PREEMPT SMP",
            "[ 9.1] BUG: kernel NULL pointer dereference, address: 0000000000000008",
            "[ 9.1] WARNING: CPU: 0 PID: 77 at drivers/iommu/iommu.c:2451 __iommu_map+0x1d0/0x200",
            "[ 9.1] Oops: general protection fault, probably for non-canonical address 0xdead000000000108",
            "[ 9.1] traps: allod-vmm[77] general protection fault ip:5581 sp:7ffd error:0",
            "[ 9.1] Call Trace:",
            "[ 9.1] BUG: KASAN: slab-use-after-free in vfio_pci_core_close_device",
        ] {
            let log = format!("[ 0.1] quiet\n{sign}\n[ 9.2] what it met\n");
            assert_eq!(complaint(&log), Some(format!("{sign}\n[ 9.2] what it met")));
        }
        for sound in [
            "",
            "[ 0.1] AMD-Vi: [Firmware Bug]: : IOAPIC[0] not in IVRS table",
            "[ 3.0] DMAR: [DMA Write NO_PASID] Request device [00:02.0] fault addr 0xf000000",
            "[ 5.2] warning: `capsh' uses 32-bit capabilities",
        ] {
            assert_eq!(complaint(sound), None);
        }
    }

    #[test]
    fn the_cause_is_shown_however_long_the_trace_behind_it() {
        let log = |before: usize, sign: &str, after: usize| {
            format!("{}{sign}\n{}", "early\n".repeat(before), "trace\n".repeat(after))
        };
        let rows = [
            (log(100, "Kernel panic - not syncing: x", 100), 5, TAIL_LINES - 6),
            (log(2, "Kernel panic - not syncing: x", 3), 2, 3),
            (log(100, "all is well", 10), TAIL_LINES - 11, 10),
        ];
        for (text, early, trace) in rows {
            let shown = telling_lines(&text);
            assert_eq!(
                (shown.matches("early").count(), shown.matches("trace").count()),
                (early, trace),
                "{shown}"
            );
        }
    }

    #[test]
    fn a_dead_and_a_stuck_kernel_are_told_from_a_sound_one() {
        let rows = [
            ("[ 3.1] Kernel panic - not syncing: sysrq triggered crash", Verdict::Panicked),
            ("rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", Verdict::Stalled),
            ("watchdog: BUG: soft lockup - CPU#0 stuck for 26s!", Verdict::Stalled),
            ("[ 1.0] panic=-1 on the command line", Verdict::Sound),
            ("", Verdict::Sound),
        ];
        for (text, expected) in rows {
            assert_eq!(judge(text), expected, "{text}");
        }
    }

    #[test]
    fn terminal_control_does_not_reach_the_reader() {
        assert_eq!(plain("\x1bc\x1b[?7l\x1b[2J[ 0.0] hello\r\n"), "[ 0.0] hello\n");
    }
}
