//! Functions that a server couldn't find, or couldn't call.

use crucial::shared;

struct Counter;

impl Counter {
    #[shared]
    fn method(&mut self, by: u64) {}
}

#[shared]
fn generic<T>(value: &mut Vec<T>, more: T) {
    value.push(more);
}

#[shared]
async fn asynchronous(value: &mut u64) {
    *value += 1;
}

#[shared]
fn no_value() {}

#[shared]
fn by_value(value: u64, by: u64) -> u64 {
    value + by
}

#[shared]
fn nested(value: &mut Vec<&str>) {
    value.clear();
}

#[shared]
fn changes_argument(value: &mut u64, other: &mut u64) {
    std::mem::swap(value, other);
}

#[shared]
fn inner_reference(value: &mut u64, names: Vec<&str>) {
    *value += names.len() as u64;
}

#[shared]
fn gives_reference(value: &Vec<u64>) -> &u64 {
    &value[0]
}

#[shared(persistent)]
fn with_option(value: &mut u64) {
    *value += 1;
}

#[shared]
unsafe fn dangerous(value: &mut u64) {
    *value += 1;
}

fn main() {}
