//! Putting a finding together: what is, why, what follows, what to do.

use spec::PciAddress;
use spec::inventory::{Finding, Remedy, Severity};

/// A finding under construction.
pub(super) struct Draft(Finding);

/// Starts a finding with its stable code.
pub(super) fn new(code: &str, severity: Severity) -> Draft {
    Draft(Finding {
        code: code.to_owned(),
        severity,
        function: None,
        finding: String::new(),
        reason: String::new(),
        consequence: String::new(),
        remedies: Vec::new(),
    })
}

/// A finding that all is well in one part of the chain.
pub(super) fn good(code: &str, is: impl Into<String>, because: impl Into<String>) -> Finding {
    new(code, Severity::Good).is(is).because(because).so("nothing to do").done()
}

impl Draft {
    /// Names the function it is about.
    pub(super) fn about(mut self, function: PciAddress) -> Self {
        self.0.function = Some(function);
        self
    }

    /// Says what is the case.
    pub(super) fn is(mut self, finding: impl Into<String>) -> Self {
        self.0.finding = finding.into();
        self
    }

    /// Says how that was seen and why it is so.
    pub(super) fn because(mut self, reason: impl Into<String>) -> Self {
        self.0.reason = reason.into();
        self
    }

    /// Says what follows.
    pub(super) fn so(mut self, consequence: impl Into<String>) -> Self {
        self.0.consequence = consequence.into();
        self
    }

    /// Adds something to do.
    pub(super) fn fix(mut self, remedy: Remedy) -> Self {
        self.0.remedies.push(remedy);
        self
    }

    /// Adds something to do under a condition.
    pub(super) fn fix_if(self, condition: bool, remedy: Remedy) -> Self {
        if condition { self.fix(remedy) } else { self }
    }

    /// Adds several things to do.
    pub(super) fn fix_all(mut self, remedies: Vec<Remedy>) -> Self {
        self.0.remedies.extend(remedies);
        self
    }

    /// Ends the finding.
    pub(super) fn done(self) -> Finding {
        self.0
    }
}

/// A command to run as root.
pub(super) fn command(command: impl Into<String>, purpose: impl Into<String>) -> Remedy {
    Remedy::Command { command: command.into(), purpose: purpose.into() }
}

/// A setting in the firmware's menu.
pub(super) fn firmware(setting: impl Into<String>) -> Remedy {
    Remedy::FirmwareSetting { setting: setting.into() }
}

/// Something to do by hand.
pub(super) fn step(step: impl Into<String>) -> Remedy {
    Remedy::Step { step: step.into() }
}
