//! The files and programs that a seat needs, looked at before anything is taken from the host for it: a missing disk should
//! not cost anybody a screen. Called by those who plan: `allod plan` and `allod up`.
//!
//! Nothing is made or written, and no lock is kept. Not here: what is in an image; the machine, which is shut in, looks at
//! that.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;

use spec::plan::{Notice, NoticeCode, PLAN_SCHEMA_VERSION, Plan, Reason, ReasonCode, Refusal};
use spec::seat_file::{BootFirst, DiskMedia, DiskRequest, FirmwareKind, RomChoice, SeatFile, SeatRequest};

use crate::drives::{self, Disk, DriveUnfit};
use crate::firmware::{Firmware, FirmwareUnfit};
use crate::network::{self, NoNetwork};
use crate::programs;
use crate::rom_file::{self, RomFileUnfit};
use crate::tpm::{self, NoTpm};

/// Adds to what the planner says every reason and notice that lies in the seats' files; of seats that run already there is
/// none.
///
/// # Errors
/// The refusal, with all reasons.
pub fn weigh(answer: Result<Plan, Refusal>, file: &SeatFile) -> Result<Plan, Refusal> {
    let runs = |seat: &SeatRequest| match &answer {
        Ok(_) => false,
        Err(refusal) => refusal
            .reasons
            .iter()
            .any(|reason| reason.code == ReasonCode::SeatRuns && reason.seat.as_ref() == Some(&seat.name)),
    };
    let mut look = Look::default();
    for seat in file.seats.iter().filter(|seat| !runs(seat)) {
        look.seat(seat);
    }
    match answer {
        Ok(mut plan) => {
            plan.notices.extend(look.notices);
            match look.reasons {
                reasons if reasons.is_empty() => Ok(plan),
                reasons => {
                    Err(Refusal { schema_version: PLAN_SCHEMA_VERSION, reasons, notices: plan.notices })
                }
            }
        }
        Err(mut refusal) => {
            refusal.reasons.extend(look.reasons);
            refusal.notices.extend(look.notices);
            Err(refusal)
        }
    }
}

/// What was found so far.
#[derive(Default)]
struct Look {
    reasons: Vec<Reason>,
    notices: Vec<Notice>,
    // Kept until all are seen, so that one file under two names is found too.
    open: Vec<OwnedFd>,
}

impl Look {
    fn seat(&mut self, seat: &SeatRequest) {
        match &seat.kernel {
            Some(kernel) => {
                let initrd = kernel.initrd.as_deref().map(|path| ("initrd", path));
                for (what, path) in [("kernel", kernel.image.as_path())].into_iter().chain(initrd) {
                    if let Err(errno) = File::open(path) {
                        let remedy = "name a file that is there (`ls /boot` shows the host's own)";
                        let sentence = format!("open the {what} {}: {errno}", path.display());
                        self.refuse(seat, what, errno.kind(), sentence, remedy);
                    }
                }
            }
            None => self.firmware(seat),
        }
        self.roms(seat);
        self.networks(seat);
        if seat.tpm && !programs::is_there(tpm::PROGRAM) {
            self.refuse(seat, "tpm", ErrorKind::NotFound, NoTpm::Missing.to_string(), "");
        }
        for (disk, number) in seat.disks.iter().zip(1..) {
            let opened = match disk.media {
                DiskMedia::Disk => as_disk(disk).open().map(|(file, _)| file),
                DiskMedia::Cdrom => drives::open_disc(&disk.path),
            };
            let subject = format!("disk {number}");
            match opened {
                Ok(file) => self.open.push(file),
                Err(error) => {
                    let kind = match &error {
                        DriveUnfit::Open { errno, .. } => errno.kind(),
                        DriveUnfit::InUse { .. } => ErrorKind::ResourceBusy,
                        _ => ErrorKind::InvalidData,
                    };
                    let make = "name a file that is there, or make it (`truncate -s 20G FILE`)";
                    self.refuse(seat, &subject, kind, error.to_string(), make);
                }
            }
        }
    }

    /// The files in the place of cards' option ROMs.
    fn roms(&mut self, seat: &SeatRequest) {
        let asked = seat.firmware.as_ref();
        let kind = seat.kernel.is_none().then(|| asked.map_or(FirmwareKind::Uefi, |asked| asked.kind));
        for (device, number) in seat.devices.iter().zip(1..) {
            let Some(RomChoice::File(path)) = &device.rom else { continue };
            let subject = format!("device {number}");
            match rom_file::open(path, kind.is_some()) {
                Err(error) => {
                    let kind = match &error {
                        RomFileUnfit::Open { errno, .. } => std::io::Error::from(*errno).kind(),
                        RomFileUnfit::Lies { .. } | RomFileUnfit::NoRom { .. } => ErrorKind::InvalidData,
                    };
                    self.refuse(seat, &subject, kind, error.to_string(), "name a file that is there");
                }
                Ok(_) => {
                    let Some(lack) = kind.and_then(|kind| rom_file::lacks(path, kind)) else { continue };
                    self.notices.push(Notice {
                        code: NoticeCode::RomOfOtherKind,
                        seat: Some(seat.name.clone()),
                        subject,
                        sentence: format!("{lack}, so the seat's firmware runs nothing of it"),
                        remedy: "choose the seat's `firmware.kind` by it, or another file (`allod rom show` tells what is in one)".to_owned(),
                    });
                }
            }
        }
    }

