//! Turns a profile into QEMU's command line. Pure: nothing is started or looked at.

use crate::profile::{Card, Iommu, Part, Port, Profile};
use crate::wire::{PORT_COUNT, PORT_PREFIX};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// First slot of the root bus given to cards; below it lie QEMU's own devices.
const FIRST_SLOT: u32 = 2;
/// Slots of the lab's own devices on the root bus, out of the way of cards (0x1f is the chipset).
const OWN_DISK_SLOT: u32 = 0x1e;
const OWN_LINE_SLOT: u32 = 0x1d;
const OWN_SHARE_SLOT: u32 = 0x1c;
const OWN_PROGRAMS_SLOT: u32 = 0x1b;

/// Start-up work of the kernel that an emulated processor is slow at and a lab has no use for: certificates for
/// module signatures, and the self-test of a random number generator.
const NEEDLESS_INITCALLS: &str = "load_system_certificate_list,jent_mod_init";

/// Files and sockets of one start.
#[derive(Debug, Clone)]
pub struct Places {
    /// Folder of this run: sockets, logs, drives.
    pub run: PathBuf,
    /// The kernel.
    pub kernel: PathBuf,
    /// The RAM disk, our init included.
    pub initrd: PathBuf,
    /// The root file system.
    pub rootfs: PathBuf,
    /// A folder to be visible at `/share`.
    pub share: Option<PathBuf>,
    /// The folder of our programs, visible at `/opt/allod`.
    pub programs: Option<PathBuf>,
}

impl Places {
    /// Returns the control socket.
    pub fn control(&self) -> PathBuf {
        self.run.join("qmp")
    }

    /// Returns the socket of a port of the line to init.
    pub fn port(&self, number: usize) -> PathBuf {
        self.run.join(format!("port{number}"))
    }

    /// Returns the log of the kernel's console.
    pub fn console(&self) -> PathBuf {
        self.run.join("console.log")
    }

    /// Returns the log of what the emulator says for itself.
    pub fn emulator_log(&self) -> PathBuf {
        self.run.join("emulator.log")
    }

    /// Returns the file of a drive.
    pub fn drive(&self, id: &str) -> PathBuf {
        self.run.join(format!("{id}.drive"))
    }

    /// Returns the folder of what a server offers to a network card.
    pub fn served(&self, id: &str) -> PathBuf {
        self.run.join(format!("{id}.served"))
    }

    /// Returns the file of an option ROM that was made for a card.
    pub fn rom(&self, id: &str) -> PathBuf {
        self.run.join(format!("{id}.rom"))
    }

    /// Returns the file a sound card's output goes to.
    pub fn sound(&self, id: &str) -> PathBuf {
        self.run.join(format!("{id}.wav"))
    }
}

/// The name of the file that servers offer to start from.
pub(crate) const SERVED: &str = "start";

/// How the emulator keeps time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// As fast as it can.
    Wall,
    /// One nanosecond per instruction, so that figures repeat; time in which nothing computes is leapt over.
    Instructions,
    /// The same, but time in which nothing computes passes as on a wall: what the emulator does for a device meanwhile,
    /// a transfer of a disk or of the network, takes the time it takes.
    InstructionsRealIdle,
}

impl Clock {
    /// Returns QEMU's `-icount` value (its manual, invocation, "-icount"); none for its ordinary clock.
    fn icount(self) -> Option<&'static str> {
        match self {
            Self::Wall => None,
            Self::Instructions => Some("shift=0,sleep=off"),
            Self::InstructionsRealIdle => Some("shift=0,sleep=on"),
        }
    }
}

/// Returns the drives a profile needs: name and size in MiB.
pub fn drives(profile: &Profile) -> Vec<(String, u32)> {
    let parts = profile.parts.iter().chain(profile.cards.iter().flat_map(|card| &card.plugged));
    let of_parts = parts.filter_map(|part| Some((part.id.clone(), part.drive_mib?)));
    profile.cards.iter().filter_map(|card| Some((card.id.clone(), card.drive_mib?))).chain(of_parts).collect()
}

/// Returns QEMU's arguments for a host.
pub fn arguments(profile: &Profile, places: &Places, clock: Clock) -> Vec<OsString> {
    let mut line = Line::default();
    board(&mut line, profile, clock);
    own_devices(&mut line, places);
    for (id, size_mib) in drives(profile) {
        if let Some(card) = profile.card(&id).filter(|card| card.null_drive) {
            let latency_ns = u64::from(card.answers_after_us) * 1000;
            line.pair(
                "-drive",
                format!(
                    "id=drive-{id},if=none,driver=null-co,read-zeroes=on,latency-ns={latency_ns},size={size_mib}M"
                ),
            );
            continue;
        }
        line.path_option(
            "-drive",
            &format!("id=drive-{id},if=none,format=raw,discard=unmap,"),
            "file=",
            &places.drive(&id),
        );
    }
    for part in &profile.parts {
        line.device(&part_words(part, None));
    }
    cards(&mut line, profile, places);
    line.pair("-kernel", &places.kernel);
    line.pair("-initrd", &places.initrd);
    line.pair("-append", kernel_parameters(profile));
    line.words
}

