//! `allod down`: ends seats in good order.

use std::io::ErrorKind;
use std::process::ExitCode;

use linux::sysfs::DirectoryTree;
use seat::asking::{self, Asking, Next};
use seat::places::Places;
use seat::standing;
use spec::{SeatEvent, SeatRequest};

use crate::answer::{self, Failed};
use crate::progress::Progress;
use crate::up;

/// End seats: press the power button, wait, then end them by force; their devices go back to their drivers.
///
/// Exit status: 0 ended, all devices are back; 1 something could not be given back; 2 the command line makes no sense;
/// 3 the seat does not run; 4 there is no such seat; 5 not permitted.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The seats
    #[arg(value_name = "NAME", required_unless_present = "all", conflicts_with = "all")]
    seats: Vec<String>,
    /// All seats that run
    #[arg(long)]
    all: bool,
    /// How long their systems have to shut down, in seconds, instead of what the seat file says
    #[arg(long, value_name = "SECONDS")]
    deadline: Option<u32>,
    /// What happens as JSON, one event a line
    #[arg(long)]
    json: bool,
}

/// Ends the seats.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let request = SeatRequest::Down { seconds: arguments.deadline };
    let names = (!arguments.all).then_some(arguments.seats.as_slice());
    answer::exit(end(names, request, arguments.json))
}

/// Says `request` to the seats of these names, or to all, and follows them until they are over.
pub(crate) fn end(names: Option<&[String]>, request: SeatRequest, json: bool) -> Result<(), Failed> {
    let places = Places::of_environment();
    let progress = Progress { json };
    let tree = DirectoryTree::system().map_err(Failed::new)?;
    let reading = |error| Failed::io("reading the seats that run", &error);
    let names: Vec<String> = match names {
        Some(names) => names.to_vec(),
        None => standing::list(&places, &tree)
            .map_err(reading)?
            .into_iter()
            .map(|seat| seat.status.name)
            .collect(),
    };
    let mut asked = Vec::new();
    let mut lost = false;
    for name in &names {
        match standing::find(&places, &tree, name).map_err(reading)? {
            None if standing::report(&places, name).map_err(reading)?.is_some() => {
                return Err(Failed::not_running(name));
            }
            None => return Err(Failed::not_found(name)),
            Some(seat) if seat.lost => lost = true,
            Some(_) => asked.extend(ask(&places, name, request)?),
        }
    }
    let mut whole = true;
    for (name, mut asking) in asked {
        whole &= follow(&name, &mut asking, &progress);
    }
    if lost {
        answer::need_root("giving devices back")?;
        up::settle(&places, &progress)?;
    }
    if whole { Ok(()) } else { Err(Failed::new("not everything is as it was; the lines above tell what")) }
}

fn ask(places: &Places, name: &str, request: SeatRequest) -> Result<Option<(String, Asking)>, Failed> {
    match asking::ask(&places.seat(name), request) {
        Ok(asking) => Ok(Some((name.to_owned(), asking))),
        // It has ended just now.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(Failed::io("ending seats", &error)),
    }
}

/// Whether it ended and everything was given back.
fn follow(name: &str, asking: &mut Asking, progress: &Progress) -> bool {
    let mut whole = false;
    while let Next::Event(event) = asking.next(None) {
        progress.event(name, &event);
        if let SeatEvent::Ended { report } = &event {
            whole = report.debts.is_empty();
        }
    }
    whole
}
