//! Firmware on its way to what a disk has to start: how long it takes until the first line of that, and its exits.
//!
//! The disk holds [`lab::greeting`], as boot sector or as the loader of a removable disk. Not here: the VMMs' command lines.

use crate::failure::{Failure, attempt};
use crate::machine::Run;
use crate::measure::{Sample, count};
use crate::trace::Tracer;
use crate::vmm::{Firmware, Guest, Subject, UEFI_CODE, UEFI_VARIABLES};
use lab::greeting;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Time of the host's clock for all of the firmware's way.
const LIMIT: Duration = Duration::from_secs(60);
/// Where the program and the disks lie.
const PROGRAM: &str = "/tmp/greeting";
const BIOS_DISK: &str = "/tmp/greeting.bios";
const UEFI_DISK: &str = "/tmp/greeting.uefi";

/// Makes the disk for UEFI: a file system of FAT with the loader where removable disks have it.
const MAKE_UEFI_DISK: &str = "set -e; modprobe -a loop vfat; rm -f $2; truncate -s 40M $2; busybox mkdosfs $2; \
    mkdir -p $2.mount; mount -t vfat -o loop $2 $2.mount; mkdir -p $2.mount/EFI/BOOT; cp $1 $2.mount/EFI/BOOT/BOOTX64.EFI; \
    umount $2.mount";

/// Makes the disk that this firmware starts from.
pub(crate) fn guest(firmware: Firmware) -> Result<Guest, Failure> {
    let mut program = greeting::program();
    let write = |path: &str, bytes: &[u8]| fs::write(path, bytes).map_err(attempt(format!("write {path}")));
    write(PROGRAM, &program)?;
    match firmware {
        Firmware::Bios => {
            // A disk of one sector has no geometry.
            program.resize(1 << 20, 0);
            write(BIOS_DISK, &program)?;
            Ok(Guest::Disk(firmware, PathBuf::from(BIOS_DISK)))
        }
        Firmware::Uefi => {
            let variables = UEFI_CODE.replace("CODE", "VARS");
            fs::copy(&variables, UEFI_VARIABLES).map_err(attempt(format!("copy {variables}")))?;
            let made = Command::new("sh").args(["-c", MAKE_UEFI_DISK, "sh", PROGRAM, UEFI_DISK]).output();
            let made = made.map_err(attempt("make a disk for UEFI"))?;
            if !made.status.success() {
                let said = String::from_utf8_lossy(&made.stderr).into_owned();
                return Err(attempt("make a disk for UEFI")(std::io::Error::other(said)));
            }
            Ok(Guest::Disk(firmware, PathBuf::from(UEFI_DISK)))
        }
    }
}

/// Measures how long firmware takes to the first line of what it starts.
pub(crate) fn greeting(subject: &Subject) -> Result<Sample, Failure> {
    let mut run = Run::start(subject, &[], Tracer::wait_for(subject.vmm.program())?)?;
    let mut sample = Sample::default();
    await_greeting(&mut run, &mut sample)?;
    Ok(sample)
}

/// Counts its exits on that way, which takes time: the times are not those of [`greeting()`].
pub(crate) fn exits(subject: &Subject) -> Result<Sample, Failure> {
    let tracer = Tracer::wait_for(subject.vmm.program())?;
    tracer.count_exits()?;
    let mut run = Run::start(subject, &[], tracer)?;
    await_greeting(&mut run, &mut Sample::default())?;
    let mut sample = Sample::default();
    count(&mut sample, run.tracer())?;
    Ok(sample)
}

fn await_greeting(run: &mut Run, sample: &mut Sample) -> Result<(), Failure> {
    let greeted = run.await_text("greeting of", LIMIT)?;
    let (sighting, entry) = run.sighting()?;
    sample.milliseconds("entry_ms", sighting.exec, entry);
    if let Some(byte) = run.first_byte() {
        sample.milliseconds("byte_ms", sighting.exec, byte);
    }
    sample.milliseconds("greeting_ms", sighting.exec, greeted);
    sample.milliseconds("guest_ms", entry, greeted);
    run.kill()?;
    run.await_end(LIMIT)?;
    Ok(())
}
