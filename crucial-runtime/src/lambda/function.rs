//! What a function is.

use std::{ffi::OsString, path::PathBuf, time::Duration};

/// A program that runs as a function, and its limits.
#[derive(Debug, Clone)]
pub struct Function {
    /// Letters, digits, hyphens and underscores, at most 64.
    pub name: String,
    /// The program to start. Without a slash it is looked for in `PATH`.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables that its environment has in addition to those of this process. Variables that Lambda
    /// reserves can't be set here.
    pub env: Vec<(OsString, OsString)>,
    /// How many invocations may be under way at a time. One more is refused. Zero refuses all.
    pub concurrency: usize,
    /// The longest that an invocation may take; then its instance is killed.
    pub timeout: Duration,
    /// The most resident memory that an instance may have held, in MiB; then it is killed.
    pub memory: u64,
    /// An instance without an invocation is ended after this time.
    pub idle: Duration,
    /// The longest that an instance may take from its start to its first request for work.
    pub init_timeout: Duration,
}

impl Function {
    /// A function with Lambda's limits for synchronous invocations: 1000 at a time, 15 minutes, 10 GiB, 10
    /// seconds to initialize. Instances end after 10 idle minutes.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Function {
        Function {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            concurrency: 1000,
            timeout: Duration::from_secs(15 * 60),
            memory: 10 * 1024,
            idle: Duration::from_secs(10 * 60),
            init_timeout: Duration::from_secs(10),
        }
    }

    /// Why this function can't be, if it can't.
    pub(crate) fn check(&self) -> Result<(), String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if self.name.is_empty() || self.name.len() > 64 || !self.name.bytes().all(allowed) {
            return Err(format!(
                "the function name `{}` isn't one of 1 to 64 letters, digits, hyphens and underscores",
                self.name.escape_debug()
            ));
        }
        Ok(())
    }

    /// The function's Amazon resource name, in an account and a region that don't exist.
    pub(crate) fn arn(&self) -> String {
        format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{}", self.name)
    }

    /// Whether a caller means this function: by name, by `account:function:name` or by full ARN, each with an
    /// optional version.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        let name = match name.split_once("function:") {
            Some((prefix, name)) if prefix.is_empty() || prefix.ends_with(':') => name,
            _ => name,
        };
        let (name, version) = name.split_once(':').unwrap_or((name, VERSION));
        name == self.name && version == VERSION
    }
}

pub(crate) const REGION: &str = "us-east-1";
const ACCOUNT: &str = "012345678912";
pub(crate) const VERSION: &str = "$LATEST";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_has_several_names() {
        let function = Function::new("my-f", "/bin/true");
        let arn = function.arn();
        for name in [
            "my-f",
            "my-f:$LATEST",
            "012345678912:function:my-f",
            "function:my-f",
            &arn,
            &format!("{arn}:$LATEST"),
        ] {
            assert!(function.is_called(name), "{name}");
        }
        for name in [
            "",
            "my",
            "my-f:7",
            "other",
            "arn:aws:lambda:us-east-1:012345678912:function:other",
            "xfunction:my-f",
        ] {
            assert!(!function.is_called(name), "{name}");
        }
    }

    #[test]
    fn names_are_checked() {
        assert!(Function::new("a_B-9", "x").check().is_ok());
        for name in ["", "a b", "ä", "a/b", &"x".repeat(65)] {
            let message = Function::new(name, "x").check().unwrap_err();
            assert!(message.contains("function name"), "{message}");
        }
    }
}
