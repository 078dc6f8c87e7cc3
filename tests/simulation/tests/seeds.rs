//! Some seeds, and that a seed has one run. What a seed has shown gets a test of its own, since its run is another one
//! with the next change of the code.

use std::process::Command;

/// Runs the program; returns what it says.
fn simulate(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_simulation")).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The digest of all that clients saw, and when.
fn trace(text: &str) -> &str {
    text.split(", ").find_map(|part| part.strip_prefix("trace ")).unwrap()
}

#[test]
fn a_seed_has_one_run() {
    for seed in ["1", "2"] {
        // Also if somebody looks.
        let log = "info,crucial_server=debug,crucial_runtime=debug";
        let (first, second) = (simulate(&["--seed", seed]), simulate(&["--seed", seed, "--log", log]));
        assert_eq!(trace(&first), trace(&second), "seed {seed}");
    }
    assert_ne!(trace(&simulate(&["--seed", "1"])), trace(&simulate(&["--seed", "2"])));
}

#[test]
fn a_seed_that_takes_too_long_fails() {
    let args = ["--seeds", "1..2", "--limit", "0"];
    let output = Command::new(env!("CARGO_BIN_EXE_simulation")).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("seed 1: FAILED, it was not over after 0 s"), "{text}");
    assert!(text.contains("1 failed: [1]"), "{text}");
}

#[test]
fn what_clients_see_is_linearizable() {
    // A slow machine simulates fewer of them, and says so.
    print!("{}", simulate(&["--seeds", "0..40", "--minutes", "3"]));
}
