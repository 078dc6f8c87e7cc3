//! What is called by name can't be generic.
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
    pub fn add<T: ToString>(&mut self, row: T) {
        self.rows.push(row.to_string());
    }
    pub fn first<'a>(&self, or: &'a str) -> usize {
        self.rows.len() + or.len()
    }
    pub fn len(&self) -> usize
    where
        String: Clone,
    {
        self.rows.len()
    }
}

#[cloud_fn]
fn starts<'a>(text: &'a str) -> bool {
    text.is_empty()
}

fn main() {}
