//! Where seats keep what: the folder that lives as long as the host runs, and the one that stays.

use std::path::{Path, PathBuf};

/// The folder of what lives as long as the host runs.
pub const RUN_DIRECTORY: &str = "/run/allod";
/// Names another one; for tests and for hosts that keep such things elsewhere.
pub const RUN_VARIABLE: &str = "ALLOD_RUN_DIR";
/// The folder of what stays: the ledger, logs and reports.
pub const STATE_DIRECTORY: &str = "/var/lib/allod";
/// Names another one.
pub const STATE_VARIABLE: &str = "ALLOD_STATE_DIR";

/// The two folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Sockets and states of seats that live.
    pub run: PathBuf,
    /// The ledger, logs and reports.
    pub state: PathBuf,
}

impl Places {
    /// The folders as the environment says, else the usual ones.
    pub fn of_environment() -> Self {
        let named = |variable, usual: &str| {
            std::env::var_os(variable)
                .filter(|path| !path.is_empty())
                .map_or_else(|| usual.into(), PathBuf::from)
        };
        Self { run: named(RUN_VARIABLE, RUN_DIRECTORY), state: named(STATE_VARIABLE, STATE_DIRECTORY) }
    }

    /// The folder that holds one folder for each seat that lives.
    pub fn seats(&self) -> PathBuf {
        self.run.join("seats")
    }

    /// The control socket of the machine that `text` names: a seat, or with a slash in it the socket itself.
    pub fn machine(&self, text: &str) -> PathBuf {
        if text.contains('/') { text.into() } else { self.seat(text).control() }
    }

    /// The places of one seat.
    pub fn seat(&self, name: &str) -> SeatPlaces {
        SeatPlaces {
            run: self.seats().join(name),
            state: self.state.join("seats").join(name),
            lock: self.run.join("locks").join(name),
        }
    }
}

/// The files and sockets of one seat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeatPlaces {
    run: PathBuf,
    state: PathBuf,
    lock: PathBuf,
}

impl SeatPlaces {
    /// The folder that is gone when the seat is.
    pub fn folder(&self) -> &Path {
        &self.run
    }

    /// The folder that stays.
    pub fn kept(&self) -> &Path {
        &self.state
    }

    /// The seat's state, [`spec::SeatStatus`].
    pub fn status(&self) -> PathBuf {
        self.run.join("status.json")
    }

    /// Locked by the supervisor while it is there. It stays when the seat is gone: a lock that is removed while another
    /// process waits for it would be held twice.
    pub fn lock(&self) -> PathBuf {
        self.lock.clone()
    }

    /// Where [`spec::SeatRequest`]s are said.
    pub fn requests(&self) -> PathBuf {
        self.run.join("seat")
    }

    /// The machine's control socket, [`spec::ControlRequest`].
    pub fn control(&self) -> PathBuf {
        self.run.join("machine")
    }

    /// The serial console.
    pub fn console(&self) -> PathBuf {
        self.run.join("console")
    }

    /// All that the guest wrote to its console.
    pub fn console_log(&self) -> PathBuf {
        self.state.join("console.log")
    }

    /// What the firmware wrote to its debug port.
    pub fn firmware_log(&self) -> PathBuf {
        self.state.join("firmware.log")
    }

    /// What the machine's process wrote to standard error.
    pub fn machine_log(&self) -> PathBuf {
        self.state.join("machine.log")
    }

    /// What the supervisor wrote to standard error.
    pub fn supervisor_log(&self) -> PathBuf {
        self.state.join("supervisor.log")
    }

    /// Its UEFI variables, unless the seat file names others.
    pub fn variables(&self) -> PathBuf {
        self.state.join("uefi-variables.fd")
    }

    /// What its TPM keeps.
    pub fn tpm(&self) -> PathBuf {
        self.state.join("tpm")
    }

    /// The last [`spec::SeatReport`].
    pub fn report(&self) -> PathBuf {
        self.state.join("report.json")
    }
}

#[cfg(test)]
mod tests {
    use super::Places;

    #[test]
    fn a_machine_is_named_by_its_seat_or_its_socket() {
        let places = Places::of_environment();
        assert_eq!(places.machine("anna"), places.seat("anna").control());
        assert_eq!(places.machine("./control"), std::path::PathBuf::from("./control"));
    }
}