    /// What the virtual network cards are plugged into, and started from.
    fn networks(&mut self, seat: &SeatRequest) {
        for (card, number) in seat.networks.iter().zip(1..) {
            let subject = format!("network {number}");
            let missing = match (&card.bridge, &card.tap) {
                (Some(bridge), _) if !is_bridge(bridge) => format!(
                    "there is no bridge `{bridge}` on this host; make it (`ip link add {bridge} type bridge`), or name one that is there (`ls -d /sys/class/net/*/bridge`)"
                ),
                (None, None) if !programs::is_there(network::PASST) => {
                    NoNetwork::Passt(ErrorKind::NotFound.into()).to_string()
                }
                _ => continue,
            };
            self.refuse(seat, &subject, ErrorKind::NotFound, missing, "");
        }
        let from_network = |kind| {
            let asked = seat.firmware.as_ref().filter(|asked| asked.boot == BootFirst::Network);
            asked.is_some_and(|asked| asked.kind == kind)
        };
        if !seat.networks.is_empty() && from_network(FirmwareKind::Bios) && !network::has_boot_rom() {
            self.refuse(seat, "firmware", ErrorKind::NotFound, NoNetwork::NoBootRom.to_string(), "");
        }
    }

    fn firmware(&mut self, seat: &SeatRequest) {
        let asked = seat.firmware.as_ref();
        let firmware = Firmware {
            kind: asked.map_or(FirmwareKind::Uefi, |asked| asked.kind),
            image: None,
            // Those that stand with the seat's own files are made with them.
            variables: asked.and_then(|asked| asked.variables.clone()),
            log: None,
            boot: BootFirst::default(),
        };
        match firmware.look() {
            Ok(variables) => self.open.extend(variables),
            Err(error) => {
                let kind = match &error {
                    FirmwareUnfit::Open { errno, .. } => errno.kind(),
                    FirmwareUnfit::InUse { .. } => ErrorKind::ResourceBusy,
                    _ => ErrorKind::InvalidData,
                };
                self.refuse(seat, "firmware", kind, error.to_string(), "name a file that is there");
            }
        }
    }

    /// Adds a reason. Its remedy is what stands in `sentence` behind a semicolon, or else `usual`.
    fn refuse(&mut self, seat: &SeatRequest, subject: &str, kind: ErrorKind, sentence: String, usual: &str) {
        if kind == ErrorKind::PermissionDenied && !rustix::process::geteuid().is_root() {
            // Who starts the seat is root, and may.
            return;
        }
        let (sentence, remedy) = sentence.split_once("; ").unwrap_or((&sentence, usual));
        self.reasons.push(Reason {
            code: match kind {
                ErrorKind::ResourceBusy => ReasonCode::FileInUse,
                _ => ReasonCode::FileUnfit,
            },
            seat: Some(seat.name.clone()),
            subject: subject.to_owned(),
            function: None,
            sentence: sentence.to_owned(),
            remedy: remedy.to_owned(),
            candidates: Vec::new(),
        });
    }
}

fn is_bridge(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).join("bridge").exists()
}

