//! Why a seat ended: from what its process left and what was asked of it. Pure.

use spec::plan::SeatPlan;
use spec::{ExitCause, ExitReport, SeatEnding};

use crate::launch::LaunchError;

/// The signal of a system call that is forbidden (`SIGSYS`, signal(7) on x86).
const FORBIDDEN_CALL: i32 = 31;

/// The ending, and the machine's own report if there is one. `asked` is what had been done to end it.
pub(super) fn ending(
    outcome: Result<ExitReport, LaunchError>,
    asked: Option<SeatEnding>,
    memory_kills: u64,
    seat: &SeatPlan,
) -> (SeatEnding, Option<ExitReport>) {
    match outcome {
        Ok(report) => {
            let ending = match &report.exit {
                ExitCause::PowerOff => SeatEnding::PoweredOff,
                ExitCause::Fault { message } => SeatEnding::Fault { message: message.clone() },
                ExitCause::Reset { path } => {
                    SeatEnding::Fault { message: format!("the machine ended at a reset ({path})") }
                }
                ExitCause::Quit => asked.unwrap_or(SeatEnding::Killed),
            };
            (ending, Some(report))
        }
        Err(LaunchError::NoReport { how, signal }) => {
            (asked.unwrap_or_else(|| died(&how, signal, memory_kills, seat)), None)
        }
        Err(error) => (SeatEnding::Died { signal: None, message: error.to_string() }, None),
    }
}

fn died(how: &str, signal: Option<i32>, memory_kills: u64, seat: &SeatPlan) -> SeatEnding {
    let message = match signal {
        Some(FORBIDDEN_CALL) => {
            "the machine's process made a system call that its sandbox forbids and was killed; \
                                 the kernel's log says which (dmesg, `type=1326 ... syscall=`)"
                .to_owned()
        }
        Some(_) if memory_kills > 0 => format!(
            "the kernel killed the machine's process because it used more memory than its control group has \
             (the guest's {} and what goes with it)",
            seat.memory.size
        ),
        Some(signal) => format!("the machine's process was killed by signal {signal}, and not by allod"),
        None => format!("the machine's process ended without a report ({how})"),
    };
    SeatEnding::Died { signal, message }
}

#[cfg(test)]
mod tests {
    use spec::plan::{Aperture, PlannedCpus, PlannedMemory, SeatPlan, SeatStart};
    use spec::seat_file::{ClockTime, DisplayKind, KernelRequest, PageSize};
    use spec::{Bytes, CpuSet, ExitCause, ExitReport, SeatEnding};

    use super::ending;
    use crate::launch::LaunchError;

    fn seat() -> SeatPlan {
        SeatPlan {
            name: "anna".into(),
            slots: vec![],
            display: DisplayKind::None,
            cpus: PlannedCpus {
                count: 1,
                pins: vec![0],
                shared: CpuSet::new(),
                kept: CpuSet::new(),
                threads_per_core: 1,
            },
            memory: PlannedMemory { size: Bytes::gib(4), pages: PageSize::Small, shared: false, node: None },
            aperture: Aperture { low: Bytes(0), high_start: Default::default(), high: Bytes(0) },
            start: SeatStart::Kernel(KernelRequest {
                image: "/k".into(),
                initrd: None,
                cmdline: String::new(),
            }),
            entropy: true,
            disks: vec![],
            networks: vec![],
            hypervisor: None,
            clock: ClockTime::Utc,
            tpm: false,
            power_off_seconds: 60,
        }
    }

    #[test]
    fn an_end_is_told_by_what_was_asked_and_what_was_left() {
        let report = |exit| {
            let (resets, exits, wall_ms) = (0, 0, 0);
            Ok(ExitReport { name: "anna".into(), exit, resets, exits, wall_ms, assigned: Vec::new() })
        };
        let none = |signal| Err(LaunchError::NoReport { how: "it went".into(), signal });
        for (outcome, asked, memory_kills, words) in [
            (report(ExitCause::PowerOff), None, 0, "powered off"),
            (report(ExitCause::PowerOff), Some(SeatEnding::Forced), 0, "powered off"),
            (report(ExitCause::Quit), Some(SeatEnding::Forced), 0, "not answer the power button"),
            (report(ExitCause::Quit), None, 0, "killed on request"),
            (report(ExitCause::Fault { message: "no memory".into() }), None, 0, "no memory"),
            (none(Some(9)), Some(SeatEnding::Killed), 0, "killed on request"),
            (none(Some(9)), Some(SeatEnding::Abandoned), 0, "given up"),
            (none(Some(9)), None, 0, "signal 9, and not by allod"),
            (none(Some(9)), None, 1, "more memory than its control group has (the guest's 4GiB"),
            (none(Some(31)), None, 0, "its sandbox forbids"),
            (none(None), None, 0, "without a report (it went)"),
        ] {
            let shown = format!("{outcome:?} {asked:?}");
            let (ending, _) = ending(outcome, asked, memory_kills, &seat());
            assert!(ending.to_string().contains(words), "{shown}: {ending}");
        }
    }
}
