//! Some seeds, those that have shown something, and that a seed has one run.

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
fn what_clients_see_is_linearizable() {
    simulate(&["--seeds", "0..12"]);
}

/// Seeds that have failed, with the reason.
const REGRESSIONS: [(u64, &str); 6] = [
    (3, "a node that had started again served ephemeral objects anew that its former process had lost"),
    (7, "as 3"),
    (10, "as 3"),
    (16, "as 3"),
    (24, "a node answered for one that had its address before, as a voter with an empty log"),
    (25, "a client without a reachable node connected without a pause, until it had no ports left"),
];

#[test]
fn what_was_mended_stays_so() {
    for (seed, why) in REGRESSIONS {
        println!("{why}");
        simulate(&["--seed", &seed.to_string()]);
    }
}
