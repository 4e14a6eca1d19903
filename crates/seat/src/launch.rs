//! Starting `allod-vmm`: everything the machine may use is opened here and inherited by the process.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::SystemTime;

use linux::sysfs::DirectoryTree;
use rustix::io::FdFlags;
use spec::seat_file::{BootFirst, ClockTime, DiskFormat};
use spec::{
    Bytes, ConsoleSpec, DiskSpec, DisplaySpec, ExitReport, FirmwareSpec, HypervSpec, InheritedFd, KernelSpec,
    MachineSpec, MemorySpec,
};

use crate::companion::Companion;
use crate::confine::Confinement;
use crate::drives::{self, Disk, DriveUnfit};
use crate::firmware::{Firmware, FirmwareUnfit, OpenFirmware};
use crate::functions::{self, CannotAssign, OpenFunctions, Wanted};
use crate::network::{Network, NoNetwork, OpenNetwork, Starter};
use crate::tpm::{self, NoTpm};

/// One machine, by the names of what it uses.
#[derive(Clone, Debug)]
pub struct Request {
    /// The name shown in messages.
    pub name: String,
    /// Number of vCPUs.
    pub cpus: u32,
    /// The host processors that vCPUs 0, 1 and so on run on and nowhere else; those past its end run anywhere.
    pub pins: Vec<u32>,
    /// Guest memory.
    pub memory: MemorySpec,
    /// What it starts.
    pub start: Start,
    /// Whether there is an entropy device.
    pub rng: bool,
    /// Disks, in the order in which the guest finds them.
    pub disks: Vec<Disk>,
    /// ISO images in optical drives, in the order in which the guest finds them.
    pub cdroms: Vec<PathBuf>,
    /// What it shows of Hyper-V.
    pub hyperv: Option<HypervSpec>,
    /// Which time its clock shows.
    pub clock: ClockTime,
    /// Virtual network cards, in the order in which the guest finds them.
    pub networks: Vec<Network>,
    /// Its emulated graphics card.
    pub display: Option<Display>,
    /// The folder where its TPM keeps its state; made when it is not there. Without a name it has no TPM.
    pub tpm: Option<PathBuf>,
    /// Functions of the host that it is to have.
    pub functions: Vec<Wanted>,
    /// Where to make the control socket.
    pub control: Option<PathBuf>,
    /// Whether a person sits at the console, so that it has an escape.
    pub escape: bool,
    /// Whether a reset ends the machine.
    pub end_on_reset: bool,
}

/// What a machine starts, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// A kernel, without firmware.
    Kernel {
        /// The kernel image.
        image: PathBuf,
        /// The initial RAM disk.
        initrd: Option<PathBuf>,
        /// The kernel command line.
        command_line: String,
    },
    /// Firmware.
    Firmware(Firmware),
}

/// An emulated graphics card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Display {
    /// Width of the picture that its monitor prefers, in pixels.
    pub width: u16,
    /// Height of it.
    pub height: u16,
    /// Whether a tablet (virtio-input) comes with it.
    pub tablet: bool,
}

