//! Arguments that can't travel.
use std::borrow::Cow;

use crucial::{cloud_fn, shared};

#[shared]
pub struct Table {
    rows: Vec<String>,
}

#[shared]
impl Table {
    pub fn new(rows: &'static [String]) -> Self {
        Table { rows: rows.to_vec() }
    }
    pub fn fill(&self, into: &mut Vec<String>) {
        into.extend(self.rows.iter().cloned());
    }
    pub fn add(&mut self, row: Option<&str>) {
        self.rows.extend(row.map(str::to_owned));
    }
    pub fn put(&mut self, row: Cow<'_, str>) {
        self.rows.push(row.into_owned());
    }
    pub fn show(&self, what: &dyn Fn(&str) -> bool) -> bool {
        what("")
    }
    pub fn extend(&mut self, rows: impl Iterator<Item = String>) {
        self.rows.extend(rows);
    }
    pub fn join(&mut self, other: Table) {
        self.rows.extend(other.rows);
    }
}

#[cloud_fn]
fn fill(into: &mut Vec<u8>) {
    into.push(0);
}

#[cloud_fn]
fn show(what: impl Fn()) {
    what();
}

fn main() {}
