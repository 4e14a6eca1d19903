//! Gathers reasons and notices while the parts of the planner look.
//!
//! Not here: the decision that a reason exists. The order of the result follows the seat file, not the order of looking.

use spec::PciAddress;
use spec::inventory::Function;
use spec::plan::{Candidate, Notice, NoticeCode, PLAN_SCHEMA_VERSION, Reason, ReasonCode, Refusal};

/// The most candidates that one reason lists.
pub(crate) const MAX_CANDIDATES: usize = 12;

/// What a reason or a notice is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    /// The position of the seat in the file; none: the host.
    pub(crate) seat: Option<(usize, String)>,
    /// What of the seat: `device 1 (class = display)`, `memory`.
    pub(crate) part: String,
    /// The function.
    pub(crate) function: Option<PciAddress>,
}

impl Subject {
    /// The host as a whole, or a part of it.
    pub(crate) fn host(part: &str) -> Self {
        Self { seat: None, part: part.to_owned(), function: None }
    }

    /// A part of the seat at `index` of the file.
    pub(crate) fn seat(index: usize, name: &str, part: &str) -> Self {
        Self { seat: Some((index, name.to_owned())), part: part.to_owned(), function: None }
    }

    /// The same, about one function.
    pub(crate) fn at(&self, function: &Function) -> Self {
        Self { function: Some(function.address), ..self.clone() }
    }
}

/// What was found so far.
#[derive(Default)]
pub(crate) struct Findings {
    reasons: Vec<(Option<usize>, Reason)>,
    notices: Vec<(Option<usize>, Notice)>,
}

impl Findings {
    /// Adds a reason why not; the same is told once.
    pub(crate) fn refuse(&mut self, about: &Subject, code: ReasonCode, sentence: String, remedy: String) {
        self.refuse_among(about, code, sentence, remedy, Vec::new());
    }

    /// Adds a reason that names other functions besides.
    pub(crate) fn refuse_among(
        &mut self,
        about: &Subject,
        code: ReasonCode,
        sentence: String,
        remedy: String,
        mut candidates: Vec<Candidate>,
    ) {
        candidates.truncate(MAX_CANDIDATES);
        let seat = about.seat.as_ref().map(|(_, name)| name.clone());
        let subject = about.part.clone();
        let function = about.function;
        let reason = Reason { code, seat, subject, function, sentence, remedy, candidates };
        let place = about.seat.as_ref().map(|(index, _)| *index);
        if !self.reasons.iter().any(|(_, known)| *known == reason) {
            self.reasons.push((place, reason));
        }
    }

    /// Adds a notice; the same is told once.
    pub(crate) fn notice(&mut self, about: &Subject, code: NoticeCode, sentence: String, remedy: String) {
        let seat = about.seat.as_ref().map(|(_, name)| name.clone());
        let notice = Notice { code, seat, subject: about.part.clone(), sentence, remedy };
        let place = about.seat.as_ref().map(|(index, _)| *index);
        if !self.notices.iter().any(|(_, known)| *known == notice) {
            self.notices.push((place, notice));
        }
    }

    /// Ends the gathering: the notices when nothing stands in the way, else the refusal.
    pub(crate) fn finish(mut self) -> Result<Vec<Notice>, Refusal> {
        self.notices.sort_by_key(|(place, _)| *place);
        let notices = self.notices.into_iter().map(|(_, notice)| notice).collect();
        if self.reasons.is_empty() {
            return Ok(notices);
        }
        self.reasons.sort_by(|(place, reason), (other_place, other)| {
            (place, &reason.subject, reason.function, reason.code).cmp(&(
                other_place,
                &other.subject,
                other.function,
                other.code,
            ))
        });
        let reasons = self.reasons.into_iter().map(|(_, reason)| reason).collect();
        Err(Refusal { schema_version: PLAN_SCHEMA_VERSION, reasons, notices })
    }
}
