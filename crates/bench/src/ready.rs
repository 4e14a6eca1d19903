//! What a run needs before it begins: all that is missing is named at once, and nothing is measured for an hour that cannot
//! be gone on with. Not here: what a plan needs (`plan`), and what a guest has in it.

use crate::result::Engine;
use crate::run::Options;
use crate::seats::Seat;
use crate::workload::Workload;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

/// A program with the Debian package it comes in.
type Program = (&'static str, &'static str);

/// What every seat is started by, whoever runs its machine.
const STARTERS: [Program; 2] = [("setpriv", "util-linux"), ("taskset", "util-linux")];

/// Returns a line for everything that is missing.
pub(crate) fn lacking(seats: &[Seat], options: &Options) -> Vec<String> {
    let peer = options.peer.is_some();
    let workloads = options
        .workloads
        .iter()
        .filter(|workload| seats.iter().any(|seat| seat.devices.suit(workload, peer)));
    let folders = program_folders(&options.allod);
    let programs = needed(workloads.copied(), &options.engines);
    let mut lacking: Vec<String> = missing(&programs, &folders)
        .map(|(program, package)| format!("there is no program `{program}`; it comes with {package}"))
        .collect();
    let kernels = seats.iter().map(|seat| (format!("the kernel of seat `{}`", seat.plan.name), seat.kernel));
    let guest =
        [("the guests' RAM disk", Some(&options.initrd)), ("the guests' disk", options.disk.as_ref())];
    let guest = guest.into_iter().filter_map(|(what, path)| Some((what.to_owned(), path?.as_path())));
    for (what, path) in kernels.chain(guest) {
        if let Err(error) = File::open(path) {
            lacking.push(format!("cannot open {what}, {}: {error}", path.display()));
        }
    }
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        lacking.push(format!("cannot open /dev/kvm: {error}; `allod doctor` says what to do"));
    }
    lacking
}

/// Returns where programs are looked for: beside Allod's own, which need not be installed, and where everybody does.
pub(crate) fn program_folders(allod: &Path) -> Vec<PathBuf> {
    let usual = std::env::var_os("PATH").unwrap_or_default();
    allod.parent().map(Path::to_owned).into_iter().chain(std::env::split_paths(&usual)).collect()
}

/// Returns the programs that a run starts on the host, each once.
fn needed<'a>(workloads: impl Iterator<Item = &'a Workload>, engines: &[Engine]) -> Vec<Program> {
    let of_engine = |engine: &Engine| match engine {
        Engine::Host => None,
        Engine::Allod => Some(("allod-vmm", "Allod")),
        Engine::Qemu => Some(("qemu-system-x86_64", "qemu-system-x86")),
    };
    let of_workloads = workloads.flat_map(|workload| workload.programs.iter().copied());
    let all = STARTERS.into_iter().chain(engines.iter().filter_map(of_engine)).chain(of_workloads);
    let mut once = Vec::new();
    for program in all {
        if !once.contains(&program) {
            once.push(program);
        }
    }
    once
}

fn missing<'a>(programs: &'a [Program], folders: &'a [PathBuf]) -> impl Iterator<Item = Program> + 'a {
    let is_there = |program: &str| folders.iter().any(|folder| folder.join(program).is_file());
    programs.iter().copied().filter(move |(program, _)| !is_there(program))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::find_workload;

    #[test]
    fn a_run_needs_what_its_workloads_and_engines_start() {
        let rows: [(&[&str], &[Engine], &[&str]); 4] = [
            (&["cpu"], &[Engine::Allod], &["allod-vmm", "allod-scene"]),
            (&["cpu", "fill"], &[Engine::Qemu], &["qemu-system-x86_64", "allod-scene"]),
            (&["disk", "irq"], &[Engine::Allod], &["allod-vmm", "fio"]),
            (&["net"], &[Engine::Allod], &["allod-vmm", "iperf3", "ip", "ping"]),
        ];
        for (workloads, engines, expected) in rows {
            let workloads = workloads.iter().map(|name| find_workload(name).unwrap());
            let names: Vec<&str> = needed(workloads, engines).into_iter().map(|(name, _)| name).collect();
            assert_eq!(names, [&["setpriv", "taskset"], expected].concat());
        }
    }

    #[test]
    fn a_program_is_found_beside_allod_or_on_the_path() {
        let own = tempfile::tempdir().unwrap();
        std::fs::write(own.path().join("allod-scene"), "").unwrap();
        let folders = program_folders(&own.path().join("allod"));
        let programs = [("sh", "dash"), ("allod-scene", "Allod"), ("no-such-program-anywhere", "nothing")];
        let missing: Vec<Program> = missing(&programs, &folders).collect();
        assert_eq!(missing, [("no-such-program-anywhere", "nothing")]);
    }
}
