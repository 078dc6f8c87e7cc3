//! What can't travel.

use std::rc::Rc;

use crucial::shared;

struct Plain;

#[shared]
fn changed(value: &mut Plain) {
    let _ = value;
}

#[shared]
fn argument(value: &mut u64, by: Rc<u64>) {
    *value += *by;
}

#[shared]
fn result(value: &mut u64) -> Plain {
    *value += 1;
    Plain
}

fn main() {}
