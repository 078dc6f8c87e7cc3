//! An argument's type that serde doesn't know.
use crucial::{cloud_fn, shared};

pub struct Plain;

#[shared]
pub struct Table {
    rows: Vec<String>,
}

#[shared]
impl Table {
    pub fn new() -> Self {
        Table { rows: Vec::new() }
    }
    pub fn add(&mut self, _row: Plain) {}
    pub fn add_all(&mut self, _rows: &[Plain]) {}
}

#[cloud_fn]
fn work(_plain: Plain, n: u64) -> u64 {
    n
}

fn main() {}
