//! The options that say which host to start; shared by the verbs that start one.

use super::progress;
use lab::host::Timeline;
use lab::{Clock, Failure, Lab, Profile};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct StartOptions {
    /// The host's hardware: a name from `allod lab profiles`, or a .toml file.
    #[arg(long, value_name = "NAME")]
    profile: String,
    /// Folder to make visible at /share inside, writable.
    #[arg(long, value_name = "DIR")]
    share: Option<PathBuf>,
    /// Memory of the host in MiB, instead of the profile's.
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// What the host's clock counts.
    #[arg(long, value_enum, default_value_t = HostClock::Wall)]
    clock: HostClock,
    /// Say how long each stage of the start took.
    #[arg(long, short)]
    pub(super) verbose: bool,
}

/// What a host's clock counts, in words for the command line.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum HostClock {
    /// Time: the emulator computes as fast as this machine lets it
    Wall,
    /// Instructions, one a nanosecond, so that figures repeat; idle time is leapt over
    Instructions,
    /// The same, but idle time passes as it does: for figures in which a disk or a network has its part
    InstructionsRealIdle,
}

impl From<HostClock> for Clock {
    fn from(clock: HostClock) -> Self {
        match clock {
            HostClock::Wall => Self::Wall,
            HostClock::Instructions => Self::Instructions,
            HostClock::InstructionsRealIdle => Self::InstructionsRealIdle,
        }
    }
}

impl StartOptions {
    pub(super) fn lab(&self) -> Result<Lab, Failure> {
        let mut lab = Lab::new(Profile::named(&self.profile)?);
        if let Some(share) = &self.share {
            lab = lab.share(share);
        }
        if let Some(memory) = self.memory {
            lab = lab.memory_mib(memory);
        }
        Ok(lab.clock(self.clock.into()))
    }
}

/// Says where the time of a start went.
pub(super) fn print_timeline(timeline: &Timeline) {
    progress(&format!("{:6.2} s  wall time until the emulator was up", timeline.emulator.as_secs_f32()));
    for (stage, at) in &timeline.stages {
        progress(&format!("{:6.2} s  by the host's clock: {stage}", at.as_secs_f32()));
    }
    progress(&format!("{:6.2} s  processor time until the host was ready", timeline.processor.as_secs_f32()));
    progress(&format!("{:6.2} s  wall time until the host was ready", timeline.ready.as_secs_f32()));
}
