//! The password of RFB's "VNC authentication" (RFC 6143, section 7.2.2): a challenge, enciphered with it.
//!
//! Eight bytes of DES keep nobody out who can listen on the wire; on a loopback port nobody can.

use std::path::Path;

use des::Des;
use des::cipher::{BlockEncrypt, KeyInit, generic_array::GenericArray};

/// Bytes of a challenge, and of its answer.
pub(super) const CHALLENGE: usize = 16;
/// The protocol uses no more of a password.
const USED: usize = 8;

/// A password.
#[derive(Clone)]
pub struct Password([u8; USED]);

/// A password could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The file.
    #[error("read the password file {path}: {errno}")]
    Read {
        /// Which.
        path: String,
        /// What the kernel said.
        errno: std::io::Error,
    },
    /// It would let everybody in.
    #[error("the password file {path} holds no password in its first line")]
    Empty {
        /// Which.
        path: String,
    },
}

impl Password {
    /// Reads the first line of a file.
    pub fn from_file(path: &Path) -> Result<Self, PasswordError> {
        let name = path.display().to_string();
        let text = std::fs::read(path).map_err(|errno| PasswordError::Read { path: name.clone(), errno })?;
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if line.is_empty() { Err(PasswordError::Empty { path: name }) } else { Ok(Self::new(line)) }
    }

    fn new(text: &[u8]) -> Self {
        let mut password = [0; USED];
        for (place, byte) in password.iter_mut().zip(text) {
            *place = *byte;
        }
        Self(password)
    }

    /// Whether `answer` is the challenge enciphered with this password.
    pub(super) fn answers(&self, challenge: &[u8; CHALLENGE], answer: &[u8; CHALLENGE]) -> bool {
        // The protocol reads the key's bits from the other end.
        let cipher = Des::new(&GenericArray::from(self.0.map(u8::reverse_bits)));
        let mut expected = *challenge;
        for block in expected.chunks_exact_mut(8) {
            cipher.encrypt_block(GenericArray::from_mut_slice(block));
        }
        // All bytes, however early they differ: time tells nothing.
        expected.iter().zip(answer).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password")
    }
}

#[cfg(test)]
mod tests {
    use super::Password;

    #[test]
    fn only_the_right_answer_is_let_in() {
        // Computed with OpenSSL's des-ecb under the key with each byte's bits reversed.
        let challenge = *b"0123456789abcdef";
        let password = Password::new(b"secret");
        let mut answer = ANSWER;
        assert!(password.answers(&challenge, &answer));
        assert!(!Password::new(b"secres").answers(&challenge, &answer));
        answer[15] ^= 1;
        assert!(!password.answers(&challenge, &answer));
        assert!(Password::new(b"longer than eight").answers(&challenge, &LONG_ANSWER));
    }

    const ANSWER: [u8; 16] =
        [0x75, 0x24, 0x40, 0xee, 0x2b, 0xfc, 0xc2, 0xa0, 0xd9, 0x01, 0x3f, 0xd2, 0x03, 0x71, 0xe2, 0x3b];
    const LONG_ANSWER: [u8; 16] =
        [0xce, 0xe6, 0x8e, 0xa5, 0xa4, 0xc8, 0xf3, 0x81, 0xaf, 0xaf, 0x5d, 0x76, 0xaf, 0x68, 0x32, 0xfe];

    #[test]
    fn a_password_file_is_its_first_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret\nmore\n").unwrap();
        assert_eq!(&Password::from_file(file.path()).unwrap().0, b"secret\0\0");
        std::fs::write(file.path(), "\n").unwrap();
        assert!(Password::from_file(file.path()).is_err());
        assert!(Password::from_file("/nowhere/password".as_ref()).is_err());
    }
}
