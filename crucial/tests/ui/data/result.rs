//! A result's type that serde doesn't know, or that can't cross threads.
use std::rc::Rc;

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
    pub fn get(&self) -> Plain {
        Plain
    }
    pub fn try_get(&self) -> Result<u64, Plain> {
        Ok(0)
    }
}

#[cloud_fn]
fn work() -> Plain {
    Plain
}

#[cloud_fn]
fn count() -> Rc<u64> {
    Rc::new(1)
}

fn main() {}
