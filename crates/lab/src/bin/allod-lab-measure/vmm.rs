//! What is measured: a VMM, its guest and the shape of the machine; and the command line that starts it.
//!
//! Not here: running it; that is [`crate::machine`].

use crate::failure::Failure;
use std::path::{Path, PathBuf};

/// The host's own disk, which holds programs that a guest may want; never written.
const HOST_DISK: &str = "/dev/vda";

/// A VMM under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vmm {
    /// `allod run`.
    Allod,
    /// Debian's QEMU with its q35 board.
    Qemu,
}

/// What the VMM starts.
#[derive(Debug, Clone)]
pub(crate) enum Guest {
    /// A kernel, without firmware.
    Kernel(Kernel),
    /// Firmware with a disk to start from.
    Disk(Firmware, PathBuf),
}

/// Firmware as Debian has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF, its variables in a fresh file.
    Uefi,
}

/// OVMF's code, and a copy of its variables for the VMM that wants a file of them.
pub(crate) const UEFI_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
pub(crate) const UEFI_VARIABLES: &str = "/tmp/greeting.vars";

/// A kernel with what goes with it.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    /// The kernel.
    pub(crate) image: PathBuf,
    /// The initial RAM disk.
    pub(crate) initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub(crate) command_line: String,
    /// Whether it gets the host's own disk, read-only.
    pub(crate) host_disk: bool,
}

/// What the machine is made of, besides one processor and a console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Guest memory in MiB.
    pub(crate) memory_mib: u32,
    /// Whether it comes from the host's reserved 2 MiB pages.
    pub(crate) reserved_pages: bool,
    /// The function of the host that is its first display, and the file of its ROM.
    pub(crate) primary: Option<(String, String)>,
    /// Other functions of the host that it has, by address.
    pub(crate) functions: Vec<String>,
}

/// All that one run is of.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    /// The VMM.
    pub(crate) vmm: Vmm,
    /// Its guest.
    pub(crate) guest: Guest,
    /// The machine.
    pub(crate) shape: Shape,
    /// Where our programs are.
    pub(crate) folder: PathBuf,
}

impl Default for Shape {
    fn default() -> Self {
        Self { memory_mib: 512, reserved_pages: false, primary: None, functions: Vec::new() }
    }
}

impl Shape {
    /// Reads the words `--memory MIB`, `--reserved-pages`, `--primary BDF,ROM` and `--function BDF`.
    pub(crate) fn parse(words: &[String]) -> Result<Self, Failure> {
        let mut shape = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .cloned()
                    .ok_or_else(|| Failure::Usage(format!("`{word}` needs a value behind it")))
            };
            match word.as_str() {
                "--memory" => {
                    let text = value()?;
                    shape.memory_mib =
                        text.parse().map_err(|_| Failure::Usage(format!("`{text}` is no number of MiB")))?;
                }
                "--reserved-pages" => shape.reserved_pages = true,
                "--primary" => {
                    let text = value()?;
                    let (address, rom) = text
                        .split_once(',')
                        .ok_or_else(|| Failure::Usage(format!("`{text}` has no ROM behind a comma")))?;
                    shape.primary = Some((address.to_owned(), rom.to_owned()));
                }
                "--function" => shape.functions.push(value()?),
                other => return Err(Failure::Usage(format!("there is no option `{other}`"))),
            }
        }
        Ok(shape)
    }
}

impl Vmm {
    /// Finds a VMM by the name it has on our command line.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "allod" => Some(Self::Allod),
            "qemu" => Some(Self::Qemu),
            _ => None,
        }
    }

    /// Returns the last part of the path of the program that runs the guest.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Allod => "allod-vmm",
            Self::Qemu => "qemu-system-x86_64",
        }
    }
}

