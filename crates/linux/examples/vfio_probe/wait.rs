//! Waits until the host asks for a function back or reports its loss, and looks at what is left of it.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use linux::vfio::config::Config;
use linux::vfio::{Device, IrqAction, IrqIndex, KernelDevice, RegionIndex};
use serde_json::{Value, json};

use super::{Outcome, event_fd, micros, signals, text, timed};

/// Says on standard error that it listens, then waits at most `limit`.
pub(crate) fn wait(device: &KernelDevice, limit: Duration) -> Outcome<Value> {
    let (request, error) = (event_fd()?, event_fd()?);
    device.set_irqs(IrqIndex::Request, IrqAction::Signal { start: 0, fds: &[Some(request.as_fd())] })?;
    // A conventional function has no error reports.
    let errors_told =
        device.set_irqs(IrqIndex::Error, IrqAction::Signal { start: 0, fds: &[Some(error.as_fd())] }).is_ok();
    eprintln!("waiting");
    let begin = Instant::now();
    let mut asked = None;
    let mut failed = None;
    let mut gone = None;
    let config = Config(device);
    while begin.elapsed() < limit && asked.is_none() && gone.is_none() {
        if asked.is_none() && signals(&request) > 0 {
            asked = Some(micros(begin.elapsed()));
        }
        if failed.is_none() && signals(&error) > 0 {
            failed = Some(micros(begin.elapsed()));
        }
        if gone.is_none() && !config.is_present() {
            gone = Some(micros(begin.elapsed()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut first = [0; 4];
    let bar =
        device.read(RegionIndex(0), 0, &mut first).map(|()| format!("{:08x}", u32::from_le_bytes(first)));
    Ok(json!({
        "errors_told": errors_told,
        "asked_us": asked,
        "error_us": failed,
        "gone_us": gone,
        "ids": config.read_u32(0).map_or_else(|error| text(&error), |ids| format!("{ids:08x}")),
        "class": config.read_u32(8).map_or_else(|error| text(&error), |class| format!("{class:08x}")),
        "bar0": bar.unwrap_or_else(|error| text(&error)),
        "reset": timed(|| device.reset()),
    }))
}
