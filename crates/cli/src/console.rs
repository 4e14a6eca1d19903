//! `allod console`: this terminal as the serial console of a seat.

use std::io::ErrorKind;
use std::process::ExitCode;

use seat::attach::{self, Parted};
use seat::places::Places;
use seat::standing;

use crate::answer::{self, Failed};

/// Attach this terminal to the serial console of a seat.
///
/// What the guest wrote before is shown first. At a terminal, Ctrl-A d detaches and Ctrl-A Ctrl-A types a Ctrl-A;
/// several may be attached at once, and all type into the same guest.
///
/// Exit status: 0 detached, or the seat has ended; 3 the seat does not run; 4 there is no such seat; 5 not permitted.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The seat
    #[arg(value_name = "NAME")]
    seat: String,
}

/// Attaches.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    answer::exit(attach(arguments))
}

fn attach(arguments: &Arguments) -> Result<(), Failed> {
    let (name, places) = (&arguments.seat, Places::of_environment());
    match attach::attach(&places.seat(name)) {
        Ok(Parted::Detached) => {
            eprintln!("\nallod: detached; seat `{name}` goes on");
            Ok(())
        }
        Ok(Parted::Ended) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            Err(match standing::report(&places, name) {
                Ok(Some(_)) => Failed::not_running(name),
                _ => Failed::not_found(name),
            })
        }
        Err(error) => Err(Failed::io("attaching to a console", &error)),
    }
}
