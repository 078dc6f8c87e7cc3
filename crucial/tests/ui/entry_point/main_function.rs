//! What `main` may not be.

#[crucial::main]
unsafe fn main<T>(args: Vec<String>) {
    let _ = args;
}
