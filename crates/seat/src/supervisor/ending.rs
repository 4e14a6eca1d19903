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
