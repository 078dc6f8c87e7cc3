//! The struct is shared and has no impl block at all.
use crucial::shared;

#[shared]
pub struct Account {
    pub balance: i64,
}

fn main() {}
