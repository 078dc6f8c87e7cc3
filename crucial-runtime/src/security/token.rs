//! The cluster token: as text, in a file, and in no message.

use std::{
    fmt::{self, Write},
    fs::{File, OpenOptions},
    io::{self, Read, Write as _},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    str::FromStr,
};

/// The bytes of a token.
const LENGTH: usize = 32;

/// The secret of a cluster: 256 random bits, written as 64 hexadecimal digits.
///
/// Who has it can do everything. It has no `Display`, and `Debug` doesn't show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; LENGTH]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(not shown)")
    }
}

impl Token {
    /// A new token.
    ///
    /// # Panics
    /// If the system gives no random numbers.
    #[must_use]
    pub fn generate() -> Self {
        let mut secret = [0; LENGTH];
        getrandom::fill(&mut secret).expect("the operating system gives random numbers");
        Token(secret)
    }

    /// The token itself: for those who have to hand it on.
    #[must_use]
    pub fn reveal(&self) -> String {
        self.0.iter().fold(String::with_capacity(2 * LENGTH), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    #[cfg(feature = "tls")]
    pub(super) fn bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }

    /// Writes the token into a new file that only its owner can read.
    ///
    /// # Errors
    /// If there is such a file already, or it can't be written.
    pub fn store(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(format!("{}\n", self.reveal()).as_bytes())?;
        file.sync_all()
    }
}

impl FromStr for Token {
    type Err = String;

    /// Reads the text of a token, with or without white space around it. Errors don't repeat the text.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let digits: Vec<_> = text.chars().map(|c| c.to_digit(16)).collect();
        let expected = "a token is 64 hexadecimal digits, as `app crucial token` makes it";
        let mut secret = [0; LENGTH];
        if digits.len() != 2 * LENGTH {
            return Err(format!("{expected}; this has {} characters", digits.len()));
        }
        for (byte, pair) in secret.iter_mut().zip(digits.chunks(2)) {
            let (Some(high), Some(low)) = (pair[0], pair[1]) else {
                return Err(format!("{expected}; this has other characters, too"));
            };
            *byte = (high << 4 | low) as u8;
        }
        Ok(Token(secret))
    }
}

/// Reads a token from a file.
///
/// Invariant: a token that others on this machine can read is not used, as with keys of ssh. Of the open file, so that
/// it can't be exchanged in between.
///
/// # Errors
/// Says why not, and what to do.
pub fn load(path: &Path) -> Result<Token, String> {
    if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<Token>().is_ok()) {
        return Err(
            "this is a token, and not the path of a file that holds one: set CRUCIAL_TOKEN to it".to_owned()
        );
    }
    let file = File::open(path).map_err(|e| format!("can't open it: {e}"))?;
    let mode = file.metadata().map_err(|e| format!("can't look at it: {e}"))?.mode();
    if mode & 0o077 != 0 {
        return Err(format!(
            "others than its owner can use the file (mode {:04o}), so the token may not be secret: chmod 600 {}",
            mode & 0o7777,
            path.display()
        ));
    }
    let mut text = String::new();
    // A token and what an editor may add.
    file.take(1024).read_to_string(&mut text).map_err(|e| format!("can't read it: {e}"))?;
    text.parse()
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    use super::*;

    const TEXT: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    #[test]
    fn a_token_is_its_text() {
        let token: Token = TEXT.parse().unwrap();
        assert_eq!(token.0, std::array::from_fn(|i| i as u8));
        assert_eq!(token.reveal(), TEXT);
        assert_eq!(format!(" {}\n", TEXT.to_uppercase()).parse(), Ok(token));
        let generated = Token::generate();
        assert_eq!(generated.reveal().parse(), Ok(generated.clone()));
        assert_ne!(generated, Token::generate());
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_shown() {
        for (text, reason) in [
            ("", "has 0 characters"),
            (&TEXT[1..], "has 63 characters"),
            (&format!("{TEXT}0"), "has 65 characters"),
            (&TEXT.replace("0a", "ä0"), "has other characters"),
            (&TEXT.replace('b', "x"), "has other characters"),
        ] {
            let error = text.parse::<Token>().unwrap_err();
            assert!(error.contains(reason) && error.contains("64 hexadecimal digits"), "{error}");
            assert!(text.is_empty() || !error.contains(&text[..8.min(text.len())]), "{error}");
        }
        let shown = format!("{:?}", TEXT.parse::<Token>().unwrap());
        assert_eq!(shown, "Token(not shown)");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let path = std::env::temp_dir().join(format!("crucial-token-{}", std::process::id()));
        let token = Token::generate();
        token.store(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(load(&path), Ok(token.clone()));
        assert_eq!(token.store(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        for mode in [0o640, 0o604, 0o620, 0o601] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = load(&path).unwrap_err();
            assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(load(&path).unwrap_err().contains("can't open it"));
        assert!(load(Path::new(TEXT)).unwrap_err().contains("CRUCIAL_TOKEN"));
    }
}
