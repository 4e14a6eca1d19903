//! What happens to seats, printed as it happens: one line for each step with how long it took, or JSON lines.

use spec::{SeatEvent, SeatReport, SeatState};

/// The printer.
pub(crate) struct Progress {
    /// JSON lines instead of text.
    pub(crate) json: bool,
}

impl Progress {
    /// Prints one event of a seat.
    pub(crate) fn event(&self, seat: &str, event: &SeatEvent) {
        let line = if self.json { json(seat, event) } else { text(seat, event) };
        if let Some(line) = line {
            // Whoever reads may have had enough; the seat goes on all the same.
            let _ = crate::print::out(&(line + "\n"));
        }
    }

    /// Prints a step of this very command.
    pub(crate) fn step(&self, what: &str, took: std::time::Duration) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.event("host", &SeatEvent::Step(spec::SeatStep { what: what.to_owned(), ms }));
    }
}

fn json(seat: &str, event: &SeatEvent) -> Option<String> {
    let mut value = serde_json::to_value(event).ok()?;
    value.as_object_mut()?.insert("of".to_owned(), seat.into());
    Some(value.to_string())
}

fn text(seat: &str, event: &SeatEvent) -> Option<String> {
    match event {
        SeatEvent::Step(step) => Some(format!("{seat:<12} {:<64} {:>7} ms", step.what, step.ms)),
        SeatEvent::Note { text } => Some(format!("{seat:<12} note: {text}")),
        SeatEvent::State { state: SeatState::Claiming | SeatState::Ended } => None,
        SeatEvent::State { state } => Some(format!("{seat:<12} {}", state.word())),
        SeatEvent::Refused { message, .. } => Some(format!("{seat:<12} {message}")),
        SeatEvent::Ended { report } => Some(format!("{seat:<12} {}", ended(report))),
    }
}

/// How a seat ended, in one line and one for each debt.
pub(crate) fn ended(report: &SeatReport) -> String {
    let mut text = format!("ended: {}", report.ending);
    for debt in &report.debts {
        text.push_str(&format!("\n{:<12} owed: {debt}", ""));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{json, text};
    use spec::{SeatEvent, SeatStep};

    #[test]
    fn a_step_is_told_with_its_seat_and_its_time() {
        let step = SeatEvent::Step(SeatStep { what: "unbind 0000:01:00.0".into(), ms: 12 });
        let line = text("anna", &step).unwrap();
        assert!(line.starts_with("anna ") && line.ends_with("12 ms"), "{line}");
        assert_eq!(
            json("anna", &step).unwrap(),
            r#"{"event":"step","ms":12,"of":"anna","what":"unbind 0000:01:00.0"}"#
        );
    }
}
