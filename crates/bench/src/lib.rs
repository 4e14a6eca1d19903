//! Native against seats: runs a benchmark's rounds, and says what they mean as a table, as JSON and as a picture.
//!
//! The form is that of Table 1 of "High Quality Virtual Platform based on Direct Hardware Allocation": the same benchmark
//! on the host itself, in one seat, and in several seats at once; rounds summed, and the sums as percent of native.
//! `allod bench` calls this. Not here: planning and claiming (`plan`, `host`), and machines: those of Allod and of the
//! peer are started by their own commands, so that both are measured as a person gets them.
#![forbid(unsafe_code)]

mod child;
mod conditions;
mod devices;
mod engine;
mod guest;
mod journal;
mod leg;
mod native;
mod picture;
mod ready;
mod result;
mod run;
mod seats;
mod summary;
mod table;
mod workload;

pub use conditions::{Moment, conditions};
pub use devices::Peer;
pub use journal::JournalError;
pub use picture::picture;
pub use result::{Condition, Engine, Result, Series, Spread};
pub use run::{BenchError, Options, run, usual_workloads};
pub use summary::{Beside, Document, Place, Rounds};
pub use table::table;
pub use workload::{Better, MARK, WORKLOADS, Workload, find_workload, reading};
