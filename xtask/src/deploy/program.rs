//! The user's program: which one it is, and how it is built.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{Args, Which, glibc};
use crate::Error;

/// A program of the workspace of the working directory.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// The root of its workspace.
    pub(super) root: PathBuf,
    package: String,
    pub(super) bin: String,
}

fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo has told this program of its own package: build scripts, as that of `ring`, would run again for it.
    let is_ours = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_ours)) {
        command.env_remove(name);
    }
    command
}

impl Program {
    /// The one that is meant.
    pub(super) fn find(which: &Which) -> Result<Program, Error> {
        let output = cargo()
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(Error::Message(
                "there is no Cargo package here: run this where your program is".to_owned(),
            ));
        }
        let metadata: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| Error::Message(format!("what `cargo metadata` says: {error}")))?;
        Program::among(&metadata, &env::current_dir()?, which)
    }

    /// As [`find`](Self::find), with what `cargo metadata` says.
    fn among(metadata: &Value, working: &Path, which: &Which) -> Result<Program, Error> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_here = |package: &Value| {
            let manifest = text(&package["manifest_path"]);
            Path::new(&manifest).parent().is_some_and(|directory| working.starts_with(directory))
        };
        // The one whose directory is the innermost: the root of a workspace may be a package, too.
        let innermost = packages
            .iter()
            .filter(|package| is_here(package))
            .max_by_key(|package| text(&package["manifest_path"]).len());
        let mut programs: Vec<_> = packages
            .iter()
            .filter(|package| match &which.package {
                Some(name) => text(&package["name"]) == *name,
                None => innermost.is_none_or(|here| std::ptr::eq(here, *package)),
            })
            .flat_map(|package| {
                let default = text(&package["default_run"]);
                let targets = package["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
                let bins = targets.iter().filter(|target| target["kind"][0] == "bin");
                bins.map(move |bin| (text(&package["name"]), text(&bin["name"]), default.clone()))
            })
            // The tasks are no program of the user's.
            .filter(|(package, ..)| which.package.is_some() || package != "xtask")
            .collect();
        if let Some(bin) = &which.bin {
            programs.retain(|(_, name, _)| name == bin);
        } else {
            programs.retain(|(_, name, default)| default.is_empty() || name == default);
        }
        match &programs[..] {
            [(package, bin, _)] => Ok(Program {
                root: text(&metadata["workspace_root"]).into(),
                package: package.clone(),
                bin: bin.clone(),
            }),
            [] => Err(Error::Message(
                "there is no such program here: run this where it is, or name it with --package and --bin"
                    .to_owned(),
            )),
            several => {
                let names: Vec<_> = several
                    .iter()
                    .map(|(package, bin, _)| format!("--package {package} --bin {bin}"))
                    .collect();
                Err(Error::Message(format!("which program? There are {}", names.join(", "))))
            }
        }
    }

    /// Builds it once for functions and once for servers, stripped: neither carries what only the other needs, since functions
    /// are loaded each time that one starts.
    pub(super) fn build(&self, args: &Args) -> Result<Built, Error> {
        // At a fixed address, a program needs no table of what to correct when it is loaded: 4 % of its size. Functions listen to
        // nobody; servers, who do, keep the protection of an address that nobody can guess.
        let function =
            self.build_with("crucial/aws,crucial/tls", &["-C", "relocation-model=static"], args)?;
        let server = self.build_with("crucial/cluster,crucial/tls", &[], args)?;
        Ok(Built { function: function.bytes, server })
    }

    fn build_with(&self, features: &str, flags: &[&str], args: &Args) -> Result<Executable, Error> {
        let mut command = cargo();
        command
            .args(["rustc", "--package", &self.package, "--bin", &self.bin, "--profile", &args.profile])
            .args(["--features", features, "--message-format", "json-render-diagnostics"]);
        // What is built for this machine anyway is not built again.
        if host()? != args.target {
            command.args(["--target", &args.target]);
        }
        // Only the program itself is compiled with it: its dependencies serve other builds as well.
        command.args(["--", "-C", "strip=symbols"]).args(flags);
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(Error::Message(format!(
                "{} can't be built. Its package has to depend on `crucial`; for another --target, rustup and a linker \
                 have to have that",
                self.bin
            )));
        }
        let path = executable(&output.stdout, &self.bin)
            .ok_or_else(|| Error::Message(format!("cargo built no program {}", self.bin)))?;
        let bytes = fs::read(&path)?;
        glibc::check(&bytes)?;
        Ok(Executable { path, bytes })
    }
}

/// A program that was built.
#[derive(Debug)]
pub(super) struct Built {
    /// Cargo puts both into the same place, so this one is there no more.
    pub(super) function: Vec<u8>,
    pub(super) server: Executable,
}

#[derive(Debug)]
pub(super) struct Executable {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
}

/// The target of this machine's own compiler.
fn host() -> Result<String, Error> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Error::Message("rustc doesn't say what machine this is".to_owned()))
}

/// The file of a program, among what cargo tells of its build.
fn executable(messages: &[u8], bin: &str) -> Option<PathBuf> {
    String::from_utf8_lossy(messages).lines().rev().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_it = message["reason"] == "compiler-artifact" && message["target"]["name"] == bin;
        message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata() -> Value {
        let package = |name: &str, directory: &str, bins: &[&str], default: Option<&str>| {
            let mut targets = vec![json!({"name": name, "kind": ["lib"]})];
            targets.extend(bins.iter().map(|bin| json!({"name": bin, "kind": ["bin"]})));
            json!({"name": name, "manifest_path": format!("{directory}/Cargo.toml"), "targets": targets,
                   "default_run": default})
        };
        json!({"workspace_root": "/w", "packages": [
            package("app", "/w/app", &["app"], None),
            package("two", "/w/two", &["one", "other"], None),
            package("main", "/w/main", &["main", "tool"], Some("main")),
            package("xtask", "/w/xtask", &["xtask"], None),
        ]})
    }

    fn find(working: &str, package: Option<&str>, bin: Option<&str>) -> Result<(String, String), String> {
        let which = Which { name: None, package: package.map(str::to_owned), bin: bin.map(str::to_owned) };
        let found = Program::among(&metadata(), Path::new(working), &which);
        found.map(|program| (program.package, program.bin)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_program_is_that_of_the_working_directory() {
        let program = |package: &str, bin: &str| Ok((package.to_owned(), bin.to_owned()));
        assert_eq!(find("/w/app/src", None, None), program("app", "app"));
        assert_eq!(find("/w/main", None, None), program("main", "main"));
        assert_eq!(find("/w", Some("app"), None), program("app", "app"));
        assert_eq!(find("/w", None, Some("other")), program("two", "other"));
        let error = find("/w/two", None, None).unwrap_err();
        assert!(error.contains("--bin one") && error.contains("--package two --bin other"), "{error}");
        let error = find("/w", None, None).unwrap_err();
        assert!(!error.contains("xtask"), "{error}");
        assert!(find("/w", None, Some("none")).unwrap_err().contains("--bin"));
    }
}
