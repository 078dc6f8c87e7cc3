//! `cargo xtask manifests`: what runs a program's servers and functions on Kubernetes.

use std::io::{self, Write};

use clap::ValueEnum;

use crate::Error;

/// Prints manifests that run a program's servers and functions on Kubernetes
///
/// They can be given to `kubectl apply -f -`, or kept and edited. Nothing is sent anywhere.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image that has the program
    #[arg(long, value_parser = plain)]
    image: String,

    /// The program in the image
    #[arg(long, default_value = "/app", value_parser = plain)]
    program: String,

    /// What the names of all objects begin with
    #[arg(long, default_value = "app", value_parser = label)]
    name: String,

    /// Where the objects go
    #[arg(long, default_value = "default", value_parser = label)]
    namespace: String,

    /// How many servers hold the shared objects
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    servers: u8,

    /// How many function processes there are; with Knative, at most
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    workers: u16,

    /// The size of each server's volume
    #[arg(long, value_name = "QUANTITY", default_value = "10Gi", value_parser = quantity)]
    storage: String,

    /// What function processes are
    #[arg(long, value_enum, default_value_t = Flavor::Deployment)]
    flavor: Flavor,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Flavor {
    /// A fixed number of pods
    Deployment,
    /// A Knative Service, which starts and ends them as they are needed
    Knative,
}

pub(crate) fn run(args: &Args) -> Result<(), Error> {
    io::stdout().write_all(render(args).as_bytes())?;
    Ok(())
}

fn render(args: &Args) -> String {
    let Args { name, namespace, servers, .. } = args;
    let nodes: Vec<_> =
        (0..*servers).map(|n| format!("{name}-servers-{n}.{name}-servers.{namespace}.svc:7878")).collect();
    let (functions, port) = match args.flavor {
        Flavor::Deployment => (include_str!("deployment.yaml"), ":8080"),
        Flavor::Knative => (include_str!("knative.yaml"), ""),
    };
    let text = [include_str!("servers.yaml"), functions, include_str!("client.yaml")].concat();
    [
        ("servers", servers.to_string()),
        ("majority", (servers / 2 + 1).to_string()),
        // More replicas than servers could never be made; an even number of them is no safer than one less.
        ("replicas", (if *servers < 3 { 1 } else { 3 }).to_string()),
        ("workers", args.workers.to_string()),
        ("storage", args.storage.clone()),
        ("nodes", nodes.join(",")),
        ("url", format!("http://{name}-workers.{namespace}.svc{port}")),
        ("name", name.clone()),
        ("namespace", namespace.clone()),
        // At last, since they may have any letters.
        ("program", quoted(&args.program)),
        ("image", quoted(&args.image)),
    ]
    .iter()
    .fold(text, |text, (key, value)| text.replace(&format!("@{key}@"), value))
}

/// Text in YAML, which takes JSON's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// What can stand where a shell or YAML reads it.
fn plain(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !"\"'\\$`".contains(c)) {
        Ok(text.to_owned())
    } else {
        Err("expected letters, digits and punctuation, without quotes or spaces".to_owned())
    }
}

/// A DNS label with room for what is added to it.
fn label(text: &str) -> Result<String, String> {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let begins = text.starts_with(|c: char| c.is_ascii_lowercase());
    if begins && text.len() <= 40 && text.chars().all(is_inner) && !text.ends_with('-') {
        Ok(text.to_owned())
    } else {
        Err("expected a DNS label: at most 40 lower-case letters, digits and hyphens, with a letter first"
            .to_owned())
    }
}

/// An amount of bytes, as Kubernetes writes it.
fn quantity(text: &str) -> Result<String, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let is_number = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
    if is_number && ["", "Mi", "Gi", "Ti", "M", "G", "T"].contains(&&text[digits.len()..]) {
        Ok(text.to_owned())
    } else {
        Err("expected a size, as 10Gi".to_owned())
    }
}
