//! The first process of the virtual host, and the server that runs commands for the lab.
//!
//! It is started by the initial RAM disk with the root file system in place. As process 1 it mounts the
//! rest, loads drivers for the hardware it finds as a real host's device manager would, and then only
//! collects orphans; a second instance of itself serves the lab's ports. It never runs on a user's machine.
#![forbid(unsafe_code)]

mod coldplug;
mod hotplug;
mod job;
mod mounts;
mod serve;

use rustix::process::{Pid, WaitOptions};
use rustix::system::{RebootCommand, reboot};
use std::process::Command;

fn main() {
    let serving = std::env::args().nth(1).as_deref() == Some("serve");
    if !serving && std::process::id() != 1 {
        eprintln!("allod-lab-init: runs only as the first process of a lab host");
        std::process::exit(2);
    }
    if serving {
        hotplug::follow();
        serve::serve();
    }
    let mut stages = mounts::Stages::begin();
    mounts::mount_all(&mut stages);
    coldplug::load_drivers(&mut stages);
    stages.save();
    watch_over_the_server();
}

/// Starts the server, collects every process that ends, and powers off when the server is gone.
fn watch_over_the_server() -> ! {
    let server = Command::new("/proc/self/exe").arg("serve").spawn();
    match server.map(|child| Pid::from_child(&child)) {
        Ok(server) => collect_until_end_of(server),
        Err(error) => eprintln!("lab: cannot start the server: {error}"),
    }
    rustix::fs::sync();
    // There is nobody to tell but the console.
    let refused = reboot(RebootCommand::PowerOff);
    eprintln!("lab: power off refused: {refused:?}");
    loop {
        std::thread::park();
    }
}

fn collect_until_end_of(server: Pid) {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == server => {
                eprintln!("lab: the server ended: {status:?}");
                return;
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                eprintln!("lab: waiting failed: {error}");
                return;
            }
        }
    }
}
