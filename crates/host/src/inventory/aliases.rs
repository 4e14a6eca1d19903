//! Which kernel modules would take a device, by the patterns in `modules.alias` and `modules.builtin.modinfo`.
//!
//! A pattern is a shell wildcard over the device's `modalias`, as modprobe matches it. Called once per function.

/// The patterns for PCI devices that one kernel knows.
#[derive(Default)]
pub(super) struct Aliases<'a> {
    /// Pattern and module name.
    patterns: Vec<(&'a str, &'a str)>,
}

impl<'a> Aliases<'a> {
    /// Reads `modules.alias` (lines `alias PATTERN MODULE`) and `modules.builtin.modinfo` (`MODULE.alias=PATTERN`,
    /// each ended by a zero byte); either may be empty.
    pub(super) fn read(alias: &'a str, builtin: &'a str) -> Self {
        let loadable = alias
            .split('\n')
            .filter(|line| line.starts_with("alias pci:"))
            .filter_map(|line| line.strip_prefix("alias ")?.rsplit_once(' '));
        let built_in = builtin.split('\0').filter_map(|entry| {
            let (module, pattern) = entry.split_once(".alias=")?;
            Some((pattern, module))
        });
        let patterns = loadable.chain(built_in).filter(|(pattern, _)| pattern.starts_with("pci:")).collect();
        Self { patterns }
    }

    /// The modules that match `modalias`, sorted, each once.
    pub(super) fn candidates(&self, modalias: &str) -> Vec<String> {
        let matching =
            self.patterns.iter().filter(|(pattern, _)| matches(pattern.as_bytes(), modalias.as_bytes()));
        let mut modules: Vec<String> = matching.map(|(_, module)| (*module).to_owned()).collect();
        modules.sort();
        modules.dedup();
        modules
    }
}

/// Whether a wildcard (`*`, `?`, `[set]`) covers a text. Time is at most pattern length times text length.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when a star has to take one character more.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => set(pattern.get(p..).unwrap_or_default(), text[t]),
            Some(byte) => (*byte == text[t]).then_some(1),
            None => None,
        };
        match (step, retry) {
            (Some(length), _) => (p, t) = (p + length, t + 1),
            (None, Some((star, taken))) => {
                retry = Some((star, taken + 1));
                (p, t) = (star, taken + 1);
            }
            (None, None) => return false,
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

/// Matches a set like `[0-9A-F]`; gives its length in the pattern.
fn set(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = pattern.iter().position(|byte| *byte == b']')?;
    let mut inside = pattern.get(1..end)?;
    let mut hit = false;
    while let Some((first, rest)) = inside.split_first() {
        inside = match rest {
            [b'-', last, rest @ ..] => {
                hit |= (*first..=*last).contains(&byte);
                rest
            }
            _ => {
                hit |= *first == byte;
                rest
            }
        };
    }
    hit.then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_by_wildcard_over_the_modalias() {
        let alias = "# Aliases\n\
            alias pci:v000010DEd*sv*sd*bc03sc00i00* nouveau\n\
            alias pci:v*d*sv*sd*bc0Csc03i30* xhci_pci\n\
            alias pci:v00008086d00001[0-5]3Csv*sd*bc*sc*i* e1000e\n\
            alias vfio_pci:v000010DEd*sv*sd*bc*sc*i* nvidia_vfio\n\
            alias pci:v000010DEd00002684sv*sd*bc*sc*i* nvidia\n\
            alias pci:v000010DEd00002684sv*sd*bc*sc*i* nvidia\n";
        let builtin = "e1000e.license=GPL\0nvme.alias=pci:v*d*sv*sd*bc01sc08i02*\0";
        let aliases = Aliases::read(alias, builtin);
        for (modalias, modules) in [
            ("pci:v000010DEd00002684sv00001043sd0000889Abc03sc00i00", &["nouveau", "nvidia"][..]),
            ("pci:v00001022d000015B6sv00001043sd00008877bc0Csc03i30", &["xhci_pci"]),
            ("pci:v00008086d0000153Csv00000000sd00000000bc02sc00i00", &["e1000e"]),
            ("pci:v00008086d0000163Csv00000000sd00000000bc02sc00i00", &[]),
            ("pci:v0000144Dd0000A80Asv0000144Dsd0000A801bc01sc08i02", &["nvme"]),
        ] {
            assert_eq!(aliases.candidates(modalias), modules, "{modalias}");
        }
    }

    #[test]
    fn wildcards_keep_their_rules_at_the_edges() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*", "a", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
            ("a?", "a", false),
            ("a[", "ab", false),
            ("a[b", "ab", false),
            ("", "a", false),
            ("****x", "aaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }
}