/// An argument list in the making.
#[derive(Default)]
struct Line {
    words: Vec<OsString>,
}

impl Line {
    fn pair(&mut self, option: &str, value: impl Into<OsString>) {
        self.words.push(option.into());
        self.words.push(value.into());
    }

    fn device(&mut self, words: &str) {
        self.pair("-device", words);
    }

    /// Adds an option that ends in a path; QEMU wants commas in values doubled.
    fn path_option(&mut self, option: &str, words: &str, key: &str, path: &Path) {
        let path = path.to_string_lossy().replace(',', ",,");
        self.pair(option, format!("{words}{key}{path}"));
    }
}

fn board(line: &mut Line, profile: &Profile, clock: Clock) {
    // Keys must reach the USB keyboard of a seat, not a PS/2 one that nobody assigned.
    line.pair("-machine", "q35,kernel-irqchip=split,i8042=off");
    match clock.icount() {
        None => {
            // Several processors on a thread each trip assertions of QEMU's (seen: iotlb_to_section) and lose timers.
            let threads = if profile.cpus > 1 { "tcg,thread=single" } else { "tcg,thread=multi" };
            line.pair("-accel", threads);
            line.pair("-cpu", "max,+svm,+npt");
        }
        Some(icount) => {
            line.pair("-accel", "tcg,thread=single");
            line.pair("-icount", icount);
            // With these two the kernel clears a page by one "instruction" per byte, which no processor pays.
            line.pair("-cpu", "max,+svm,+npt,-erms,-fsrm");
        }
    }
    line.pair("-smp", profile.cpus.to_string());
    line.pair("-m", profile.memory_mib.to_string());
    for option in ["-nodefaults", "-no-user-config", "-no-reboot"] {
        line.words.push(option.into());
    }
    // Drawing in three dimensions needs a display to draw for, even one that nobody sees.
    line.pair("-display", if profile.draws() { "sdl,gl=on" } else { "none" });
    line.pair("-vga", "none");
    line.pair("-monitor", "none");
    match profile.iommu {
        Iommu::Intel => line.device("intel-iommu,intremap=on,caching-mode=on"),
        Iommu::Amd => line.device("amd-iommu,intremap=on"),
        Iommu::None => {}
    }
    // Slots act as those of real boards do; QEMU's default would move cards by ACPI instead.
    line.pair("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off");
}

/// The lab's own disk, line, share and console.
fn own_devices(line: &mut Line, places: &Places) {
    line.path_option("-chardev", "file,id=console,", "path=", &places.console());
    line.pair("-serial", "chardev:console");
    line.path_option("-qmp", "", "unix:", &places.control());
    if let Some(last) = line.words.last_mut() {
        last.push(",server=on,wait=off");
    }
    line.path_option(
        "-drive",
        "id=root,if=none,format=raw,readonly=on,file.locking=off,",
        "file=",
        &places.rootfs,
    );
    line.device(&format!("virtio-blk-pci,drive=root,addr={OWN_DISK_SLOT:#x}"));
    line.device(&format!("virtio-serial-pci,id=line,addr={OWN_LINE_SLOT:#x}"));
    for number in 0..PORT_COUNT {
        let id = format!("port{number}");
        line.path_option(
            "-chardev",
            &format!("socket,id={id},server=on,wait=off,"),
            "path=",
            &places.port(number),
        );
        // Port 0 of the bus is kept for consoles.
        let nr = number + 1;
        line.device(&format!("virtserialport,bus=line.0,nr={nr},chardev={id},name={PORT_PREFIX}{number}"));
    }
    let shares = [
        (&places.share, "share", OWN_SHARE_SLOT, ""),
        (&places.programs, "programs", OWN_PROGRAMS_SLOT, "readonly=on,"),
    ];
    for (folder, tag, slot, access) in shares {
        let Some(folder) = folder else { continue };
        line.path_option(
            "-fsdev",
            &format!("local,id={tag},security_model=none,multidevs=remap,{access}"),
            "path=",
            folder,
        );
        line.device(&format!("virtio-9p-pci,fsdev={tag},mount_tag={tag},addr={slot:#x}"));
    }
}

