//! The binary behind `cargo xtask`. A user's own workspace can have the same three lines.

// With benchmarks, this program is also the server and the function that are measured.
#[cfg_attr(feature = "bench", crucial::main)]
fn main() -> std::process::ExitCode {
    xtask::run()
}