/// A machine could not be started, or its process did not tell how it ended.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// `/dev/kvm` is not there.
    #[error(
        "this host has no /dev/kvm, so no machine can run on it; load the module (`modprobe kvm_amd` or `modprobe kvm_intel`), and if that fails switch virtualisation (SVM or VT-x) on in the firmware setup"
    )]
    NoKvm,
    /// `/dev/kvm` is for others.
    #[error(
        "this user may not open /dev/kvm; join its group with `sudo usermod -aG kvm $USER` and log in again"
    )]
    KvmDenied,
    /// A file could not be opened.
    #[error("open the {what} {}: {errno}", path.display())]
    Open {
        /// What it is to the machine.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// What the kernel said.
        errno: std::io::Error,
    },
    /// The firmware cannot be had.
    #[error(transparent)]
    Firmware(#[from] FirmwareUnfit),
    /// A disk or disc cannot be had.
    #[error(transparent)]
    Drive(#[from] DriveUnfit),
    /// A network card has no wire.
    #[error(transparent)]
    Network(#[from] NoNetwork),
    /// The TPM cannot be had.
    #[error(transparent)]
    Tpm(#[from] NoTpm),
    /// The functions cannot be assigned.
    #[error(transparent)]
    Functions(#[from] CannotAssign),
    /// More memory than the host has.
    #[error(
        "the machine wants {wanted} of memory and this host has {present}; give it less, and leave some for the host itself"
    )]
    TooMuchMemory {
        /// Asked for.
        wanted: Bytes,
        /// The host's.
        present: Bytes,
    },
    /// The control socket could not be made.
    #[error("make the control socket {}: {errno}; its folder must exist, and no other machine may use the name", path.display())]
    ControlSocket {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        errno: std::io::Error,
    },
    /// The VMM's binary could not be started.
    #[error("start {}: {errno}; it belongs next to the `allod` binary", path.display())]
    Spawn {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        errno: std::io::Error,
    },
    /// Something that never fails on a healthy host did.
    #[error("{what}: {errno}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        errno: std::io::Error,
    },
    /// The process could not be confined.
    #[error("confine the machine's process: {what}: {errno}")]
    Confine {
        /// What was tried.
        what: String,
        /// What the kernel said.
        errno: std::io::Error,
    },
    /// The process ended without a report.
    #[error("the machine's process ended without a report ({how}); what it wrote to standard error is above")]
    NoReport {
        /// Exit status or signal.
        how: String,
        /// The signal, where it was one.
        signal: Option<i32>,
    },
}

/// A running machine's process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    companions: Vec<Companion>,
    report: File,
    control: Option<PathBuf>,
}

/// What a machine's process has around it.
#[derive(Debug)]
pub struct Surroundings {
    /// Where the console's input comes from.
    pub input: OwnedFd,
    /// Where its output goes.
    pub output: OwnedFd,
    /// Where the process's standard error goes; none: to this process's own.
    pub errors: Option<OwnedFd>,
    /// What it is shut into beside what it shuts itself into; none: it stays as this process is.
    pub confinement: Option<Confinement>,
}

impl Surroundings {
    /// This process's standard input, output and error.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn terminal() -> Result<Self, LaunchError> {
        let (input, output) = (duplicate(std::io::stdin())?, duplicate(std::io::stdout())?);
        Ok(Self { input, output, errors: None, confinement: None })
    }
}

