//! The commands that start a seat's machine, ours and the peer's, with the same devices, memory and processors; and that hold
//! the host to those processors. Pure.

use crate::devices::Devices;
use crate::result::Engine;
use spec::plan::SeatPlan;
use spec::seat_file::{PageSize, RomChoice};
use std::ffi::OsString;
use std::path::Path;

/// What the guest boots with, whoever runs it.
const CMDLINE: &str = "console=ttyS0 quiet";

/// What a seat's machine boots.
#[derive(Clone, Debug)]
pub(crate) struct Boot<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initrd: &'a Path,
    /// A disk that each guest may read.
    pub(crate) disk: Option<&'a Path>,
    /// The program `allod`.
    pub(crate) allod: &'a Path,
}

/// Returns program and arguments that run a seat's machine in the foreground, its serial console on standard input and
/// output. Both engines are held to the seat's processors in the same way.
pub(crate) fn command(engine: Engine, seat: &SeatPlan, devices: &Devices, boot: &Boot) -> Vec<OsString> {
    // However the bench ends, no machine stays behind with the devices: Allod's own ends with the program that runs it.
    let mut words: Vec<OsString> = ["setpriv", "--pdeathsig", "KILL", "--"].map(OsString::from).into();
    words.extend(held(seat));
    match engine {
        Engine::Qemu => qemu(&mut words, seat, devices, boot),
        Engine::Allod | Engine::Host => allod(&mut words, seat, devices, boot),
    }
    words
}

/// Returns what stands before a command that is held to a seat's processors. The host's own rounds are held to those of the
/// first seat: free to run anywhere it would be compared with a seat that is not.
pub(crate) fn held(seat: &SeatPlan) -> Vec<OsString> {
    let processors =
        if seat.cpus.pins.is_empty() { seat.cpus.shared.to_string() } else { list(&seat.cpus.pins) };
    match processors.is_empty() {
        true => Vec::new(),
        false => ["taskset", "--cpu-list", &processors].map(OsString::from).into(),
    }
}

fn mebibytes(seat: &SeatPlan) -> u64 {
    seat.memory.size.0 >> 20
}

