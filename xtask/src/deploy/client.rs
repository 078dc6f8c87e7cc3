//! What clients of a deployment need to know, in the user's workspace.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::names::Names;
use crate::Error;

/// The folder that the configuration of `crucial` looks for.
const FOLDER: &str = ".crucial";

/// The files of a deployment.
#[derive(Clone, Debug)]
pub(super) struct Files {
    folder: PathBuf,
    settings: PathBuf,
    token: PathBuf,
}

impl Files {
    pub(super) fn of(root: &Path, deployment: &str) -> Files {
        let folder = root.join(FOLDER);
        Files {
            settings: folder.join(format!("{deployment}.toml")),
            token: folder.join(format!("{deployment}.token")),
            folder,
        }
    }

    pub(super) fn token(&self) -> &Path {
        &self.token
    }

    pub(super) fn settings(&self) -> &Path {
        &self.settings
    }

    /// Writes the token, which only this user may read and which git leaves alone.
    pub(super) fn write_token(&self, token: &str) -> Result<(), Error> {
        if !self.folder.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        }
        fs::write(self.folder.join(".gitignore"), "*\n")?;
        write(&self.token, token)
    }

    /// Writes the settings that make a program use the deployment.
    pub(super) fn write_settings(&self, names: &Names, servers: &[String]) -> Result<(), Error> {
        let mut settings = toml::Table::new();
        settings.insert("backend".to_owned(), "lambda".into());
        settings.insert("lambda_function".to_owned(), names.function_arn().into());
        settings.insert("servers".to_owned(), servers.to_vec().into());
        // Beside this file: the workspace may be moved.
        settings.insert("token_file".to_owned(), format!("{}.token", names.deployment).into());
        let text = format!(
            "# Written by `cargo xtask deploy`. CRUCIAL_DEPLOYMENT={} makes a program use it.\n{settings}",
            names.deployment
        );
        write(&self.settings, &text)
    }

    /// Removes them. The folder stays while another deployment has files in it.
    pub(super) fn remove(&self) -> Result<(), Error> {
        for file in [&self.settings, &self.token] {
            match fs::remove_file(file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        let is_of_another = |entry: &fs::DirEntry| entry.file_name() != ".gitignore";
        let mut left = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        if self.folder.is_dir() && !left.any(|entry| is_of_another(&entry)) {
            fs::remove_dir_all(&self.folder)?;
        }
        Ok(())
    }
}

/// Writes a file that is whole or not there.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_for_their_owner_and_go_with_their_deployment() {
        let root = std::env::temp_dir().join(format!("crucial-client-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let names = Names {
            deployment: "prod".to_owned(),
            region: "eu-west-1".to_owned(),
            account: "123456789012".to_owned(),
        };
        let (files, other) = (Files::of(&root, "prod"), Files::of(&root, "other"));
        for files in [&files, &other] {
            files.write_token("0123").unwrap();
            files.write_settings(&names, &["10.0.0.1:7878".to_owned()]).unwrap();
            // Again: as before.
            files.write_token("0123").unwrap();
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode(&root.join(FOLDER)), mode(&files.token), mode(&files.settings)),
            (0o700, 0o600, 0o600)
        );
        assert_eq!(fs::read_to_string(root.join(".crucial/.gitignore")).unwrap(), "*\n");
        let settings: toml::Table = fs::read_to_string(&files.settings).unwrap().parse().unwrap();
        assert_eq!(settings["lambda_function"].as_str().unwrap(), names.function_arn());
        assert_eq!(settings["servers"][0].as_str(), Some("10.0.0.1:7878"));
        assert_eq!(settings["token_file"].as_str(), Some("prod.token"));

        files.remove().unwrap();
        files.remove().unwrap();
        assert!(!files.settings.exists() && other.settings.exists());
        other.remove().unwrap();
        assert!(!root.join(FOLDER).exists());
        fs::remove_dir_all(root).unwrap();
    }
}
