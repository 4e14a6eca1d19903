//! Compiles `qemu-fix/fix.rs` into a shared library of its own, which the crate embeds.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=qemu-fix/fix.rs");
    println!("cargo:rerun-if-changed=build.rs");
    let setting = |name: &str| env::var_os(name).unwrap_or_default();
    let out = Path::new(&setting("OUT_DIR")).join("qemu-fix.so");
    // By rustc itself: cargo offers no way to embed one crate's library in another crate.
    let status = Command::new(setting("RUSTC"))
        .args(["--edition=2024", "--crate-type=cdylib", "--crate-name=qemu_fix"])
        .args(["-Copt-level=2", "-Cpanic=abort", "-Cstrip=symbols", "-Dwarnings"])
        .arg("-o")
        .arg(&out)
        .arg("qemu-fix/fix.rs")
        .status();
    if !status.is_ok_and(|status| status.success()) {
        eprintln!("cannot compile qemu-fix/fix.rs");
        std::process::exit(1);
    }
}
