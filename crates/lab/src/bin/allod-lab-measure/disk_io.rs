//! Exits per request to an assigned disk: a guest reads it at queue depth 1 and 32, and its exits meanwhile are counted.
//!
//! What the guest does without the disk is taken off: the start of the reading program, counted with the same program
//! asking nobody; its clock and the host's, counted by the tick while it does nothing; and the console. The reading
//! program is the host's own `fio`, which the guest reaches on the host's disk. Exits are counted, not timed: how long
//! the emulated disk takes is chance, also by the clock that counts instructions, which jumps ahead while all wait for
//! the disk.

use crate::failure::{Failure, attempt};
use crate::histogram::{kvm_exit_name, msr_name, svm_exit_name};
use crate::machine::Run;
use crate::measure::{STAGE_LIMIT, Sample};
use crate::trace::Tracer;
use crate::vmm::{Guest, Kernel, Subject};
use std::fs;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Requests at queue depth 1 and 32.
const REQUESTS: [(u32, f64); 2] = [(1, 1500.0), (32, 3000.0)];
/// What the guest says when it is ready to do nothing, and when it has done that.
const IDLE: [&str; 2] = ["READY idle", "DONE idle"];
/// The phases behind that, in the order of the guest: the same requests to nobody, then to the disk.
const PHASES: [(u32, &str, [&str; 2]); 4] = [
    (1, "null", ["READY null-1", "DONE null-1"]),
    (1, "libaio", ["READY libaio-1", "DONE libaio-1"]),
    (32, "null", ["READY null-32", "DONE null-32"]),
    (32, "libaio", ["READY libaio-32", "DONE libaio-32"]),
];
/// The first serial port.
const SERIAL_PORTS: RangeInclusive<u32> = 0x3f8..=0x3ff;
/// IA32_TSC_DEADLINE, and the initial count of a timer that counts (Intel SDM 3A, 11.5.4 and table 11-6).
const TIMER_DEADLINE: u32 = 0x6e0;
const TIMER_COUNT: u32 = 0x838;
/// The guest's initial RAM disk with its modules.
const INITRD: &str = "/tmp/disk-io.initrd";
/// ext4 needs this module to read the host's disk, and does not declare it as a dependency.
const PACK_CHECKSUM: &str = "cd \"$(dirname \"$(find /lib/modules -name crc32c_generic.ko)\")\" && \
    echo crc32c_generic.ko | cpio -o -H newc";
/// Time of the host's clock for booting and for a phase.
const LIMIT: Duration = Duration::from_secs(90);

/// What the guest does. `j ENGINE DEPTH REQUESTS`: as many at once are handed in and awaited as the queue is deep.
const SCRIPT: &str = "insmod /crc32c_generic.ko; for m in virtio_blk ext4 nvme; do modprobe $m; done; while ! [ -b /dev/nvme0n1 -a -b /dev/vda ]; \
    do sleep 0.1; done; mkdir /m; mount -t ext4 -o ro,noload /dev/vda /m; mount -t devtmpfs d /m/dev; \
    mount -t proc p /m/proc; mount -t tmpfs t /m/tmp; \
    f() { chroot /m fio --name=j --filename=/dev/nvme0n1 --size=32M --direct=1 --rw=randread --bs=4k --thread \
    --disk_util=0 --gtod_reduce=1 --eta=never --ioengine=$1 --iodepth=$2 --iodepth_batch=$2 \
    --iodepth_batch_complete_min=$2 --number_ios=$3 > /m/tmp/$1-$2 2>&1 || cat /m/tmp/$1-$2; }; \
    j() { echo READY $1-$2; read x; f $@; echo DONE $1-$2; }; f null 1 100; f libaio 32 100; \
    echo READY idle; read x; sleep 5; echo DONE idle; j null 1 1500; j libaio 1 1500; j null 32 3000; j libaio 32 3000; read x";

/// How the guest's processor waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It halts, as any does.
    Halted,
    /// It polls, so that no exit is a halt. Not where the emulator counts instructions: it ends its turn at each PAUSE,
    /// and the guest as good as stands still.
    Awake,
}

/// Returns the guest that reads its disk when told to.
pub(crate) fn guest(command_line: &str, wait: Wait) -> Result<Guest, Failure> {
    let wait = if wait == Wait::Awake { "idle=poll " } else { "" };
    let mut initrd = Vec::new();
    for part in ["/boot/guest-initrd", "/boot/guest-modules"] {
        initrd.extend(fs::read(part).map_err(attempt(format!("read {part}")))?);
    }
    let packed = Command::new("sh").args(["-c", PACK_CHECKSUM]).output();
    initrd.extend(packed.map_err(attempt("pack the checksum module of ext4"))?.stdout);
    fs::write(INITRD, initrd).map_err(attempt(format!("write {INITRD}")))?;
    Ok(Guest::Kernel(Kernel {
        image: PathBuf::from("/boot/vmlinux"),
        initrd: Some(PathBuf::from(INITRD)),
        command_line: format!("{command_line} {wait}guest_run=\"{SCRIPT}\""),
        host_disk: true,
    }))
}