/// Starts the machine.
///
/// # Errors
/// Everything that stands in its way; nothing runs then.
pub fn start(request: &Request, surroundings: Surroundings) -> Result<Process, LaunchError> {
    let Surroundings { input, output, errors, confinement } = surroundings;
    check_memory(request.memory.size)?;
    let functions = open_functions(request)?;
    let kvm = open_kvm()?;
    let start = open_start(&request.start)?;
    let disks = request.disks.iter().map(Disk::open).collect::<Result<Vec<_>, _>>()?;
    let cdroms = request.cdroms.iter().map(|path| drives::open_disc(path)).collect::<Result<Vec<_>, _>>()?;
    let (mut companions, networks) = open_networks(request, errors.as_ref(), confinement.as_ref())?;
    let tpm_socket = start_tpm(request, errors.as_ref(), confinement.as_ref(), &mut companions)?;
    // Debian's package `seabios` has it. A kernel that is started without firmware does without.
    let display_rom = request.display.and_then(|_| File::open(DISPLAY_ROM).ok()).map(OwnedFd::from);
    let control = request.control.as_deref().map(listen).transpose()?;
    let (report, report_end) = pipe()?;
    let (spec_end, spec_writer) = pipe()?;

    let spec = MachineSpec {
        name: request.name.clone(),
        kvm: number(&kvm),
        cpus: request.cpus,
        pins: request.pins.clone(),
        memory: request.memory,
        kernel: start.kernel(),
        firmware: start.firmware(),
        rng: request.rng,
        disks: disk_specs(&request.disks, &disks),
        cdroms: cdroms.iter().map(number).collect(),
        hyperv: request.hyperv.clone(),
        utc_offset_s: utc_offset_s(request.clock),
        networks: networks.iter().map(OpenNetwork::spec).collect(),
        display: request.display.map(|display| DisplaySpec {
            width: display.width,
            height: display.height,
            tablet: display.tablet,
            rom: display_rom.as_ref().map(number),
        }),
        tpm: tpm_socket.as_ref().map(number),
        assigned: functions.as_ref().map(OpenFunctions::spec),
        console: ConsoleSpec {
            input: Some(number(&input)),
            output: Some(number(&output)),
            escape: request.escape,
        },
        control: control.as_ref().map(number),
        report: Some(number(&report_end)),
        end_on_reset: request.end_on_reset,
        confined: true,
        starter: Some(std::process::id()),
    };
    let inherited = [&kvm, &input, &output].into_iter().chain(&control).chain(&display_rom);
    let inherited = inherited.chain(networks.iter().flat_map(OpenNetwork::files));
    let assigned = functions.iter().flat_map(OpenFunctions::files);
    for fd in inherited
        .chain(start.files())
        .chain(disks.iter().map(|(file, _)| file))
        .chain(&cdroms)
        .chain(&tpm_socket)
        .chain(assigned)
        .chain([&report_end, &spec_end])
    {
        rustix::io::fcntl_setfd(fd, FdFlags::empty()).map_err(kernel("fcntl"))?;
    }

    let child = spawn(&spec_end, errors, confinement.as_ref())?;
    let mut process = Process { child, companions, report: report.into(), control: request.control.clone() };
    if let Some(confinement) = &confinement
        && let Err(error) = confinement.hold(process.id())
    {
        // It has read nothing and done nothing yet.
        process.kill();
        return Err(error);
    }
    let text = serde_json::to_string(&spec).map_err(kernel("write the machine spec"))?;
    // A process that is gone already leaves its reason in the report or its exit status.
    let _ = File::from(spec_writer).write_all(text.as_bytes());
    Ok(process)
}

fn disk_specs(disks: &[Disk], open: &[(OwnedFd, DiskFormat)]) -> Vec<DiskSpec> {
    let spec = |(disk, (file, format)): (&Disk, &(OwnedFd, DiskFormat))| DiskSpec {
        name: disk.path.display().to_string(),
        file: number(file),
        format: *format,
        shown: disk.kind,
        read_only: disk.read_only,
    };
    disks.iter().zip(open).map(spec).collect()
}

/// How far ahead of universal time a clock that shows this begins.
fn utc_offset_s(clock: ClockTime) -> i32 {
    match clock {
        ClockTime::Utc => 0,
        ClockTime::Local => linux::zone::utc_offset_s(SystemTime::now()),
    }
}

/// Opens the machine's network cards, and gives the programs behind them, shut in as the machine is. They come first: when all
/// this is dropped, the wires go before what is at their other ends.
fn open_networks(
    request: &Request,
    errors: Option<&OwnedFd>,
    confinement: Option<&Confinement>,
) -> Result<(Vec<Companion>, Vec<OpenNetwork>), LaunchError> {
    let user = confinement.and_then(|confinement| confinement.user);
    let (mut programs, mut networks) = (Vec::new(), Vec::new());
    for (index, network) in request.networks.iter().enumerate() {
        let starter = Starter { user, errors: errors.map(duplicate).transpose()? };
        let mut open = OpenNetwork::open(network, &request.name, index, starter)?;
        if let Some(program) = open.take_program() {
            programs.push(Companion::new(program, confinement)?);
        }
        networks.push(open);
    }
    if let Start::Firmware(Firmware { kind, boot: BootFirst::Network, .. }) = request.start {
        networks.iter_mut().try_for_each(|network| network.open_rom(kind))?;
    }
    Ok((programs, networks))
}

