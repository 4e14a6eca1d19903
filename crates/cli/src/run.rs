//! `allod run`: one machine from flags, in the foreground, its serial console on the terminal.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use seat::drives::Disk;
use seat::firmware::Firmware;
use seat::functions::Wanted;
use seat::launch::{self, Display, Request, Start, Surroundings};
use seat::network::Network;
use seat::terminal::RawTerminal;
use spec::seat_file::{BootFirst, ClockTime, DiskFormat, DiskKind, FirmwareKind, RomChoice};
use spec::{Bytes, ExitCause, ExitReport, HypervSpec, MemoryBacking, MemorySpec, PciAddress};

/// Run one machine from flags, its serial console on this terminal.
///
/// At a terminal, Ctrl-A x ends the machine and Ctrl-A Ctrl-A types a Ctrl-A.
///
/// Exit status: 0 the guest powered off; 1 the machine could not start or go on (the reason is on standard error);
/// 2 the command line makes no sense; 3 the guest reset itself and --no-reboot was given; 4 it was told to end (Ctrl-A x,
/// control socket, signal).
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The kernel to start without firmware: a bzImage (/boot/vmlinuz-*) or an ELF vmlinux with a PVH entry
    #[arg(long, value_name = "FILE", required_unless_present = "firmware")]
    kernel: Option<PathBuf>,
    /// The initial RAM disk
    #[arg(long, value_name = "FILE", conflicts_with = "firmware")]
    initrd: Option<PathBuf>,
    /// The kernel command line
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "console=ttyS0",
        allow_hyphen_values = true,
        conflicts_with = "firmware"
    )]
    cmdline: String,
    /// The firmware that starts the machine from its disks: SeaBIOS or OVMF
    #[arg(long, value_enum, conflicts_with = "kernel")]
    firmware: Option<FirmwareChoice>,
    /// The firmware's code [default: what Debian's packages seabios and ovmf install]
    #[arg(long, value_name = "FILE", requires = "firmware")]
    firmware_image: Option<PathBuf>,
    /// Where UEFI variables are kept; made when it is missing. Without it, they end with the machine
    #[arg(long, value_name = "FILE", requires = "firmware")]
    vars: Option<PathBuf>,
    /// What the firmware tries to start from first
    #[arg(long, value_enum, requires = "firmware", default_value_t = BootChoice::Disks)]
    boot: BootChoice,
    /// Write what the firmware says on its debug port here
    #[arg(long, value_name = "FILE", requires = "firmware")]
    firmware_log: Option<PathBuf>,
    /// Guest memory, for example 512M or 4G
    #[arg(long, value_name = "SIZE", default_value = "512M")]
    memory: Bytes,
    /// The host pages behind guest memory
    #[arg(long, value_enum, default_value_t = Pages::Transparent)]
    pages: Pages,
    /// Touch all guest memory before the guest runs
    #[arg(long)]
    prefault: bool,
    /// Number of virtual CPUs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    cpus: u32,
    /// A disk: an image or a block device. Behind it: `,ro` lets the guest only read it; `,as=nvme` shows it as an NVMe
    /// disk, for systems without virtio's driver; `,format=raw|qcow2` says what the file is when its name does not. May be
    /// given several times
    #[arg(long, value_name = "FILE[,ro][,as=KIND][,format=FORMAT]", value_parser = disk)]
    disk: Vec<Disk>,
    /// An optical drive with this ISO image in it, which firmware starts from when no disk has anything to start. May be
    /// given several times
    #[arg(long, value_name = "FILE")]
    cdrom: Vec<PathBuf>,
    /// Show the guest Hyper-V's features, which Windows needs to run well; with `=only`, KVM's own are hidden, as some
    /// drivers (NVIDIA's before version 465) demand
    #[arg(long, value_enum, num_args = 0..=1, default_missing_value = "both", require_equals = true)]
    hyperv: Option<HypervChoice>,
    /// The vendor that the processor names in place of Microsoft with --hyperv: twelve characters at most
    #[arg(long, value_name = "NAME", requires = "hyperv", value_parser = vendor)]
    hyperv_vendor: Option<String>,
    /// Let the guest's clock start with this host's local time, as Windows expects
    #[arg(long)]
    local_time: bool,
    /// A network card: on a tap interface, on a bridge, or on the network this user has (passt); may be given several times
    #[arg(long, value_name = "tap=NAME|bridge=NAME|user[,mac=MAC]")]
    net: Vec<Network>,
    /// An emulated graphics card, with the size of picture that its monitor prefers (see `allod screenshot`)
    #[arg(long, value_name = "WxH", num_args = 0..=1, default_missing_value = "1280x800", value_parser = display)]
    display: Option<Display>,
    /// A TPM 2.0 by Debian's swtpm, which keeps its state in this folder; made when it is missing
    #[arg(long, value_name = "FOLDER")]
    tpm: Option<PathBuf>,
    /// A PCI function of this host that the machine is to have, bound to vfio-pci; `,rom=FILE` behind it shows the guest
    /// that option ROM in place of the card's own, `,rom=none` none. May be given several times
    #[arg(long, value_name = "BDF[,rom=FILE|none]", value_parser = device)]
    device: Vec<Wanted>,
    /// The machine's first display: as --device, with the legacy VGA ranges that a BIOS writes to. There is no other VGA in
    /// the machine then
    #[arg(long, value_name = "BDF[,rom=FILE|none]", value_parser = device, conflicts_with = "display")]
    primary: Option<Wanted>,
    /// Leave the entropy device (virtio-rng) out
    #[arg(long)]
    no_rng: bool,
    /// The name shown in messages
    #[arg(long, default_value = "machine")]
    name: String,
    /// Make a control socket here (JSON requests: status, power-button, reset, pause, resume, quit)
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
    /// Write the exit report here, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// End when the guest resets itself, instead of starting it anew
    #[arg(long)]
    no_reboot: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FirmwareChoice {
    /// SeaBIOS
    Bios,
    /// OVMF
    Uefi,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BootChoice {
    /// The disks, then the discs
    Disks,
    /// The discs, then the disks
    Cdrom,
    /// A server on the network, through the machine's network cards; then the disks
    Network,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum HypervChoice {
    /// Beside KVM's own features
    Both,
    /// In place of KVM's own features
    Only,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Pages {
    /// Transparent huge pages where the host has them
    Transparent,
    /// 4 KiB pages only
    Small,
    /// 2 MiB pages from the host's reserved pool
    #[value(name = "2M")]
    Huge2M,
    /// 1 GiB pages from the host's reserved pool
    #[value(name = "1G")]
    Huge1G,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match start_and_wait(arguments) {
        Ok(report) => {
            if let ExitCause::Fault { message } = &report.exit {
                eprintln!("allod: {message}");
            }
            ExitCode::from(report.exit.code())
        }
        Err(error) => {
            eprintln!("allod: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_and_wait(arguments: &Arguments) -> anyhow::Result<ExitReport> {
    // Before the machine runs: a report that cannot be written is no report.
    let file = arguments
        .report
        .as_ref()
        .map(|path| {
            std::fs::File::create(path)
                .map_err(|errno| anyhow::anyhow!("create the report {}: {errno}", path.display()))
        })
        .transpose()?;
    tell_of_roms(arguments);
    let terminal = RawTerminal::of_standard_input();
    let process = launch::start(&request(arguments, terminal.is_some()), Surroundings::terminal()?)?;
    let report = process.wait();
    drop(terminal);
    let report = report?;
    if let Some(mut file) = file {
        writeln!(file, "{}", serde_json::to_string_pretty(&report)?)?;
    }
    Ok(report)
}

/// Says which files in the place of option ROMs the firmware finds nothing in.
fn tell_of_roms(arguments: &Arguments) {
    let Start::Firmware(Firmware { kind, .. }) = start(arguments) else { return };
    for wanted in functions(arguments) {
        let Some(RomChoice::File(path)) = &wanted.rom else { continue };
        if let Some(lack) = seat::rom_file::lacks(path, kind) {
            eprintln!("allod: {lack}, so the machine's firmware runs nothing of it");
        }
    }
}

/// Reads `BDF`, `BDF,rom=FILE` or `BDF,rom=none`.
fn device(text: &str) -> Result<Wanted, String> {
    let (address, rom) = match text.split_once(",rom=") {
        Some((_, "")) => return Err("an option ROM needs a file".to_owned()),
        Some((address, rom)) => (address, Some(RomChoice::from(rom.to_owned()))),
        None => (text, None),
    };
    let address: PciAddress = address.parse().map_err(|error| format!("{error}"))?;
    Ok(Wanted { rom, ..Wanted::from(address) })
}

/// Reads `FILE` with what may stand behind it.
fn disk(text: &str) -> Result<Disk, String> {
    let mut disk = Disk { path: text.into(), read_only: false, format: None, kind: DiskKind::default() };
    let mut path = text;
    // From the end, as a file's name may have commas too.
    while let Some((rest, option)) = path.rsplit_once(',') {
        match option {
            "ro" => disk.read_only = true,
            "as=nvme" => disk.kind = DiskKind::Nvme,
            "as=virtio" => disk.kind = DiskKind::Virtio,
            "format=raw" => disk.format = Some(DiskFormat::Raw),
            "format=qcow2" => disk.format = Some(DiskFormat::Qcow2),
            other if other.starts_with("as=") => {
                return Err("a disk is shown as=virtio or as=nvme".to_owned());
            }
            other if other.starts_with("format=") => {
                return Err("a disk's format is format=raw or format=qcow2".to_owned());
            }
            _ => break,
        }
        path = rest;
    }
    if path.is_empty() {
        return Err("a disk needs a file".to_owned());
    }
    disk.path = path.into();
    Ok(disk)
}

/// Reads `WxH`.
fn display(text: &str) -> Result<Display, String> {
    let sizes =
        text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    match sizes {
        Some((width, height)) if (320..=3840).contains(&width) && (200..=2160).contains(&height) => {
            Ok(Display { width, height, tablet: true })
        }
        _ => Err("a picture is WxH pixels, from 320x200 to 3840x2160".to_owned()),
    }
}

fn vendor(text: &str) -> Result<String, String> {
    // Three registers of four characters.
    if (1..=12).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return Ok(text.to_owned());
    }
    Err("a vendor has 1 to 12 characters of ASCII".to_owned())
}

fn request(arguments: &Arguments, escape: bool) -> Request {
    Request {
        name: arguments.name.clone(),
        cpus: arguments.cpus,
        pins: Vec::new(),
        memory: MemorySpec {
            size: arguments.memory,
            backing: match arguments.pages {
                Pages::Transparent => MemoryBacking::Transparent,
                Pages::Small => MemoryBacking::Small,
                Pages::Huge2M => MemoryBacking::Huge2M,
                Pages::Huge1G => MemoryBacking::Huge1G,
            },
            shared: false,
            prefault: arguments.prefault,
        },
        start: start(arguments),
        rng: !arguments.no_rng,
        disks: arguments.disk.clone(),
        cdroms: arguments.cdrom.clone(),
        hyperv: arguments.hyperv.map(|choice| HypervSpec {
            vendor: arguments.hyperv_vendor.clone(),
            kvm_leaves: matches!(choice, HypervChoice::Both),
        }),
        clock: if arguments.local_time { ClockTime::Local } else { ClockTime::Utc },
        networks: arguments.net.clone(),
        display: arguments.display,
        tpm: arguments.tpm.clone(),
        functions: functions(arguments),
        control: arguments.control.clone(),
        escape,
        end_on_reset: arguments.no_reboot,
    }
}

fn functions(arguments: &Arguments) -> Vec<Wanted> {
    let primary = arguments.primary.iter().map(|wanted| Wanted { primary: true, ..wanted.clone() });
    primary.chain(arguments.device.iter().cloned()).collect()
}

fn start(arguments: &Arguments) -> Start {
    let kind = match arguments.firmware {
        None => {
            return Start::Kernel {
                // The command line has either of the two.
                image: arguments.kernel.clone().unwrap_or_default(),
                initrd: arguments.initrd.clone(),
                command_line: arguments.cmdline.clone(),
            };
        }
        Some(FirmwareChoice::Bios) => FirmwareKind::Bios,
        Some(FirmwareChoice::Uefi) => FirmwareKind::Uefi,
    };
    Start::Firmware(Firmware {
        kind,
        image: arguments.firmware_image.clone(),
        variables: arguments.vars.clone(),
        log: arguments.firmware_log.clone(),
        boot: match arguments.boot {
            BootChoice::Disks => BootFirst::Disks,
            BootChoice::Cdrom => BootFirst::Cdrom,
            BootChoice::Network => BootFirst::Network,
        },
    })
}

#[cfg(test)]
mod tests {
    use spec::seat_file::{DiskFormat, DiskKind, RomChoice};

    use super::{device, disk, display};

    #[test]
    fn a_display_is_a_width_and_a_height() {
        let found = display("1024x768").unwrap();
        assert_eq!((found.width, found.height), (1024, 768));
        for wrong in ["", "x", "1024", "1024x", "0x0", "99999x10", "3841x2160"] {
            display(wrong).unwrap_err();
        }
    }

    #[test]
    fn a_device_is_an_address_and_may_have_another_rom() {
        for (text, address, rom) in [
            ("01:00.0", "0000:01:00.0", None),
            ("0000:0a:00.1,rom=card,2.rom", "0000:0a:00.1", Some(RomChoice::File("card,2.rom".into()))),
            ("0000:0a:00.1,rom=none", "0000:0a:00.1", Some(RomChoice::None)),
        ] {
            let wanted = device(text).unwrap();
            assert_eq!((wanted.address.to_string(), wanted.rom), (address.to_owned(), rom));
        }
        for bad in ["", "01:00", "01:00.0,rom=", "01:00.0,x"] {
            device(bad).unwrap_err();
        }
    }

    #[test]
    fn a_disk_is_a_file_and_how_it_may_be_used() {
        let (virtio, nvme) = (DiskKind::Virtio, DiskKind::Nvme);
        for (text, path, read_only, kind, format) in [
            ("a.img", "a.img", false, virtio, None),
            ("a.img,ro", "a.img", true, virtio, None),
            ("a,b", "a,b", false, virtio, None),
            ("a,b,as=nvme", "a,b", false, nvme, None),
            ("a,format=raw,as=nvme,ro", "a", true, nvme, Some(DiskFormat::Raw)),
            ("a,ro,format=qcow2", "a", true, virtio, Some(DiskFormat::Qcow2)),
        ] {
            let disk = disk(text).unwrap();
            assert_eq!((disk.path.to_str(), disk.read_only), (Some(path), read_only), "{text}");
            assert_eq!((disk.kind, disk.format), (kind, format), "{text}");
        }
        for bad in ["", ",ro", "a,as=ide", "a,format=vmdk", ",as=nvme"] {
            disk(bad).unwrap_err();
        }
    }
}
