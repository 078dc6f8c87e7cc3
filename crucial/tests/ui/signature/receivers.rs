//! A method takes `&self` or `&mut self`.
use std::sync::Arc;

use crucial::{cloud_fn, shared};

#[shared]
pub struct Table {
    rows: Vec<String>,
}

#[shared]
impl Table {
    pub fn new() -> Self {
        Table { rows: Vec::new() }
    }
    pub fn into_rows(self) -> Vec<String> {
        self.rows
    }
    pub fn shared(self: Arc<Self>) -> usize {
        self.rows.len()
    }
    pub fn count() -> usize {
        0
    }
}

struct Worker;

impl Worker {
    #[cloud_fn]
    fn work(&self, n: u64) -> u64 {
        n
    }
}

fn main() {}
