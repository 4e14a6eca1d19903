//! `allod view`: a running machine's emulated display for VNC viewers.

use std::path::PathBuf;
use std::process::ExitCode;

use seat::control::ControlError;
use seat::places::Places;
use seat::view::{Address, Listener, Password, ServeError, View};

/// Show a running machine's emulated display to VNC viewers, until the machine ends.
///
/// Exit status: 0 the machine has ended; 1 nobody can connect; 2 the command line makes no sense; 3 no machine listens.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The seat, or the machine's control socket (`allod run --control`), which has a slash in its name
    #[arg(value_name = "SEAT|SOCKET")]
    machine: String,
    /// Where viewers connect: `unix:PATH`, for this user only, or a loopback port such as 127.0.0.1:5900
    #[arg(long, value_name = "ADDRESS")]
    listen: Address,
    /// The file whose first line is the password (eight characters count); a port needs one
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The name in the viewer's title
    #[arg(long, default_value = "machine")]
    name: String,
}

const NOT_RUNNING: u8 = 3;

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    if matches!(arguments.listen, Address::Loopback(_)) && arguments.password_file.is_none() {
        eprintln!(
            "allod: every user of this host can reach a port: give it a --password-file, or listen on unix:PATH"
        );
        return ExitCode::from(spec::EXIT_USAGE);
    }
    match serve(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("allod: {error:#}");
            let gone =
                matches!(error.downcast_ref(), Some(ServeError::Machine(ControlError::Connect { .. })));
            if gone { ExitCode::from(NOT_RUNNING) } else { ExitCode::FAILURE }
        }
    }
}

fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let password = arguments.password_file.as_deref().map(Password::from_file).transpose()?;
    let listener = Listener::bind(&arguments.listen)?;
    eprintln!("allod: viewers connect to {}", arguments.listen);
    let view = View {
        machine: Places::of_environment().machine(&arguments.machine),
        name: arguments.name.clone(),
        password,
    };
    view.serve(&listener)?;
    Ok(())
}
