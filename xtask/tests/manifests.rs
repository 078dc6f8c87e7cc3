//! `cargo xtask manifests`: what it prints is what Kubernetes takes.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

fn manifests(args: &[&str]) -> Output {
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
    xtask.args(["manifests", "--image", "registry.example:5000/shop/app@sha256:0123"]).args(args);
    xtask.stdin(Stdio::null()).output().unwrap()
}

fn text(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

// ---- the schemas of Kubernetes

const VALIDATOR: &str = "kubernetes-validate==1.37.0";

/// Checks each document against Kubernetes' own schemas, in which unknown fields are errors. It has none of Knative's.
const CHECK: &str = r#"
import sys, yaml, kubernetes_validate
for document in yaml.safe_load_all(sys.stdin):
    kind, name = document["kind"], document["metadata"]["name"]
    if not document["apiVersion"].startswith("serving.knative.dev/"):
        for version in ("1.27", "1.31", "1.37"):
            kubernetes_validate.validate(document, version, strict=True)
    print(kind, document["metadata"]["namespace"] + "/" + name)
"#;

/// A Python with the validator, made once.
fn python() -> PathBuf {
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join(VALIDATOR);
    let python = environment.join("bin/python");
    let run = |program: &Path, args: &[&str]| {
        let output = Command::new(program).args(args).stdin(Stdio::null()).output();
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let errors = String::from_utf8_lossy(&output.stderr);
        let line = format!("{} {}", program.display(), args.join(" "));
        assert!(output.status.success(), "the schemas of Kubernetes can't be fetched: `{line}`: {errors}");
    };
    let is_complete = environment.join("complete");
    if !is_complete.exists() {
        run(Path::new("python3"), &["-m", "venv", environment.to_str().unwrap()]);
        run(&python, &["-m", "pip", "install", "--quiet", VALIDATOR]);
        fs::write(is_complete, "").unwrap();
    }
    python
}

/// The kinds and names of the documents, which are valid.
fn validate(python: &Path, manifests: &str) -> Result<Vec<String>, String> {
    let mut check = Command::new(python)
        .args(["-c", CHECK])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(manifests.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

#[test]
#[ignore = "it fetches the schemas of Kubernetes with pip; `cargo test -p xtask -- --include-ignored`"]
fn kubernetes_takes_the_manifests() {
    let python = python();
    let servers =
        ["Service shop/app-servers", "StatefulSet shop/app-servers", "PodDisruptionBudget shop/app-servers"];
    for (flavor, functions) in [
        ("deployment", &["Service shop/app-workers", "Deployment shop/app-workers"][..]),
        ("knative", &["Service shop/app-workers"]),
    ] {
        let text = text(manifests(&["--flavor", flavor, "--namespace", "shop"]));
        assert_eq!(validate(&python, &text).unwrap(), [&servers, functions].concat());
    }
    // It would say so.
    let text = text(manifests(&[])).replace("podManagementPolicy:", "podManagmentPolicy:");
    let error = validate(&python, &text).unwrap_err();
    assert!(error.contains("podManagmentPolicy"), "{error}");
}

// ---- what is in them

#[test]
fn they_say_what_the_arguments_say() {
    let text =
        text(manifests(&["--servers", "5", "--workers", "7", "--storage", "20Gi", "--program", "/bin/shop"]));
    for part in [
        "image: \"registry.example:5000/shop/app@sha256:0123\"",
        "command: [\"/bin/shop\", crucial, function",
        "replicas: 5\n",
        "minAvailable: 3\n",
        "replicas: 7\n",
        "storage: 20Gi\n",
        "app-servers-4.app-servers.default.svc:7878\n",
        "CRUCIAL_HTTP_URL=http://app-workers.default.svc:8080\n",
        "kubectl create secret generic app-token --namespace default",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn what_yaml_or_a_shell_would_misread_is_refused() {
    for (argument, value) in [
        ("--name", "App"),
        ("--name", "1app"),
        ("--namespace", "a b"),
        ("--storage", "10 Gi"),
        ("--storage", "Gi"),
        ("--program", "/app; true"),
        ("--program", "/$HOME/app"),
        ("--servers", "0"),
    ] {
        let output = manifests(&[argument, value]);
        assert!(!output.status.success() && output.stdout.is_empty(), "{argument} {value}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(argument));
    }
}

// ---- how servers find each other

#[test]
fn each_server_is_on_the_list_of_all() {
    let all = text(manifests(&["--name", "db", "--namespace", "shop", "--servers", "3"]));
    let argument = |name: &str| {
        let prefix = format!("- --{name}=");
        all.lines().find_map(|line| line.trim().strip_prefix(&*prefix)).unwrap()
    };
    let own: Vec<_> =
        (0..3).map(|n| argument("advertise").replace("$(POD)", &format!("db-servers-{n}"))).collect();
    let listed: Vec<_> = argument("join").split(',').collect();
    assert_eq!(own, listed);
    assert_eq!(own[2], "db-servers-2.db-servers.shop.svc:7878");
}
