//! `async`, `unsafe`, `extern` and `const`.
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
    pub async fn wait(&self) {}
    pub unsafe fn get(&self) {}
    pub extern "C" fn len(&self) -> usize {
        self.rows.len()
    }
    pub fn many(
        &self, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8,
        _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u16,
    ) {
    }
}

#[cloud_fn]
const fn constant() {}

#[cloud_fn]
unsafe extern "C" fn foreign() {}

fn main() {}
