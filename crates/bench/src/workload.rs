//! What is run, the same on the host and in a guest, and how a round's figure is read from what it prints.

use crate::devices::Peer;
use crate::leg::Trouble;
use std::time::Duration;

/// Whether a larger figure is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// Frames, bytes, loops per second.
    Larger,
    /// Times.
    Smaller,
}

/// A benchmark that a shell can run in a few seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Workload {
    /// Its name.
    pub name: &'static str,
    /// What it stands for, in a few words.
    pub about: &'static str,
    /// The figure's unit.
    pub unit: &'static str,
    /// Which way is up.
    pub better: Better,
    /// What it is run on.
    pub(crate) needs: Need,
    /// The programs it starts, each with the Debian package it comes in.
    pub(crate) programs: &'static [(&'static str, &'static str)],
    /// Whether it is for cards that draw in three dimensions: others let the processor draw, which takes for ever.
    pub(crate) three_dimensions: bool,
    /// A line for a POSIX shell that prints its figure behind [`MARK`]. `$SECONDS_A_ROUND` says how long it takes
    /// (`$MILLISECONDS_A_ROUND` and `$WHOLE_SECONDS_A_ROUND` too), `$CARD`, `$DISK` and `$NIC` where the seat's devices are; `apart` runs a command where the seat's network is, which
    /// is `$OWN` there and reaches the port `$PORT` of `$PEER`.
    pub script: &'static str,
}

/// What a workload is run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Need {
    /// A processor.
    Nothing,
    /// A graphics card.
    Display,
    /// An NVMe disk.
    Disk,
    /// A network card, and somebody to talk to.
    Network,
}

/// How a workload is run, wherever that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measure {
    /// How long a round takes.
    pub(crate) round: Duration,
    /// Whom network cards talk to.
    pub(crate) peer: Option<Peer>,
}

/// Longest a workload goes on, in rounds: `gl` has three scenes.
const LONGEST: u32 = 3;

impl Measure {
    /// Returns how long a workload may be busy, of those that are measured in whole seconds too.
    pub(crate) fn longest(self) -> Duration {
        LONGEST * self.round.max(Duration::from_secs(1))
    }

    /// Returns the shell line that tells workloads how long to go on. Whole seconds are for programs that know no others.
    pub(crate) fn setup(self) -> String {
        let (seconds, milliseconds) = (self.round.as_secs_f64(), self.round.as_millis());
        let whole = seconds.ceil().max(1.0);
        format!(
            "SECONDS_A_ROUND={seconds}; MILLISECONDS_A_ROUND={milliseconds}; WHOLE_SECONDS_A_ROUND={whole}; \
             export SECONDS_A_ROUND MILLISECONDS_A_ROUND WHOLE_SECONDS_A_ROUND; "
        )
    }
}

/// What stands before a figure on a line.
pub const MARK: &str = "bench-figure";

