//! The README's program and the one on the front page of the docs differ by the lines that the README shows.

const README: &str = include_str!("../../README.md");
const FRONT_PAGE: &str = include_str!("../src/lib.rs");

/// The first block in a language.
fn block(text: &str, fence: &str) -> Vec<String> {
    let lines = text.lines().skip_while(|line| *line != fence).skip(1);
    lines.take_while(|line| *line != "```").map(str::to_owned).collect()
}

/// Applies the hunks of a diff, in their order, to a program.
fn apply(program: &[String], diff: &[String]) -> Vec<String> {
    let mut changed = Vec::new();
    let mut rest = program.iter().peekable();
    for hunk in diff.split(|line| line == "@@") {
        // What stands between the hunks stays.
        let start = hunk.iter().find(|line| !line.starts_with('+')).expect("a hunk says where it belongs");
        while let Some(line) = rest.next_if(|line| **line != start[1..]) {
            changed.push(line.clone());
        }
        for line in hunk {
            match line.split_at_checked(1).unwrap_or((" ", "")) {
                ("+", new) => changed.push(new.to_owned()),
                (" ", same) => changed.push(rest.next_if(|line| *line == same).expect(same).clone()),
                ("-", old) => drop(rest.next_if(|line| *line == old).expect(old)),
                _ => panic!("neither kept nor changed: {line}"),
            }
        }
    }
    changed.extend(rest.cloned());
    changed
}

#[test]
fn the_diff_leads_from_one_program_to_the_other() {
    let docs: String = FRONT_PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .flat_map(|line| [line.strip_prefix(' ').unwrap_or(line), "\n"])
        .collect();
    let with_crucial = block(&docs[docs.find("```\n").unwrap() + 4..], "```");
    let with_std = block(README, "```rust");
    let diff = block(README, "```diff");
    assert!(with_std.len() > 10 && diff.len() > 5);
    assert_eq!(apply(&with_std, &diff), with_crucial);
}
