//! The binary behind `cargo xtask`. A user's own workspace can have the same three lines.

fn main() -> std::process::ExitCode {
    xtask::run()
}
