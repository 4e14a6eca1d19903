//! A host of the lab for scenarios of the inventory and of claims: booted, asked, cut off.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::Path;
use std::time::Duration;

use lab::{Failure, Host, Lab, Output, Profile};
use spec::inventory::{DoctorReport, HostInventory};

/// A command takes a few seconds; much more when the machine is loaded.
const LIMIT: Duration = Duration::from_secs(90);

/// The host; none once its power is cut.
pub(crate) struct Bench(Option<Host>);

impl Bench {
    /// Boots a host; `None` after saying aloud what is missing for one.
    pub(crate) fn boot(profile: &str) -> Option<Self> {
        Self::boot_with(profile, None)
    }

    /// Boots a host that sees `share` as /share.
    pub(crate) fn boot_with(profile: &str, share: Option<&Path>) -> Option<Self> {
        let lab = Lab::new(Profile::named(profile).unwrap());
        let lab = match share {
            Some(folder) => lab.share(folder),
            None => lab,
        };
        let boot = || lab.boot(&|stage| eprintln!("lab: {stage}"));
        match boot() {
            Err(Failure::Image(error)) => {
                println!("SKIPPED: no lab host: {error}");
                None
            }
            Err(failure) if failure.is_hang() => {
                eprintln!("lab: {failure}; trying once more");
                Some(Self(Some(boot().unwrap_or_else(|failure| panic!("{failure}")))))
            }
            booted => Some(Self(Some(booted.unwrap_or_else(|failure| panic!("{failure}"))))),
        }
    }

    pub(crate) fn run(&self, script: &str) -> Output {
        self.within(script, LIMIT)
    }

    pub(crate) fn within(&self, script: &str, limit: Duration) -> Output {
        self.host().run_within(script, limit).unwrap_or_else(|failure| panic!("{script}: {failure}"))
    }

    /// Runs what has to succeed.
    pub(crate) fn does(&self, script: &str) -> Output {
        let output = self.run(script);
        assert!(output.is_success(), "{script}: {output:?}");
        output
    }

    /// Returns what the host is made of.
    pub(crate) fn inventory(&self) -> HostInventory {
        serde_json::from_str(&self.does("allod devices --json").stdout).unwrap()
    }

    /// Returns what stands in the way, with the exit status of the command that says it.
    pub(crate) fn doctor(&self) -> (i32, DoctorReport) {
        let output = self.run("allod doctor --json");
        (output.status, serde_json::from_str(&output.stdout).unwrap())
    }

    /// Takes the host's power away.
    pub(crate) fn power_cut(mut self) {
        self.is_sound();
        if let Some(host) = self.0.take() {
            host.power_cut();
        }
    }

    /// That its kernel has had nothing to complain of.
    fn is_sound(&self) {
        let complaint = self.host().complaint().unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(complaint, None, "the host's kernel complained");
    }

    fn host(&self) -> &Host {
        self.0.as_ref().unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if self.0.is_some() && !std::thread::panicking() {
            self.is_sound();
        }
    }
}
