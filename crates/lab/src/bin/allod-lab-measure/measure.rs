//! The measurements: each runs a VMM once and returns figures, and facts that explain them.

use crate::disk_io::{self, Wait};
use crate::failure::{Failure, attempt};
use crate::firmware;
use crate::guest;
use crate::histogram::{kvm_exit_name, mmio_name, msr_name, port_name, svm_exit_name};
use crate::machine::Run;
use crate::smaps;
use crate::syscalls;
use crate::trace::{RESETS, Tracer};
use crate::vmm::{Firmware, Guest, Kernel, Subject};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Time of the host's clock a guest may take for each stage: many times what a slow VMM needs. A clock that counts
/// instructions is there soon when all stand still; an ordinary one goes on while a busy machine does something else.
pub(crate) const STAGE_LIMIT: Duration = Duration::from_secs(40);
/// Time a standing VMM gets before its memory is looked at.
const SETTLE: Duration = Duration::from_millis(50);
/// The self-tests of the kernel's ciphers run for 700 million instructions in threads that do not yield: how much of
/// them comes before user space is chance, and says nothing about the VMM.
const DEBIAN_COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 cryptomgr.notests";
/// What the lab's guest prints as soon as its first program runs.
const MARKER: &str = "GUEST user space reached";
/// Where our own files go.
const SCRATCH: &str = "/tmp";
/// Rows of a breakdown that are kept.
const ROWS: usize = 60;

/// The result of a measurement.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    figures: Map<String, Value>,
    facts: Map<String, Value>,
}

impl Sample {
    /// Returns it as one JSON value: `figures` are numbers whose names end in their unit, `facts` anything.
    pub(crate) fn into_json(self) -> Value {
        json!({ "figures": self.figures, "facts": self.facts })
    }

    pub(crate) fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    pub(crate) fn milliseconds(&mut self, name: &str, from: Duration, to: Duration) {
        self.figure(name, to.saturating_sub(from).as_secs_f64() * 1000.0);
    }

    pub(crate) fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.insert(name.to_owned(), value.into());
    }

    pub(crate) fn breakdown(&mut self, name: &str, mut rows: Vec<(String, u64)>) {
        rows.truncate(ROWS);
        let rows: Vec<_> = rows.into_iter().map(|(name, count)| json!([name, count])).collect();
        self.fact(name, rows);
    }
}

/// Measures the start of a VMM with the micro guest, its memory while that stands, and how long it takes to go.
pub(crate) fn start(subject: &Subject) -> Result<Sample, Failure> {
    let tracer = Tracer::wait_for(subject.vmm.program())?;
    let mut run = Run::start(subject, &[], tracer)?;
    let byte = run.await_text("A", STAGE_LIMIT)?;
    let (sighting, entry) = run.sighting()?;
    let mut sample = Sample::default();
    sample.milliseconds("entry_ms", sighting.exec, entry);
    sample.milliseconds("byte_ms", sighting.exec, byte);
    thread::sleep(SETTLE);
    memory(&mut sample, sighting.pid)?;
    let killed = run.kill()?;
    let gone = run.await_end(STAGE_LIMIT)?;
    sample.milliseconds("kill_ms", killed, gone);
    Ok(sample)
}

fn memory(sample: &mut Sample, pid: u32) -> Result<(), Failure> {
    let read = |file: &str| {
        let path = format!("/proc/{pid}/{file}");
        fs::read_to_string(&path).map_err(attempt(format!("read {path}")))
    };
    let (maps, status) = (read("smaps")?, read("status")?);
    let own = smaps::own_memory(&maps);
    sample.figure("pss_kib", own.pss);
    sample.figure("private_dirty_kib", own.private_dirty);
    sample.figure("threads", smaps::status_field(&status, "Threads"));
    sample.figure("page_tables_kib", smaps::status_field(&status, "VmPTE"));
    sample.fact("mappings", own.mappings);
    sample.fact("guest_ram_resident_kib", own.guest_ram_resident);
    sample.fact("guest_ram_huge_kib", own.guest_ram_huge);
    sample.breakdown("private_dirty", own.dirty);
    Ok(())
}

/// Counts the function-level resets in the life of a machine: its start, its first instruction, and a kill.
pub(crate) fn resets(subject: &Subject) -> Result<Sample, Failure> {
    let tracer = Tracer::wait_for(subject.vmm.program())?;
    tracer.count_resets()?;
    let mut run = Run::start(subject, &[], tracer)?;
    run.await_text("A", STAGE_LIMIT)?;
    run.sighting()?;
    let resets = |run: &Run| run.tracer().histogram(RESETS).map(|histogram| histogram.hits);
    let at_start = resets(&run)?;
    run.kill()?;
    run.await_end(STAGE_LIMIT)?;
    let mut sample = Sample::default();
    sample.figure("resets", resets(&run)?);
    sample.figure("resets_at_start", at_start);
    Ok(sample)
}

/// Measures the boot of Debian's kernel: to the first guest instruction, to user space, to the end of the process.
pub(crate) fn boot(subject: &Subject) -> Result<Sample, Failure> {
    let tracer = Tracer::wait_for(subject.vmm.program())?;
    let mut run = Run::start(subject, &[], tracer)?;
    let mut sample = Sample::default();
    stages(&mut sample, &mut run)?;
    Ok(sample)
}