/// Starts the machine's TPM, if it is to have one, shut in as the machine is; gives the socket to it.
fn start_tpm(
    request: &Request,
    errors: Option<&OwnedFd>,
    confinement: Option<&Confinement>,
    companions: &mut Vec<Companion>,
) -> Result<Option<OwnedFd>, LaunchError> {
    let Some(folder) = &request.tpm else { return Ok(None) };
    let errors = errors.map(duplicate).transpose()?;
    let user = confinement.and_then(|confinement| confinement.user);
    let (tpm, socket) = tpm::start(folder, user, errors)?;
    companions.push(Companion::new(tpm, confinement)?);
    Ok(Some(socket))
}

/// What the machine starts, open.
enum OpenStart {
    Kernel { image: OwnedFd, initrd: Option<OwnedFd>, command_line: String },
    Firmware(OpenFirmware),
}

impl OpenStart {
    fn kernel(&self) -> Option<KernelSpec> {
        let Self::Kernel { image, initrd, command_line } = self else { return None };
        let initrd = initrd.as_ref().map(number);
        Some(KernelSpec { image: number(image), initrd, command_line: command_line.clone() })
    }

    fn firmware(&self) -> Option<FirmwareSpec> {
        match self {
            Self::Firmware(firmware) => Some(firmware.spec()),
            Self::Kernel { .. } => None,
        }
    }

    /// All of its files, to be inherited.
    fn files(&self) -> Vec<&OwnedFd> {
        match self {
            Self::Kernel { image, initrd, .. } => {
                [Some(image), initrd.as_ref()].into_iter().flatten().collect()
            }
            Self::Firmware(firmware) => firmware.files().collect(),
        }
    }
}

fn open_start(start: &Start) -> Result<OpenStart, LaunchError> {
    match start {
        Start::Kernel { image, initrd, command_line } => Ok(OpenStart::Kernel {
            image: open("kernel", image)?,
            initrd: initrd.as_deref().map(|path| open("initrd", path)).transpose()?,
            command_line: command_line.clone(),
        }),
        Start::Firmware(firmware) => Ok(OpenStart::Firmware(firmware.open()?)),
    }
}

/// Starts the VMM's process, which waits for its spec.
fn spawn(
    spec: &OwnedFd,
    errors: Option<OwnedFd>,
    confinement: Option<&Confinement>,
) -> Result<Child, LaunchError> {
    let path = vmm_binary();
    let mut command = Command::new(&path);
    command.arg("--spec-fd").arg(spec.as_raw_fd().to_string()).stdin(Stdio::null()).stdout(Stdio::null());
    if let Some(errors) = errors {
        command.stderr(errors);
    }
    if let Some(user) = confinement.and_then(|confinement| confinement.user) {
        // Supplementary groups go as well: a root process that names a user sheds them.
        command.uid(user).gid(user);
    }
    command.spawn().map_err(|errno| LaunchError::Spawn { path, errno })
}

impl Process {
    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Tells the process to end, which leaves a report.
    pub fn end(&self) {
        let pid = i32::try_from(self.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // One that is gone already has ended.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }

    /// Kills the process, which leaves no report.
    pub fn kill(&mut self) {
        // One that is gone already is as good as killed.
        let _ = self.child.kill();
    }

    /// Waits for the end and gives the report.
    pub fn wait(mut self) -> Result<ExitReport, LaunchError> {
        let mut text = String::new();
        let read = (&mut self.report).take(REPORT_LIMIT).read_to_string(&mut text);
        let status = self.child.wait().map_err(kernel("wait for the machine's process"))?;
        // They have ended when the machine has, or soon.
        self.companions.clear();
        if let Some(path) = &self.control {
            // It was made by us for this machine; that it is gone already is as good.
            let _ = std::fs::remove_file(path);
        }
        read.map_err(kernel("read the exit report"))?;
        let signal = status.signal();
        serde_json::from_str(&text).map_err(|_| LaunchError::NoReport { how: describe(status), signal })
    }
}

/// Readable when [`Process::wait`] does not wait.
impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }
}

