//! The commands that start a seat's machine, ours and the peer's, with the same devices, memory and processors. Pure.

use crate::devices::Devices;
use crate::result::Engine;
use spec::plan::SeatPlan;
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
    let processors =
        if seat.cpus.pins.is_empty() { seat.cpus.shared.to_string() } else { list(&seat.cpus.pins) };
    if !processors.is_empty() {
        words.extend(["taskset", "--cpu-list", &processors].map(OsString::from));
    }
    let mebibytes = seat.memory.size.0 >> 20;
    match engine {
        Engine::Qemu => qemu(&mut words, seat.cpus.count, mebibytes, devices, boot),
        Engine::Allod | Engine::Host => allod(&mut words, seat.cpus.count, mebibytes, devices, boot),
    }
    words
}

fn list(numbers: &[u32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    numbers.join(",")
}

fn allod(words: &mut Vec<OsString>, cpus: u32, mebibytes: u64, devices: &Devices, boot: &Boot) {
    words.push(boot.allod.into());
    words.extend(["run", "--kernel"].map(OsString::from));
    words.push(boot.kernel.into());
    words.push("--initrd".into());
    words.push(boot.initrd.into());
    words.extend(["--memory", &format!("{mebibytes}M"), "--cpus", &cpus.to_string()].map(OsString::from));
    words.extend(["--cmdline", CMDLINE].map(OsString::from));
    if let Some(disk) = boot.disk {
        words.push("--disk".into());
        let mut disk = disk.as_os_str().to_owned();
        disk.push(",ro");
        words.push(disk);
    }
    for address in devices.slots.iter().flatten() {
        words.extend(["--device", &address.to_string()].map(OsString::from));
    }
}

fn qemu(words: &mut Vec<OsString>, cpus: u32, mebibytes: u64, devices: &Devices, boot: &Boot) {
    let fixed = "qemu-system-x86_64 -enable-kvm -machine q35 -cpu host -nodefaults -no-user-config -display none \
                 -monitor none -serial stdio -no-reboot";
    words.extend(fixed.split_whitespace().map(OsString::from));
    words.extend(["-smp", &cpus.to_string(), "-m", &format!("{mebibytes}M")].map(OsString::from));
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
        for (function, address) in slot.iter().enumerate() {
            let many = if slot.len() > 1 && function == 0 { ",multifunction=on" } else { "" };
            let device = format!("vfio-pci,host={address},bus=port{number},addr=0.{function}{many}");
            words.extend(["-device", &device].map(OsString::from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spec::plan::Plan;

    /// A plan of the project's own tests would do as well; this one has what matters here.
    fn seat() -> SeatPlan {
        let inventory: spec::inventory::HostInventory =
            serde_json::from_str(include_str!("../../plan/tests/inventories/desktop-two-gpus.json")).unwrap();
        let text = "[[seat]]\nname = \"anna\"\ncpus.count = 2\nmemory.size = \"2GiB\"\n\
                    kernel.image = \"/boot/vmlinuz\"\ndevice = [{ address = \"0000:04:00.0\" }]\n";
        let file = spec::seat_file::SeatFile::parse("seats.toml", text).unwrap();
        let plan: Plan = plan::plan(&inventory, &file, &[], &[]).unwrap();
        plan.seats.into_iter().next().unwrap()
    }

    #[test]
    fn both_engines_get_the_same_seat() {
        let seat = seat();
        let card: Vec<spec::PciAddress> =
            ["0000:04:00.0", "0000:04:00.1"].map(|text| text.parse().unwrap()).into();
        let devices = Devices { slots: vec![card], ..Devices::default() };
        let boot = Boot {
            kernel: Path::new("/k"),
            initrd: Path::new("/i"),
            allod: Path::new("/bin/allod"),
            disk: Some(Path::new("/dev/vda")),
        };
        let words = |engine| {
            let words = command(engine, &seat, &devices, &boot);
            words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        let (allod, qemu) = (words(Engine::Allod), words(Engine::Qemu));
        for line in [&allod, &qemu] {
            assert!(line.starts_with("setpriv --pdeathsig KILL -- taskset --cpu-list "), "{line}");
            assert!(line.contains("2048M") && line.contains("console=ttyS0 quiet"), "{line}");
        }
        assert!(
            allod.contains("--cpus 2 ")
                && allod.contains("--disk /dev/vda,ro ")
                && allod.ends_with("--device 0000:04:00.0 --device 0000:04:00.1"),
            "{allod}"
        );
        assert!(
            qemu.contains("-smp 2") && qemu.contains("host=0000:04:00.0,bus=port0,addr=0.0,multifunction=on"),
            "{qemu}"
        );
        assert!(qemu.contains("file=/dev/vda,format=raw,readonly=on"), "{qemu}");
        assert!(qemu.ends_with("host=0000:04:00.1,bus=port0,addr=0.1"), "{qemu}");
    }
}