/// Measures the exits of such a boot. The counting takes time, so that the times are not those of [`boot`].
pub(crate) fn exits(subject: &Subject) -> Result<Sample, Failure> {
    let tracer = Tracer::wait_for(subject.vmm.program())?;
    tracer.count_exits()?;
    let mut run = Run::start(subject, &[], tracer)?;
    let mut sample = Sample::default();
    stages(&mut sample, &mut run)?;
    sample.figures.clear();
    count(&mut sample, run.tracer())?;
    Ok(sample)
}

/// Puts down what the tracer has counted.
pub(crate) fn count(sample: &mut Sample, tracer: &Tracer) -> Result<(), Failure> {
    let (all, user) = (tracer.histogram("kvm/kvm_exit")?, tracer.histogram("kvm/kvm_userspace_exit")?);
    let (ports, memory) = (tracer.histogram("kvm/kvm_pio")?, tracer.histogram("kvm/kvm_mmio")?);
    let (registers, cpuid) = (tracer.histogram("kvm/kvm_msr")?, tracer.histogram("kvm/kvm_cpuid")?);
    sample.figure("exits", all.hits);
    sample.figure("user_exits", user.hits);
    sample.figure("port_accesses", ports.hits);
    let first = |name: fn(&str) -> String| move |keys: &[String]| name(keys.first().map_or("", |key| key));
    sample.breakdown("exits", all.named(first(svm_exit_name)));
    sample.breakdown("user_exits", user.named(first(kvm_exit_name)));
    // These three count accesses, also those the kernel answers itself.
    sample.breakdown("port_accesses", ports.named(port_name));
    sample.breakdown("memory_accesses", memory.named(mmio_name));
    sample.breakdown("register_accesses", registers.named(msr_name));
    sample.breakdown("cpuid", cpuid.named(|keys| keys.concat()));
    Ok(())
}

fn stages(sample: &mut Sample, run: &mut Run) -> Result<(), Failure> {
    let marker = run.await_text(MARKER, STAGE_LIMIT)?;
    let (sighting, entry) = run.sighting()?;
    sample.milliseconds("entry_ms", sighting.exec, entry);
    if let Some(byte) = run.first_byte() {
        sample.milliseconds("byte_ms", sighting.exec, byte);
    }
    sample.milliseconds("user_space_ms", sighting.exec, marker);
    sample.milliseconds("guest_ms", entry, marker);
    let gone = run.await_end(STAGE_LIMIT)?;
    sample.milliseconds("gone_ms", sighting.exec, gone);
    Ok(())
}

/// Counts the system calls of a VMM before its guest first runs.
pub(crate) fn calls(subject: &Subject) -> Result<Sample, Failure> {
    let log = Path::new(SCRATCH).join("strace.log");
    let before = ["strace", "-f", "-o", &log.display().to_string()].map(str::to_owned);
    let tracer = Tracer::wait_for(subject.vmm.program())?;
    let mut run = Run::start(subject, &before, tracer)?;
    run.await_text("A", STAGE_LIMIT)?;
    run.sighting()?;
    run.kill()?;
    run.await_end(STAGE_LIMIT)?;
    let log = fs::read(&log).map_err(attempt("read the log of strace"))?;
    let text = String::from_utf8_lossy(&log);
    let calls = syscalls::before_first_run(&text, subject.vmm.program()).ok_or(Failure::Unseen("KVM_RUN"))?;
    let mut sample = Sample::default();
    sample.figure("syscalls", calls.count);
    let mut rows: Vec<_> = calls.by_name.into_iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.1));
    sample.breakdown("syscalls", rows);
    Ok(sample)
}

/// Returns the guest of that name; micro guests are written into the scratch folder.
pub(crate) fn guest(name: &str) -> Result<Guest, Failure> {
    let micro = |file: &str, bytes: Vec<u8>| {
        let path = Path::new(SCRATCH).join(file);
        fs::write(&path, bytes).map_err(attempt(format!("write {}", path.display())))?;
        let command_line = "micro".to_owned();
        Ok(Guest::Kernel(Kernel { image: path, initrd: None, command_line, host_disk: false }))
    };
    match name {
        "micro-elf" => micro("micro.elf", guest::elf()),
        "micro-bzimage" => micro("micro.bzimage", guest::bzimage()),
        "debian-elf" | "debian-bzimage" => {
            let file = if name == "debian-elf" { "vmlinux" } else { "vmlinuz" };
            Ok(Guest::Kernel(Kernel {
                image: Path::new("/boot").join(file),
                initrd: Some(PathBuf::from("/boot/guest-initrd")),
                command_line: DEBIAN_COMMAND_LINE.to_owned(),
                host_disk: false,
            }))
        }
        "bios-disk" => firmware::guest(Firmware::Bios),
        "uefi-disk" => firmware::guest(Firmware::Uefi),
        "debian-disk" => disk_io::guest(DEBIAN_COMMAND_LINE, Wait::Halted),
        "debian-disk-awake" => disk_io::guest(DEBIAN_COMMAND_LINE, Wait::Awake),
        _ => Err(Failure::Usage(format!("there is no guest `{name}`"))),
    }
}
