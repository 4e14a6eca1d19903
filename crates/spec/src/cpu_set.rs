//! A set of processors as Linux writes it: `0-3,8,10-11`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The largest processor number that is read: Linux on x86 ends at 8192 (`NR_CPUS`).
pub const MAX_CPU: u32 = 8191;

/// Host processors by their Linux number. Text form: the kernel's list format.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct CpuSet(BTreeSet<u32>);

/// What is wrong with a text that should be a set of processors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a list of processors; write numbers up to {MAX_CPU} and ranges: 0-3,8")]
pub struct ParseCpuSetError {
    text: String,
}

impl CpuSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self(BTreeSet::new())
    }

    /// Whether no processor is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of processors in the set.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether processor `cpu` is in the set.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// Adds processor `cpu`; numbers above [`MAX_CPU`] are no processors and are left out.
    pub fn insert(&mut self, cpu: u32) {
        if cpu <= MAX_CPU {
            self.0.insert(cpu);
        }
    }

    /// The processors in rising order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        let mut set = Self::new();
        cpus.into_iter().for_each(|cpu| set.insert(cpu));
        set
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if_eq(&(last + 1)) {
                last = next;
            }
            match first == last {
                true => write!(f, "{separator}{first}")?,
                false => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

impl FromStr for CpuSet {
    type Err = ParseCpuSetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text.trim()).ok_or_else(|| ParseCpuSetError { text: text.to_owned() })
    }
}

impl TryFrom<String> for CpuSet {
    type Error = ParseCpuSetError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<CpuSet> for String {
    fn from(set: CpuSet) -> Self {
        set.to_string()
    }
}

fn parse(text: &str) -> Option<CpuSet> {
    let mut set = CpuSet::new();
    if text.is_empty() {
        return Some(set);
    }
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return None;
        }
        set.0.extend(first..=last);
    }
    Some(set)
}

/// Reads a processor number; `str::parse` alone would also take a sign.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse::<u32>().ok())??;
    (number <= MAX_CPU).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::CpuSet;

    #[test]
    fn sets_read_and_write_the_kernels_list_format() {
        for (text, written) in [
            ("", Some("")),
            ("0", Some("0")),
            ("0-3,8,10-11\n", Some("0-3,8,10-11")),
            ("3,1,2,1", Some("1-3")),
            ("3-1", None),
            ("0-", None),
            ("+1", None),
            ("0-99999999", None),
            ("1,,2", None),
        ] {
            let read = text.parse::<CpuSet>().ok().map(|set| set.to_string());
            assert_eq!(read.as_deref(), written, "{text:?}");
        }
    }
}