fn as_disk(disk: &DiskRequest) -> Disk {
    Disk {
        path: Path::to_owned(&disk.path),
        read_only: disk.read_only,
        format: disk.format,
        kind: disk.kind.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use host::{fixtures, inventory};
    use spec::plan::{NoticeCode, Plan, ReasonCode, Refusal};
    use spec::seat_file::SeatFile;

    use super::weigh;

    fn file(seats: &[(&str, &str)]) -> SeatFile {
        let one = |(name, rest): &(&str, &str)| {
            format!("[[seat]]\nname = \"{name}\"\ncpus.count = 2\nmemory.size = \"1GiB\"\n{rest}\n")
        };
        SeatFile::parse("seats.toml", &seats.iter().map(one).collect::<String>()).unwrap()
    }

    fn weighed(seats: &[(&str, &str)]) -> Result<Plan, Refusal> {
        let file = file(seats);
        let inventory = inventory::read(&fixtures::desktop_with_two_gpus());
        weigh(plan::plan(&inventory, &file, &[], &[]), &file)
    }

    fn disk(path: &Path, rest: &str) -> String {
        format!("kernel.image = \"/dev/null\"\ndisk = [{{ path = \"{}\"{rest} }}]", path.display())
    }

    #[test]
    fn files_that_cannot_be_used_are_refused_before_anything_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("whole.img"), b"a disk").unwrap();
        std::fs::write(at("broken.qcow2"), b"no header").unwrap();
        for (rest, reason) in [
            (disk(&at("whole.img"), ""), None),
            (disk(&at("nowhere.img"), ""), Some(("disk 1", "No such file", "truncate -s 20G"))),
            (disk(folder.path(), ", media = \"cdrom\""), Some(("disk 1", "Is a directory", "name a file"))),
            (
                disk(&at("whole.img"), ", media = \"cdrom\""),
                Some(("disk 1", "is not an ISO image", "compare its checksum")),
            ),
            (disk(&at("broken.qcow2"), ""), Some(("disk 1", "is called qcow2", "say format=raw"))),
            (
                "kernel = { image = \"/dev/null\", initrd = \"/nowhere/initrd\" }".to_owned(),
                Some(("initrd", "open the initrd /nowhere/initrd", "name a file")),
            ),
        ] {
            match (weighed(&[("anna", &rest)]), reason) {
                (Ok(_), None) => {}
                (Err(refusal), Some((subject, sentence, remedy))) => {
                    let [reason] = &refusal.reasons[..] else { panic!("{refusal:#?}") };
                    assert_eq!((reason.code, reason.subject.as_str()), (ReasonCode::FileUnfit, subject));
                    assert!(reason.sentence.contains(sentence), "{reason:#?}");
                    assert!(reason.remedy.contains(remedy), "{reason:#?}");
                }
                (answer, _) => panic!("{rest}: {answer:#?}"),
            }
        }
    }

    #[test]
    fn what_else_a_seat_needs_is_looked_for_before_anything_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("none.rom"), b"no ROM").unwrap();
        // A ROM whose only image has no length, over which firmware would walk for ever.
        let mut endless = vec![0; 512];
        endless[..3].copy_from_slice(&[0x55, 0xaa, 0]);
        endless[0x18] = 0x1c;
        endless[0x1c..0x24].copy_from_slice(b"PCIR\x13\x10\xb8\x00");
        (endless[0x26], endless[0x31]) = (0x18, 0x80);
        std::fs::write(path("endless.rom"), &endless).unwrap();
        (endless[2], endless[0x2c]) = (1, 1);
        std::fs::write(path("bios.rom"), &endless).unwrap();
        let card = |rom: &str| format!("device = [{{ vendor = \"nvidia\", rom = \"{}\" }}]", path(rom));
        let kernel = "kernel.image = \"/dev/null\"\n";
        // Of a seat with firmware: what this host has of that is another matter.
        for (start, rest, reason) in [
            (kernel, card("nowhere.rom"), Some(("device 1", "No such file"))),
            (kernel, card("endless.rom"), None),
            ("", card("endless.rom"), Some(("device 1", "is not what it says"))),
            (kernel, card("none.rom"), None),
            ("", card("none.rom"), Some(("device 1", "is no option ROM"))),
            (kernel, "network = [{ bridge = \"nowhere0\" }]".to_owned(), Some(("network 1", "no bridge"))),
        ] {
            let answer = weighed(&[("anna", &format!("{start}{rest}"))]);
            let mut reasons = answer.err().map(|refusal| refusal.reasons).unwrap_or_default();
            reasons.retain(|reason| reason.subject != "firmware");
            let told = reasons.first().map(|reason| (reason.subject.as_str(), reason.sentence.as_str()));
            assert_eq!(told.map(|(subject, _)| subject), reason.map(|(subject, _)| subject), "{rest}");
            assert!(told.unwrap_or_default().1.contains(reason.unwrap_or_default().1), "{told:?}");
            assert!(reasons.iter().all(|reason| !reason.remedy.is_empty()), "{reasons:#?}");
        }
        let notices = match weighed(&[("anna", &card("bios.rom"))]) {
            Ok(plan) => plan.notices,
            Err(refusal) => refusal.notices,
        };
        let told = notices.iter().find(|notice| notice.code == NoticeCode::RomOfOtherKind);
        assert!(told.is_some_and(|notice| notice.sentence.contains("no image for UEFI")), "{notices:#?}");
    }

    #[test]
    fn all_reasons_of_all_seats_are_told_beside_the_planner_s() {
        let missing = disk(Path::new("/nowhere/a"), "");
        let refusal = weighed(&[
            ("anna", &format!("{missing}\ndevice = [{{ class = \"serial\" }}]")),
            ("ben", &missing.replace("nowhere", "elsewhere")),
        ]);
        let codes: Vec<_> = refusal.unwrap_err().reasons.iter().map(|reason| reason.code).collect();
        assert_eq!(codes, [ReasonCode::NoMatch, ReasonCode::FileUnfit, ReasonCode::FileUnfit]);
    }

    #[test]
    fn a_disk_under_two_names_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("disk"), folder.path().join("link"));
        std::fs::write(&one, b"a disk").unwrap();
        std::os::unix::fs::symlink(&one, &other).unwrap();
        for (rest, refused) in [("", true), (", read-only = true", false)] {
            let answer = weighed(&[("anna", &disk(&one, rest)), ("ben", &disk(&other, rest))]);
            let codes: Vec<_> = answer.err().into_iter().flat_map(|refusal| refusal.reasons).collect();
            assert_eq!(
                codes.iter().any(|reason| reason.code == ReasonCode::FileInUse),
                refused,
                "{codes:#?}"
            );
        }
    }
}
