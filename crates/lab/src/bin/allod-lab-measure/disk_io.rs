//! Exits per request to an assigned disk: a guest reads it at queue depth 1 and 32, and its exits meanwhile are counted.
//!
//! What the guest would do without the disk (its timer, the start of the reading program, the console) is counted apart,
//! with the same program asking nobody, and taken off. The reading program is the host's own `fio`, which the guest
//! reaches on the host's disk. Exits are counted, not timed: how long the emulated disk takes is chance.

use crate::failure::{Failure, attempt};
use crate::histogram::{kvm_exit_name, svm_exit_name};
use crate::machine::Run;
use crate::measure::{STAGE_LIMIT, Sample};
use crate::trace::Tracer;
use crate::vmm::{Guest, Subject};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Requests at queue depth 1 and 32.
const REQUESTS: [(u32, f64); 2] = [(1, 1500.0), (32, 3000.0)];
/// The phases in the order of the guest: the same requests to nobody, then to the disk. What it says when it is ready
/// and when it has done.
const PHASES: [(u32, &str, [&str; 2]); 4] = [
    (1, "null", ["READY null-1", "DONE null-1"]),
    (1, "libaio", ["READY libaio-1", "DONE libaio-1"]),
    (32, "null", ["READY null-32", "DONE null-32"]),
    (32, "libaio", ["READY libaio-32", "DONE libaio-32"]),
];
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
    j null 1 1500; j libaio 1 1500; j null 32 3000; j libaio 32 3000; read x";

/// Returns the guest that reads its disk when told to.
pub(crate) fn guest(command_line: &str) -> Result<Guest, Failure> {
    let mut initrd = Vec::new();
    for part in ["/boot/guest-initrd", "/boot/guest-modules"] {
        initrd.extend(fs::read(part).map_err(attempt(format!("read {part}")))?);
    }
    let packed = Command::new("sh").args(["-c", PACK_CHECKSUM]).output();
    initrd.extend(packed.map_err(attempt("pack the checksum module of ext4"))?.stdout);
    fs::write(INITRD, initrd).map_err(attempt(format!("write {INITRD}")))?;
    Ok(Guest {
        kernel: PathBuf::from("/boot/vmlinux"),
        initrd: Some(PathBuf::from(INITRD)),
        command_line: format!("{command_line} guest_run=\"{SCRIPT}\""),
        host_disk: true,
    })
}

/// Exits of a phase: all, those to user space, those for memory-mapped registers.
#[derive(Debug, Clone, Copy)]
struct Exits {
    all: u64,
    user: u64,
    registers: u64,
}

/// Counts exits per request.
pub(crate) fn exits(subject: &Subject) -> Result<Sample, Failure> {
    let tracer = Tracer::wait_for(subject.vmm.program())?;
    tracer.count_exits()?;
    let mut run = Run::start(subject, &[], tracer)?;
    let mut sample = Sample::default();
    let mut idle = None;
    for (depth, engine, [ready, done]) in PHASES {
        run.await_text(ready, LIMIT)?;
        run.sighting()?;
        let before = counts(&run)?;
        run.type_text("\n")?;
        run.await_text(done, LIMIT)?;
        let after = counts(&run)?;
        breakdown(&mut sample, &run, &format!("{engine}-{depth}"))?;
        let phase = after.since(before);
        let requests = REQUESTS.iter().find(|(known, _)| *known == depth).map_or(1.0, |(_, count)| *count);
        match idle.take() {
            None => idle = Some(phase),
            Some(idle) => add(&mut sample, depth, phase.since(idle), requests),
        }
    }
    run.kill()?;
    run.await_end(STAGE_LIMIT)?;
    Ok(sample)
}

fn add(sample: &mut Sample, depth: u32, exits: Exits, requests: f64) {
    for (name, count) in
        [("exits", exits.all), ("user_exits", exits.user), ("register_exits", exits.registers)]
    {
        sample.figure(&format!("depth{depth}_{name}_per_request"), count as f64 / requests);
    }
}

/// Totals so far, by cause, as what explains the figures.
fn breakdown(sample: &mut Sample, run: &Run, phase: &str) -> Result<(), Failure> {
    let first = |name: fn(&str) -> String| move |keys: &[String]| name(keys.first().map_or("", |key| key));
    for (event, name) in
        [("kvm/kvm_exit", svm_exit_name as fn(&str) -> String), ("kvm/kvm_userspace_exit", kvm_exit_name)]
    {
        let rows = run.tracer().histogram(event)?.named(first(name));
        sample.breakdown(&format!("{event} until {phase}"), rows);
    }
    Ok(())
}

fn counts(run: &Run) -> Result<Exits, Failure> {
    let hits = |event: &str| run.tracer().histogram(event).map(|histogram| histogram.hits);
    Ok(Exits {
        all: hits("kvm/kvm_exit")?,
        user: hits("kvm/kvm_userspace_exit")?,
        registers: hits("kvm/kvm_mmio")?,
    })
}

impl Exits {
    /// What came since `earlier`; chance can make a phase without the disk the larger one.
    fn since(self, earlier: Self) -> Self {
        Self {
            all: self.all.saturating_sub(earlier.all),
            user: self.user.saturating_sub(earlier.user),
            registers: self.registers.saturating_sub(earlier.registers),
        }
    }
}