/// All there are. The first says what the processor alone costs: where that is below native, all others are too, by the
/// same tax.
pub const WORKLOADS: &[Workload] = &[
    Workload {
        name: "cpu",
        about: "a loop on one processor, nothing else",
        unit: "Mloops/s",
        better: Better::Larger,
        needs: Need::Nothing,
        programs: &[("allod-scene", "Allod")],
        three_dimensions: false,
        script: "allod-scene measure --seconds $SECONDS_A_ROUND spin",
    },
    Workload {
        name: "fill",
        about: "2D: the whole picture of the seat's own card, filled",
        unit: "Mpixels/s",
        better: Better::Larger,
        needs: Need::Display,
        programs: &[("allod-scene", "Allod")],
        three_dimensions: false,
        script: "allod-scene --card $CARD measure --seconds $SECONDS_A_ROUND fill",
    },
    Workload {
        name: "gl",
        about: "3D: glmark2 on the seat's own card, its score over three scenes",
        unit: "points",
        better: Better::Larger,
        needs: Need::Display,
        programs: &[("glmark2-es2-drm", "glmark2-es2-drm")],
        three_dimensions: true,
        script: "glmark2-es2-drm --winsys-options drm-device=$CARD --size 640x480 \
                 --visual-config red=8:green=8:blue=8:alpha=0 --benchmark build:duration=$WHOLE_SECONDS_A_ROUND \
                 --benchmark texture:duration=$WHOLE_SECONDS_A_ROUND --benchmark shading:duration=$WHOLE_SECONDS_A_ROUND 2>&1 | \
                 awk '/Score/ {print \"bench-figure\", $NF} !/Score/ {print}'",
    },
    Workload {
        name: "disk",
        about: "storage: 4 KiB random reads, 32 at a time, on the seat's own NVMe disk",
        unit: "IOPS",
        better: Better::Larger,
        needs: Need::Disk,
        programs: &[("fio", "fio")],
        three_dimensions: false,
        script: "fio --name=r --filename=$DISK --rw=randread --bs=4k --iodepth=32 --ioengine=libaio --direct=1 \
                 --time_based --runtime=${MILLISECONDS_A_ROUND}ms --output-format=terse --terse-version=3 | \
                 awk -F';' '{print \"bench-figure\", $8}'",
    },
    Workload {
        name: "irq",
        about: "latency: a read of 4 KiB, one at a time, median: the disk's own time, its interrupt and the wake of who waits",
        unit: "µs",
        better: Better::Smaller,
        needs: Need::Disk,
        programs: &[("fio", "fio")],
        three_dimensions: false,
        script: "fio --name=r --filename=$DISK --rw=randread --bs=4k --iodepth=1 --ioengine=libaio --direct=1 \
                 --time_based --runtime=${MILLISECONDS_A_ROUND}ms --output-format=terse --terse-version=3 | \
                 awk -F';' '{split($24, median, \"=\"); print \"bench-figure\", median[2]}'",
    },
    Workload {
        name: "net",
        about: "network: one stream of TCP from the seat's own network card to the peer",
        unit: "Mbit/s",
        better: Better::Larger,
        needs: Need::Network,
        programs: &[("iperf3", "iperf3"), ("ip", "iproute2"), ("ping", "iputils-ping")],
        three_dimensions: false,
        script: "apart sh -c 'ip address replace $OWN dev $NIC; ip link set $NIC up; \
                 ping -q -c 1 -w 30 $PEER; n=0; \
                 until iperf3 --client $PEER --port $PORT --time $WHOLE_SECONDS_A_ROUND --format m 2>&1 || [ $n = 2 ]; \
                 do n=$((n+1)); done' | \
                 awk '/receiver/ {print \"bench-figure\", $7} !/receiver/ {print}'",
    },
    Workload {
        name: "wake",
        about: "latency: how late a timer of 1 ms wakes its sleeper, 99th percentile",
        unit: "µs",
        better: Better::Smaller,
        needs: Need::Nothing,
        programs: &[("allod-scene", "Allod")],
        three_dimensions: false,
        script: "allod-scene measure --seconds $SECONDS_A_ROUND wake",
    },
];

impl Workload {
    /// Returns the line for a shell: all it says behind its name, its figure too.
    pub(crate) fn line(&self) -> String {
        format!("{{ {}; }} 2>&1 | sed 's/^/{}: /'", self.script, self.name)
    }

    /// Reads its one figure out of what was said there.
    pub(crate) fn figure(&self, said: &[String], wherever: &str) -> Result<f64, Trouble> {
        let found =
            said.iter().rev().find_map(|line| reading(line).filter(|(read, _)| read.name == self.name));
        found.map(|(_, figure)| figure).ok_or_else(|| Trouble::Failed {
            why: format!("no figure {wherever}; it said:\n{}", said.join("\n")),
            lost: false,
        })
    }
}

/// Finds a workload by its name.
pub fn find_workload(name: &str) -> Option<&'static Workload> {
    WORKLOADS.iter().find(|workload| workload.name == name)
}

/// Reads `WORKLOAD: bench-figure NUMBER` out of a line, wherever in it that stands; none for any other line.
///
/// Consoles mix lines of kernels with those of programs, so the words may be anywhere.
pub fn reading(line: &str) -> Option<(&'static Workload, f64)> {
    let (before, after) = line.split_once(MARK)?;
    let name = before.trim_end().strip_suffix(':')?.rsplit([' ', '\t']).next()?;
    let figure: f64 = after.split_whitespace().next()?.parse().ok()?;
    let workload = find_workload(name)?;
    (figure.is_finite() && figure >= 0.0).then_some((workload, figure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_and_noise_is_not() {
        let rows = [
            ("fill: bench-figure 61.5", Some(("fill", 61.5))),
            ("[   12.3] random: cpu: bench-figure 7 Mloops/s\r", Some(("cpu", 7.0))),
            ("bench-figure 61.5", None),
            ("other: bench-figure 61.5", None),
            ("fill: bench-figure", None),
            ("fill: bench-figure fast", None),
            ("fill: bench-figure -1", None),
            ("fill: bench-figure inf", None),
            ("fill: 61.5", None),
        ];
        for (line, expected) in rows {
            let found = reading(line).map(|(workload, figure)| (workload.name, figure));
            assert_eq!(found, expected, "{line}");
        }
    }
}
