//! Results that can't travel.
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
    pub fn row(&self, n: usize) -> &str {
        &self.rows[n]
    }
    pub fn row_mut(&mut self, n: usize) -> &mut String {
        &mut self.rows[n]
    }
    pub fn find(&self) -> Option<&String> {
        self.rows.first()
    }
    pub fn iter(&self) -> std::slice::Iter<'_, String> {
        self.rows.iter()
    }
    pub fn lengths(&self) -> impl Iterator<Item = usize> {
        self.rows.iter().map(|row| row.len())
    }
    pub fn copy(&self) -> Self {
        Table { rows: self.rows.clone() }
    }
    pub fn other(&self) -> Option<Table> {
        None
    }
}

#[cloud_fn]
fn longest(words: &[String]) -> &String {
    &words[0]
}

#[cloud_fn]
fn numbers() -> impl Iterator<Item = u32> {
    0..3
}

fn main() {}