/// Exits of a phase, without those for the console: all, those to user space, those for memory-mapped registers.
#[derive(Debug, Clone, Copy, Default)]
struct Exits {
    all: f64,
    user: f64,
    registers: f64,
    /// Ticks of the guest's clock: how often it set its timer.
    ticks: f64,
}

/// Counts exits per request.
pub(crate) fn exits(subject: &Subject) -> Result<Sample, Failure> {
    let tracer = Tracer::wait_for(subject.vmm.program())?;
    tracer.count_exits()?;
    let mut run = Run::start(subject, &[], tracer)?;
    let mut sample = Sample::default();
    let idle = phase(&mut run, IDLE)?;
    let a_tick = idle.times(1.0 / idle.ticks.max(1.0));
    sample.figure("exits_per_tick", a_tick.all);
    let mut without = Exits::default();
    for (depth, engine, marks) in PHASES {
        let exits = phase(&mut run, marks)?;
        breakdown(&mut sample, &run, &format!("{engine}-{depth}"))?;
        let exits = exits.without(a_tick.times(exits.ticks));
        if engine == "null" {
            without = exits;
            continue;
        }
        let requests = REQUESTS.iter().find(|(known, _)| *known == depth).map_or(1.0, |(_, count)| *count);
        add(&mut sample, depth, exits.without(without).times(1.0 / requests));
    }
    run.kill()?;
    run.await_end(STAGE_LIMIT)?;
    Ok(sample)
}

/// Lets the guest go through a phase.
fn phase(run: &mut Run, [ready, done]: [&'static str; 2]) -> Result<Exits, Failure> {
    run.await_text(ready, LIMIT)?;
    run.sighting()?;
    let before = counts(run)?;
    run.type_text("\n")?;
    run.await_text(done, LIMIT)?;
    Ok(counts(run)?.without(before))
}

fn add(sample: &mut Sample, depth: u32, a_request: Exits) {
    let Exits { all, user, registers, .. } = a_request;
    for (name, count) in [("exits", all), ("user_exits", user), ("register_exits", registers)] {
        // What is taken off is known to a few exits only, so that none may come out as a little less.
        sample.figure(&format!("depth{depth}_{name}_per_request"), count);
    }
}

/// Totals so far, by cause, as what explains the figures.
fn breakdown(sample: &mut Sample, run: &Run, phase: &str) -> Result<(), Failure> {
    let first = |name: fn(&str) -> String| move |keys: &[String]| name(keys.first().map_or("", |key| key));
    let mut told = |event: &str, name: &dyn Fn(&[String]) -> String| {
        let rows = run.tracer().histogram(event)?.named(name);
        sample.breakdown(&format!("{event} until {phase}"), rows);
        Ok(())
    };
    told("kvm/kvm_exit", &first(svm_exit_name))?;
    told("kvm/kvm_userspace_exit", &first(kvm_exit_name))?;
    told("kvm/kvm_msr", &|keys| msr_name(keys))
}

fn counts(run: &Run) -> Result<Exits, Failure> {
    let hits = |event: &str| run.tracer().histogram(event).map(|histogram| histogram.hits as f64);
    let ports = run.tracer().histogram("kvm/kvm_pio")?;
    let console = ports.rows.iter().filter(|(keys, _)| is_console(keys)).map(|(_, count)| *count as f64);
    let console: f64 = console.sum();
    Ok(Exits {
        all: hits("kvm/kvm_exit")? - console,
        user: hits("kvm/kvm_userspace_exit")? - console,
        registers: hits("kvm/kvm_mmio")?,
        ticks: ticks(run)?,
    })
}

/// How often the guest has set the timer of its APIC.
fn ticks(run: &Run) -> Result<f64, Failure> {
    let registers = run.tracer().histogram("kvm/kvm_msr")?;
    let is_timer = |keys: &[String]| {
        let number = keys.first().map(|key| u32::from_str_radix(key.trim_start_matches("0x"), 16));
        matches!(number, Some(Ok(TIMER_DEADLINE | TIMER_COUNT)))
    };
    Ok(registers.rows.iter().filter(|(keys, _)| is_timer(keys)).map(|(_, count)| *count as f64).sum())
}

/// Whether an access, whose first key is its port, is one to the serial port.
fn is_console(keys: &[String]) -> bool {
    keys.first().and_then(|port| port.parse().ok()).is_some_and(|port: u32| SERIAL_PORTS.contains(&port))
}

impl Exits {
    fn without(self, other: Self) -> Self {
        Self {
            all: self.all - other.all,
            user: self.user - other.user,
            registers: self.registers - other.registers,
            ticks: self.ticks - other.ticks,
        }
    }

    fn times(self, factor: f64) -> Self {
        Self {
            all: self.all * factor,
            user: self.user * factor,
            registers: self.registers * factor,
            ticks: self.ticks * factor,
        }
    }
}