impl Subject {
    /// Returns the command that starts the machine.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = match self.vmm {
            Vmm::Allod => self.allod(),
            Vmm::Qemu => self.qemu(),
        };
        let Guest::Kernel(kernel) = &self.guest else { return words };
        let (dash, cmdline) = match self.vmm {
            Vmm::Allod => ("--", "cmdline"),
            Vmm::Qemu => ("-", "append"),
        };
        words.extend([format!("{dash}kernel"), kernel.image.display().to_string()]);
        if let Some(initrd) = &kernel.initrd {
            words.extend([format!("{dash}initrd"), initrd.display().to_string()]);
        }
        words.extend([format!("{dash}{cmdline}"), kernel.command_line.clone()]);
        words
    }

    fn allod(&self) -> Vec<String> {
        let program = self.folder.join("allod");
        let memory = self.shape.memory_mib;
        let mut line = format!("{} run --no-reboot --no-rng --cpus 1 --memory {memory}M", program.display());
        if self.shape.reserved_pages {
            line.push_str(" --pages 2M");
        }
        match &self.guest {
            Guest::Kernel(Kernel { host_disk: true, .. }) => {
                line.push_str(&format!(" --disk {HOST_DISK},ro"));
            }
            Guest::Kernel(_) => {}
            Guest::Disk(firmware, image) => {
                let name = match firmware {
                    Firmware::Bios => "bios",
                    Firmware::Uefi => "uefi",
                };
                line.push_str(&format!(" --firmware {name} --disk {}", image.display()));
            }
        }
        if let Some((address, rom)) = &self.shape.primary {
            line.push_str(&format!(" --primary {address},rom={rom}"));
        }
        line.extend(self.shape.functions.iter().map(|function| format!(" --device {function}")));
        split(&line)
    }

    fn qemu(&self) -> Vec<String> {
        let memory = self.shape.memory_mib;
        let mut line = format!(
            "qemu-system-x86_64 -M q35 -accel kvm -cpu host -smp 1 -m {memory} -nodefaults -display none -vga none \
             -monitor none -serial stdio -no-reboot"
        );
        if self.shape.reserved_pages {
            line.push_str(&format!(
                " -object memory-backend-memfd,id=ram,size={memory}M,hugetlb=on,hugetlbsize=2M,prealloc=on \
                 -machine memory-backend=ram"
            ));
        }
        match &self.guest {
            Guest::Kernel(Kernel { host_disk: true, .. }) => {
                line.push_str(&format!(" -drive if=virtio,format=raw,readonly=on,file={HOST_DISK}"));
            }
            Guest::Kernel(_) => {}
            Guest::Disk(firmware, image) => {
                line.push_str(&qemu_firmware(*firmware, image, self.shape.primary.is_some()));
            }
        }
        if let Some((address, rom)) = &self.shape.primary {
            line.push_str(&format!(" -device vfio-pci,host={address},x-vga=on,romfile={rom}"));
        }
        line.extend(self.shape.functions.iter().map(|function| format!(" -device vfio-pci,host={function}")));
        split(&line)
    }
}

/// Firmware that talks on the serial port, and its disk, as QEMU's words.
fn qemu_firmware(firmware: Firmware, image: &Path, has_display: bool) -> String {
    let machine = match firmware {
        // SeaBIOS writes there where there is no graphics.
        Firmware::Bios if has_display => String::new(),
        Firmware::Bios => " -machine graphics=off".to_owned(),
        Firmware::Uefi => format!(
            " -drive if=pflash,format=raw,unit=0,readonly=on,file={UEFI_CODE} \
             -drive if=pflash,format=raw,unit=1,file={UEFI_VARIABLES}"
        ),
    };
    let disk = format!("if=none,id=start,format=raw,file={}", image.display());
    format!("{machine} -drive {disk} -device virtio-blk-pci,drive=start,bootindex=0")
}

fn split(line: &str) -> Vec<String> {
    line.split_ascii_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_is_read_from_its_words() {
        let words = |text: &str| split(text);
        let shape =
            Shape::parse(&words("--memory 2048 --reserved-pages --function 01:00.0 --function 02:00.0"));
        let functions = vec!["01:00.0".to_owned(), "02:00.0".to_owned()];
        assert_eq!(
            shape.unwrap(),
            Shape { memory_mib: 2048, reserved_pages: true, primary: None, functions }
        );
        assert_eq!(Shape::parse(&[]).unwrap(), Shape::default());
        let primary = Shape::parse(&words("--primary 00:02.0,/rom")).unwrap().primary;
        assert_eq!(primary, Some(("00:02.0".to_owned(), "/rom".to_owned())));
        for wrong in ["--primary 00:02.0", "--memory", "--memory much", "--function", "--colour red"] {
            Shape::parse(&words(wrong)).unwrap_err();
        }
    }

    #[test]
    fn both_command_lines_hold_the_whole_shape() {
        let shape = Shape {
            memory_mib: 2048,
            reserved_pages: true,
            primary: Some(("00:02.0".into(), "/rom".into())),
            functions: vec!["01:00.0".into()],
        };
        let kernel = Kernel { image: "/k".into(), initrd: None, command_line: "a b".into(), host_disk: true };
        let guest = Guest::Kernel(kernel);
        for (vmm, expected) in [
            (
                Vmm::Allod,
                [
                    "--memory 2048M",
                    "--pages 2M",
                    "--disk /dev/vda,ro",
                    "--primary 00:02.0,rom=/rom",
                    "--device 01:00.0",
                    "--cmdline a b",
                ],
            ),
            (
                Vmm::Qemu,
                [
                    "-m 2048",
                    "hugetlb=on",
                    "file=/dev/vda",
                    "host=00:02.0,x-vga=on,romfile=/rom",
                    "vfio-pci,host=01:00.0",
                    "-append a b",
                ],
            ),
        ] {
            let subject =
                Subject { vmm, guest: guest.clone(), shape: shape.clone(), folder: PathBuf::from("/p") };
            let line = subject.words().join(" ");
            assert!(expected.iter().all(|part| line.contains(part)), "{line}");
        }
    }
}