/// Opens the functions, if any are asked for.
fn open_functions(request: &Request) -> Result<Option<OpenFunctions>, LaunchError> {
    if request.functions.is_empty() {
        return Ok(None);
    }
    let tree = DirectoryTree::system().map_err(|error| {
        kernel("open the root directory")(std::io::Error::from_raw_os_error(error.errno.0))
    })?;
    let found = functions::find(&tree, &request.functions)?;
    let firmware = matches!(request.start, Start::Firmware(_));
    Ok(Some(found.open(&tree, request.memory.size, firmware)?))
}

/// The emulated graphics card's BIOS.
const DISPLAY_ROM: &str = "/usr/share/seabios/vgabios-stdvga.bin";

/// No report comes near this.
const REPORT_LIMIT: u64 = 1 << 20;

fn check_memory(wanted: Bytes) -> Result<(), LaunchError> {
    let info = rustix::system::sysinfo();
    let present = Bytes(info.totalram as u64 * u64::from(info.mem_unit));
    if wanted > present { Err(LaunchError::TooMuchMemory { wanted, present }) } else { Ok(()) }
}

fn open_kvm() -> Result<OwnedFd, LaunchError> {
    let path = Path::new("/dev/kvm");
    match File::options().read(true).write(true).open(path) {
        Ok(file) => Ok(file.into()),
        Err(errno) => Err(match errno.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::NOENT | rustix::io::Errno::NODEV | rustix::io::Errno::NXIO) => {
                LaunchError::NoKvm
            }
            Some(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => LaunchError::KvmDenied,
            _ => LaunchError::Open { what: "KVM device", path: path.to_owned(), errno },
        }),
    }
}

fn open(what: &'static str, path: &Path) -> Result<OwnedFd, LaunchError> {
    let failed = |errno| LaunchError::Open { what, path: path.to_owned(), errno };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(failed(rustix::io::Errno::ISDIR.into()));
    }
    Ok(file.into())
}

pub(crate) fn listen(path: &Path) -> Result<OwnedFd, LaunchError> {
    let failed = |errno| LaunchError::ControlSocket { path: path.to_owned(), errno };
    // Who may write to the socket steers the machine: nobody but its owner.
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(mask);
    Ok(listener.map_err(failed)?.into())
}

fn pipe() -> Result<(OwnedFd, OwnedFd), LaunchError> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(kernel("pipe"))
}

fn duplicate(fd: impl std::os::fd::AsFd) -> Result<OwnedFd, LaunchError> {
    // Above the standard three, which the child has for itself.
    rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(kernel("dup"))
}

fn number(fd: &OwnedFd) -> InheritedFd {
    InheritedFd(fd.as_raw_fd())
}

/// The VMM beside this very program, else the one in PATH.
fn vmm_binary() -> PathBuf {
    let name = "allod-vmm";
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(name)));
    beside.filter(|path| path.exists()).unwrap_or_else(|| name.into())
}

fn kernel<E: Into<std::io::Error>>(what: &'static str) -> impl Fn(E) -> LaunchError {
    move |errno| LaunchError::Kernel { what, errno: errno.into() }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "it just went".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use spec::Bytes;

    use super::{LaunchError, check_memory, listen, open};

    #[test]
    fn more_memory_than_the_host_has_is_refused_with_both_numbers() {
        let error = check_memory(Bytes::gib(1 << 20)).unwrap_err().to_string();
        assert!(error.contains("1PiB") || error.contains("1024TiB"), "{error}");
        check_memory(Bytes::mib(16)).unwrap();
    }

    #[test]
    fn a_missing_file_and_a_folder_are_named() {
        for path in ["/nowhere/vmlinuz", "/"] {
            let error = open("kernel", Path::new(path)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("open the kernel {path}: ")), "{error}");
        }
    }

    #[test]
    fn a_control_socket_is_for_its_owner_only_and_made_once() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let _listener = listen(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(listen(&path), Err(LaunchError::ControlSocket { .. })));
    }
}
