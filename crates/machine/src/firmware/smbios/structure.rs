//! One SMBIOS structure: a header, a formatted area, and strings that the area names by number (section 6.1).

/// A structure on its way to be written.
pub(super) struct Structure {
    kind: u8,
    handle: u16,
    area: Vec<u8>,
    strings: Vec<String>,
}

/// Bytes of the header: type, length, handle.
const HEADER_LEN: usize = 4;

impl Structure {
    pub(super) fn new(kind: u8, handle: u16) -> Self {
        Self { kind, handle, area: Vec::new(), strings: Vec::new() }
    }

    pub(super) fn byte(mut self, value: u8) -> Self {
        self.area.push(value);
        self
    }

    pub(super) fn word(self, value: u16) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn dword(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn qword(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn bytes(mut self, value: &[u8]) -> Self {
        self.area.extend_from_slice(value);
        self
    }

    /// Names a string; an empty one is "no string", number 0.
    pub(super) fn string(mut self, text: &str) -> Self {
        // A zero would end the string, and two the structure.
        let text: String = text.chars().filter(|letter| *letter != '\0').collect();
        if text.is_empty() {
            return self.byte(0);
        }
        self.strings.push(text);
        let number = self.strings.len() as u8;
        self.byte(number)
    }

    /// Appends the structure to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.kind);
        out.push((HEADER_LEN + self.area.len()) as u8);
        out.extend(self.handle.to_le_bytes());
        out.extend_from_slice(&self.area);
        for text in &self.strings {
            out.extend(text.bytes());
            out.push(0);
        }
        // The set of strings ends with an empty one, and an empty set with two.
        out.extend(if self.strings.is_empty() { &[0, 0][..] } else { &[0] });
    }
}