fn list(numbers: &[u32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    numbers.join(",")
}

fn allod(words: &mut Vec<OsString>, seat: &SeatPlan, devices: &Devices, boot: &Boot) {
    words.push(boot.allod.into());
    words.extend(["run", "--kernel"].map(OsString::from));
    words.push(boot.kernel.into());
    words.push("--initrd".into());
    words.push(boot.initrd.into());
    let (memory, cpus) = (format!("{}M", mebibytes(seat)), seat.cpus.count.to_string());
    words.extend(["--memory", &memory, "--cpus", &cpus].map(OsString::from));
    let pages = match seat.memory.pages {
        PageSize::Transparent => "transparent",
        PageSize::Small => "small",
        PageSize::Huge2M => "2M",
        PageSize::Huge1G => "1G",
    };
    words.extend(["--pages", pages].map(OsString::from));
    words.extend(["--cmdline", CMDLINE].map(OsString::from));
    if let Some(disk) = boot.disk {
        words.push("--disk".into());
        let mut disk = disk.as_os_str().to_owned();
        disk.push(",ro");
        words.push(disk);
    }
    for (address, rom) in devices.slots.iter().flatten() {
        let rom = rom.as_ref().map_or(String::new(), |rom| format!(",rom={}", String::from(rom.clone())));
        words.extend(["--device", &format!("{address}{rom}")].map(OsString::from));
    }
}

fn qemu(words: &mut Vec<OsString>, seat: &SeatPlan, devices: &Devices, boot: &Boot) {
    let fixed = "qemu-system-x86_64 -enable-kvm -machine q35 -cpu host -nodefaults -no-user-config -display none \
                 -monitor none -serial stdio -no-reboot";
    words.extend(fixed.split_whitespace().map(OsString::from));
    let (memory, cpus) = (format!("{}M", mebibytes(seat)), seat.cpus.count.to_string());
    words.extend(["-smp", &cpus, "-m", &memory].map(OsString::from));
    let reserved = match seat.memory.pages {
        // QEMU asks for transparent huge pages by itself, and has no switch against them.
        PageSize::Transparent | PageSize::Small => None,
        PageSize::Huge2M => Some("2M"),
        PageSize::Huge1G => Some("1G"),
    };
    if let Some(size) = reserved {
        let pool = format!("memory-backend-memfd,id=memory,size={memory},hugetlb=on,hugetlbsize={size}");
        words.extend(["-object", &pool, "-machine", "memory-backend=memory"].map(OsString::from));
    }
    words.push("-kernel".into());
    words.push(boot.kernel.into());
    words.push("-initrd".into());
    words.push(boot.initrd.into());
    words.extend(["-append", CMDLINE].map(OsString::from));
    if let Some(disk) = boot.disk {
        let disk = disk.to_string_lossy().replace(',', ",,");
        words.push("-drive".into());
        words.push(format!("file={disk},format=raw,readonly=on,file.locking=off,if=virtio").into());
    }
    for (number, slot) in devices.slots.iter().enumerate() {
        let port = format!("pcie-root-port,id=port{number},chassis={number},slot={number}");
        words.extend(["-device", &port].map(OsString::from));
        for (function, (address, rom)) in slot.iter().enumerate() {
            let many = if slot.len() > 1 && function == 0 { ",multifunction=on" } else { "" };
            let rom = match rom {
                None => String::new(),
                Some(RomChoice::None) => ",rombar=0".to_owned(),
                Some(RomChoice::File(file)) => {
                    format!(",romfile={}", file.to_string_lossy().replace(',', ",,"))
                }
            };
            let device = format!("vfio-pci,host={address},bus=port{number},addr=0.{function}{many}{rom}");
            words.extend(["-device", &device].map(OsString::from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spec::plan::Plan;

    /// A plan of the project's own tests would do as well; this one has what matters here.
    fn seat(pages: &str) -> SeatPlan {
        let inventory: spec::inventory::HostInventory =
            serde_json::from_str(include_str!("../../plan/tests/inventories/desktop-two-gpus.json")).unwrap();
        let text = format!(
            "[[seat]]\nname = \"anna\"\ncpus.count = 2\nmemory = {{ size = \"2GiB\", pages = \"{pages}\" }}\n\
             kernel.image = \"/boot/vmlinuz\"\ndevice = [{{ address = \"0000:04:00.0\" }}]\n"
        );
        let file = spec::seat_file::SeatFile::parse("seats.toml", &text).unwrap();
        let plan: Plan = plan::plan(&inventory, &file, &[], &[]).unwrap();
        plan.seats.into_iter().next().unwrap()
    }

    /// Returns the command of a seat with these pages, as one line.
    fn line(engine: Engine, pages: &str) -> String {
        let given = |(address, rom): (&str, Option<&str>)| {
            (address.parse().unwrap(), rom.map(|rom| RomChoice::from(rom.to_owned())))
        };
        let card = [("0000:04:00.0", Some("/roms/a,b")), ("0000:04:00.1", None)].map(given);
        let other = [("0000:05:00.0", Some("none"))].map(given);
        let devices = Devices { slots: vec![card.into(), other.into()], ..Devices::default() };
        let boot = Boot {
            kernel: Path::new("/k"),
            initrd: Path::new("/i"),
            allod: Path::new("/bin/allod"),
            disk: Some(Path::new("/dev/vda")),
        };
        let words = command(engine, &seat(pages), &devices, &boot);
        words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn both_engines_get_the_same_seat() {
        let (allod, qemu) = (line(Engine::Allod, "transparent"), line(Engine::Qemu, "transparent"));
        for line in [&allod, &qemu] {
            assert!(line.starts_with("setpriv --pdeathsig KILL -- taskset --cpu-list "), "{line}");
            assert!(line.contains("2048M") && line.contains("console=ttyS0 quiet"), "{line}");
        }
        assert!(
            allod.contains("--cpus 2 ")
                && allod.contains("--disk /dev/vda,ro ")
                && allod.ends_with(
                    "--device 0000:04:00.0,rom=/roms/a,b --device 0000:04:00.1 --device 0000:05:00.0,rom=none"
                ),
            "{allod}"
        );
        assert!(
            qemu.contains("-smp 2")
                && qemu.contains("host=0000:04:00.0,bus=port0,addr=0.0,multifunction=on,romfile=/roms/a,,b ")
                && qemu.contains("host=0000:04:00.1,bus=port0,addr=0.1 "),
            "{qemu}"
        );
        assert!(qemu.contains("file=/dev/vda,format=raw,readonly=on"), "{qemu}");
        assert!(qemu.ends_with("host=0000:05:00.0,bus=port1,addr=0.0,rombar=0"), "{qemu}");
    }

    #[test]
    fn a_seat_s_pages_are_those_it_asks_for() {
        for (pages, own, peer) in [
            ("transparent", "--pages transparent ", None),
            ("4KiB", "--pages small ", None),
            ("2MiB", "--pages 2M ", Some("hugetlbsize=2M -machine memory-backend=memory ")),
            ("1GiB", "--pages 1G ", Some("hugetlbsize=1G -machine memory-backend=memory ")),
        ] {
            assert!(line(Engine::Allod, pages).contains(own), "{pages}");
            let qemu = line(Engine::Qemu, pages);
            assert_eq!(qemu.contains("memory-backend"), peer.is_some(), "{pages}: {qemu}");
            assert!(peer.is_none_or(|peer| qemu.contains(peer)), "{pages}: {qemu}");
        }
    }

    #[test]
    fn the_host_is_held_to_the_processors_of_a_seat() {
        let before = held(&seat("transparent")).join(std::ffi::OsStr::new(" "));
        assert!(line(Engine::Allod, "transparent").contains(before.to_str().unwrap()), "{before:?}");
        assert!(before.to_str().unwrap().starts_with("taskset --cpu-list "), "{before:?}");
    }
}