fn kernel_parameters(profile: &Profile) -> String {
    let iommu = match profile.iommu {
        Iommu::Intel => "intel_iommu=on iommu=pt",
        Iommu::Amd => "amd_iommu=on iommu=pt",
        Iommu::None => "",
    };
    // panic=-1 with -no-reboot: a panic ends the emulator at once. The emulated timer works, but on a busy machine its
    // ticks come too late for the check (arch/x86/kernel/apic/io_apic.c, timer_irq_works), which would then panic.
    let mut words = format!(
        "console=ttyS0 quiet panic=-1 no_timer_check initcall_blacklist={NEEDLESS_INITCALLS} {iommu}"
    );
    if !profile.modules.is_empty() {
        words.push_str(&format!(" lab.modules={}", profile.modules.join(",")));
    }
    if let Some(name) = &profile.rebuilt_modules {
        words.push_str(&format!(" lab.rebuilt={name}"));
    }
    for word in &profile.kernel_parameters {
        words.push_str(&format!(" {word}"));
    }
    words
}

fn cards(line: &mut Line, profile: &Profile, places: &Places) {
    let mut slot = FIRST_SLOT;
    let mut bridges = BTreeSet::new();
    let mut on_root_bus = BTreeMap::new();
    for card in &profile.cards {
        let place = match &card.port {
            Port::RootBus => {
                on_root_bus.insert(&card.id, slot);
                slot += 1;
                format!("bus=pcie.0,addr={:#x}", slot - 1)
            }
            Port::OwnRootPort => {
                root_port(line, &card.id, &mut slot);
                format!("bus=port-{},addr=0x0", card.id)
            }
            Port::WithCard(first) => match on_root_bus.get(first) {
                Some(slot) => format!("bus=pcie.0,addr={slot:#x}"),
                None => format!("bus=port-{first},addr=0x0"),
            },
            Port::Bridge(bridge) => {
                if bridges.insert(bridge) {
                    root_port(line, bridge, &mut slot);
                    line.device(&format!("pcie-pci-bridge,id={bridge},bus=port-{bridge}"));
                }
                let nth = profile.cards.iter().filter(|other| other.port == card.port);
                let position = nth.take_while(|other| other.id != card.id).count() + 1;
                format!("bus={bridge},addr={position:#x}")
            }
        };
        card_device(line, card, &place, places);
    }
}

fn root_port(line: &mut Line, name: &str, slot: &mut u32) {
    line.device(&format!(
        "pcie-root-port,id=port-{name},chassis={slot},slot={slot},bus=pcie.0,addr={slot:#x}"
    ));
    *slot += 1;
}

fn card_device(line: &mut Line, card: &Card, place: &str, places: &Places) {
    let id = &card.id;
    let mut words = format!("{},id={id},{place}", card.device);
    match card.function {
        Some(0) => words.push_str(".0,multifunction=on"),
        Some(number) => words.push_str(&format!(".{number:#x}")),
        None => {}
    }
    if card.drive_mib.is_some() {
        words.push_str(&format!(",drive=drive-{id}"));
    }
    if card.network {
        let network = format!("user,id=net-{id}");
        if card.served {
            let offer = format!("{network},bootfile={SERVED},");
            line.path_option("-netdev", &offer, "tftp=", &places.served(id));
        } else {
            line.pair("-netdev", network);
        }
        words.push_str(&format!(",netdev=net-{id}"));
    }
    if card.audio {
        line.path_option("-audiodev", &format!("wav,id=sound-{id},"), "path=", &places.sound(id));
        // A sound card with codecs leaves the output to them.
        if card.plugged.is_empty() {
            words.push_str(&format!(",audiodev=sound-{id}"));
        }
    }
    push_options(&mut words, &card.options);
    if card.lying_rom.is_some() {
        line.path_option("-device", &format!("{words},"), "romfile=", &places.rom(id));
    } else {
        line.device(&words);
    }
    for part in &card.plugged {
        let mut words = part_words(part, Some(id));
        if card.audio {
            words.push_str(&format!(",audiodev=sound-{id}"));
        }
        line.device(&words);
    }
}

fn part_words(part: &Part, card: Option<&str>) -> String {
    let mut words = format!("{},id={}", part.device, part.id);
    if let Some(card) = card {
        // QEMU names the first bus of a device after the device.
        words.push_str(&format!(",bus={card}{}", if part.device == "nvme-ns" { "" } else { ".0" }));
    }
    if part.drive_mib.is_some() {
        words.push_str(&format!(",drive=drive-{}", part.id));
    }
    if let Some(display) = &part.display {
        words.push_str(&format!(",display={display}"));
    }
    push_options(&mut words, &part.options);
    words
}

fn push_options(words: &mut String, options: &str) {
    if !options.is_empty() {
        words.push(',');
        words.push_str(options);
    }
}
