//! Native against seats: what a benchmark's rounds say, as a table, as JSON and as a picture. Pure.
//!
//! The form is that of Table 1 of "High Quality Virtual Platform based on Direct Hardware Allocation": the same benchmark
//! on the host itself, in one seat, and in several seats at once; rounds summed, and the sums as percent of native.
//! `allod bench` runs the rounds; not here.
#![forbid(unsafe_code)]

mod picture;
mod result;
mod table;
mod workload;

pub use picture::picture;
pub use result::{Condition, Engine, Result, Series, Spread};
pub use table::table;
pub use workload::{Better, MARK, WORKLOADS, Workload, find_workload, reading};
