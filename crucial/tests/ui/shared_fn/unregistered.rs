//! What a server couldn't find by its name, and what doesn't fit the collection.

use crucial::{collections::{HashMap, HashSet}, shared};

#[shared]
fn add(total: &mut u64, by: u64) {
    *total += by;
}

#[shared]
fn push(text: &mut String, c: char) {
    text.push(c);
}

fn plain(total: &mut u64, by: u64) {
    *total += by;
}

#[shared]
fn keep(n: &mut u64) -> bool {
    *n += 1;
    true
}

fn main() {
    let map = HashMap::<String, u64>::new();
    map.update_with("a", |total: &mut u64, by: u64| *total += by, 1);
    map.update_with("a", plain, 1);
    map.update_with("a", push, 'x');
    map.update_with("a", add, "1");
    map.retain(add, 1);
    map.inspect_with("a", add, 1);
    let set = HashSet::<u64>::new();
    set.retain(keep, ());
    set.retain(|n: &u64| *n > 1, ());
}
