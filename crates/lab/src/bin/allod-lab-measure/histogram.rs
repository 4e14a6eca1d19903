//! The kernel's event histograms as text: what `hist:keys=` triggers leave in an event's `hist` file.
//!
//! Pure parsing; [`crate::trace`] sets the triggers. Source: Linux Documentation/trace/histogram.rst.

/// A histogram.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Histogram {
    /// Rows: the keys' values as printed, in the order of the trigger, and the count.
    pub(crate) rows: Vec<(Vec<String>, u64)>,
    /// Events counted, those without a row included.
    pub(crate) hits: u64,
}

impl Histogram {
    /// Reads a `hist` file.
    pub(crate) fn parse(text: &str) -> Self {
        let mut histogram = Self::default();
        for line in text.lines() {
            if let Some(row) = line.strip_prefix('{').and_then(parse_row) {
                histogram.rows.push(row);
            } else if let Some(hits) = line.trim_start().strip_prefix("Hits:") {
                histogram.hits = hits.trim().parse().unwrap_or(0);
            }
        }
        histogram
    }

    /// Returns the rows by falling count, their keys made into a name by `name`.
    pub(crate) fn named(&self, name: impl Fn(&[String]) -> String) -> Vec<(String, u64)> {
        let mut rows: Vec<_> = self.rows.iter().map(|(keys, count)| (name(keys), *count)).collect();
        rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        rows
    }
}

/// Reads what follows the brace of `{ port:  1540, rw:  0 } hitcount:  1`.
fn parse_row(rest: &str) -> Option<(Vec<String>, u64)> {
    let (keys, values) = rest.split_once('}')?;
    let keys =
        keys.split(',').map(|key| key.split_once(':').map_or("", |(_, value)| value.trim()).to_owned());
    let count = values.trim().strip_prefix("hitcount:")?.trim().parse().ok()?;
    Some((keys.collect(), count))
}

/// Names an exit of AMD's SVM by its code.
///
/// Source: AMD64 Architecture Programmer's Manual volume 2, appendix C.
pub(crate) fn svm_exit_name(code: &str) -> String {
    let name = match code.parse::<u32>() {
        Ok(0x000..=0x00f) => "CR_READ",
        Ok(0x010..=0x01f) => "CR_WRITE",
        Ok(0x020..=0x02f) => "DR_READ",
        Ok(0x030..=0x03f) => "DR_WRITE",
        Ok(0x040..=0x05f) => "EXCEPTION",
        Ok(0x060) => "INTR",
        Ok(0x061) => "NMI",
        Ok(0x064) => "VINTR",
        Ok(0x065) => "CR0_SEL_WRITE",
        Ok(0x072) => "CPUID",
        Ok(0x076) => "INVD",
        Ok(0x077) => "PAUSE",
        Ok(0x078) => "HLT",
        Ok(0x079) => "INVLPG",
        Ok(0x07b) => "IOIO",
        Ok(0x07c) => "MSR",
        Ok(0x07f) => "SHUTDOWN",
        Ok(0x081) => "VMMCALL",
        Ok(0x089) => "WBINVD",
        Ok(0x08d) => "XSETBV",
        Ok(0x400) => "NPF",
        Ok(code) => return format!("{code:#x}"),
        Err(_) => code,
    };
    name.to_owned()
}

/// Names an exit to user space by its KVM_EXIT_ number.
///
/// Source: Linux include/uapi/linux/kvm.h.
pub(crate) fn kvm_exit_name(reason: &str) -> String {
    let name = match reason {
        "0" => "UNKNOWN",
        "2" => "IO",
        "5" => "HLT",
        "6" => "MMIO",
        "7" => "IRQ_WINDOW_OPEN",
        "8" => "SHUTDOWN",
        "10" => "INTR",
        "17" => "INTERNAL_ERROR",
        "24" => "SYSTEM_EVENT",
        "26" => "IOAPIC_EOI",
        "29" => "X86_RDMSR",
        "30" => "X86_WRMSR",
        other => other,
    };
    name.to_owned()
}

/// Names a port access: `in 0x3fd/1`, from the keys port, direction, size.
pub(crate) fn port_name(keys: &[String]) -> String {
    let [port, write, size] = keys else { return keys.join(" ") };
    let port = port.parse::<u32>().map_or_else(|_| port.clone(), |port| format!("{port:#05x}"));
    format!("{} {port}/{size}", if write == "1" { "out" } else { "in" })
}

/// Names an access to memory by its address and kind, from the keys address, kind.
///
/// Source of the kinds: KVM_TRACE_MMIO_ in Linux include/trace/events/kvm.h.
pub(crate) fn mmio_name(keys: &[String]) -> String {
    let [address, kind] = keys else { return keys.join(" ") };
    let kind = match kind.as_str() {
        "0" => "read-unanswered",
        "1" => "read",
        "2" => "write",
        other => other,
    };
    format!("{kind} {address}")
}

/// Names an access to a model-specific register, from the keys register, direction.
pub(crate) fn msr_name(keys: &[String]) -> String {
    let [register, write] = keys else { return keys.join(" ") };
    format!("{} {register}", if write == "1" { "wrmsr" } else { "rdmsr" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# event histogram
#
# trigger info: hist:keys=port,rw,size:vals=hitcount:sort=hitcount:size=2048 [active]
#

{ port:       1540, rw:          0, size:          2 } hitcount:          1
{ port:       3320, rw:          1, size:          4 } hitcount:        275

Totals:
    Hits: 276
    Entries: 2
    Dropped: 0
";

    #[test]
    fn rows_come_by_falling_count_with_their_names() {
        let histogram = Histogram::parse(TEXT);
        assert_eq!(histogram.hits, 276);
        let expected = [("out 0xcf8/4".to_owned(), 275), ("in 0x604/2".to_owned(), 1)];
        assert_eq!(histogram.named(port_name), expected);
    }

    #[test]
    fn an_event_that_never_came_has_no_rows() {
        let text = "# event histogram\n#\n\nTotals:\n    Hits: 0\n    Entries: 0\n    Dropped: 0\n";
        assert_eq!(Histogram::parse(text), Histogram::default());
    }

    #[test]
    fn codes_without_a_name_stay_readable() {
        let rows = [("1024", "NPF"), ("114", "CPUID"), ("22", "CR_WRITE"), ("1027", "0x403"), ("odd", "odd")];
        for (code, expected) in rows {
            assert_eq!(svm_exit_name(code), expected);
        }
    }
}
