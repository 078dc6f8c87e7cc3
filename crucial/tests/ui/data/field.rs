//! A field's type that serde doesn't know, or that borrows.
use std::collections::HashMap;

use crucial::shared;

pub struct Plain;

#[shared]
pub struct Table {
    rows: Vec<String>,
    by_name: HashMap<String, Plain>,
}

#[shared]
impl Table {
    pub fn new() -> Self {
        Table { rows: Vec::new(), by_name: HashMap::new() }
    }
    pub fn len(&self) -> usize {
        self.rows.len() + self.by_name.len()
    }
}

#[shared]
pub struct Borrowed<'a> {
    text: &'a str,
}

#[shared]
pub struct Words {
    words: Vec<&'static str>,
}

#[shared]
impl Words {
    pub fn new() -> Self {
        Words { words: Vec::new() }
    }
}

fn main() {}
