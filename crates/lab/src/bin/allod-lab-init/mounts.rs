//! Mounts what a host has mounted, and remembers when each stage of the start was reached.

use rustix::mount::{MountFlags, mount};
use std::ffi::CString;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Where process 1 leaves the stages for the server.
const STAGES_FILE: &str = "/run/lab-stages.json";
/// Bytes per 9p message; the protocol's 8 KiB default makes every page a round trip.
const NINE_P_MESSAGE_BYTES: u32 = 512 * 1024;

/// Stages of the start, with the kernel's uptime at each in milliseconds.
pub(crate) struct Stages(Vec<(String, u64)>);

impl Stages {
    /// Begins the record with the moment the initial RAM disk began.
    pub(crate) fn begin() -> Self {
        let mut stages = Self(Vec::new());
        let early = fs::read_to_string("/run/lab-initrd-uptime").unwrap_or_default();
        stages.0.push(("kernel".into(), milliseconds(&early)));
        stages.reached("initrd");
        stages
    }

    /// Notes that a stage is done.
    pub(crate) fn reached(&mut self, stage: &str) {
        let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
        self.0.push((stage.into(), milliseconds(&uptime)));
    }

    /// Leaves the record for the server.
    pub(crate) fn save(&self) {
        let text = serde_json::to_string(&self.0).unwrap_or_default();
        complain("keep the stages", fs::write(STAGES_FILE, text));
    }

    /// Reads the record that process 1 left.
    pub(crate) fn saved() -> Self {
        let text = fs::read_to_string(STAGES_FILE).ok();
        Self(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
    }

    /// Returns the record.
    pub(crate) fn into_list(self) -> Vec<(String, u64)> {
        self.0
    }
}

/// Mounts the kernel's file systems, the share and our programs, and brings the loopback interface up.
pub(crate) fn mount_all(stages: &mut Stages) {
    let table: [(&str, &str, &str, &str); 8] = [
        ("tmpfs", "/tmp", "tmpfs", "mode=1777"),
        ("tmpfs", "/run", "tmpfs", "mode=755"),
        ("devpts", "/dev/pts", "devpts", "ptmxmode=666,mode=620,gid=5"),
        ("tmpfs", "/dev/shm", "tmpfs", "mode=1777"),
        ("debugfs", "/sys/kernel/debug", "debugfs", ""),
        ("tracefs", "/sys/kernel/tracing", "tracefs", ""),
        ("cgroup2", "/sys/fs/cgroup", "cgroup2", ""),
        ("hugetlbfs", "/dev/hugepages", "hugetlbfs", ""),
    ];
    for (source, target, kind, options) in table {
        complain(target, mount_one(source, target, kind, MountFlags::empty(), options));
    }
    let options = format!("trans=virtio,version=9p2000.L,msize={NINE_P_MESSAGE_BYTES}");
    for (tag, target, flags) in
        [("share", "/share", MountFlags::empty()), ("programs", "/opt/allod", MountFlags::RDONLY)]
    {
        // A host without a share has no device of that name.
        if has_nine_p(tag) {
            complain(target, mount_one(tag, target, "9p", flags, &options));
        }
    }
    stages.reached("mounts");
    complain("set the host name", rustix::system::sethostname(b"lab").map_err(Into::into));
    complain("bring lo up", Command::new("ip").args(["link", "set", "lo", "up"]).status().map(drop));
}

fn mount_one(
    source: &str,
    target: &str,
    kind: &str,
    flags: MountFlags,
    options: &str,
) -> std::io::Result<()> {
    if !Path::new(target).exists() {
        fs::create_dir_all(target)?;
    }
    let options = CString::new(options)?;
    mount(source, target, kind, flags, options.as_c_str())?;
    Ok(())
}

/// Says whether QEMU offers a shared folder of that name.
fn has_nine_p(tag: &str) -> bool {
    let devices = fs::read_dir("/sys/bus/virtio/drivers/9pnet_virtio").into_iter().flatten().flatten();
    devices
        .filter_map(|device| fs::read(device.path().join("mount_tag")).ok())
        .any(|name| name.strip_suffix(b"\0").unwrap_or(&name) == tag.as_bytes())
}

fn milliseconds(uptime: &str) -> u64 {
    let seconds: f64 =
        uptime.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_default();
    (seconds * 1000.0) as u64
}

/// Writes a failure on the console and goes on: a host with one mount less is still worth a look.
pub(crate) fn complain(what: &str, result: std::io::Result<()>) {
    if let Err(error) = result {
        eprintln!("lab: {what}: {error}");
    }
}
