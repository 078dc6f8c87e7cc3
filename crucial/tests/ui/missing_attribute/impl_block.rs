//! The struct is shared, its impl block is not.
use crucial::shared;

#[shared]
pub struct Account {
    balance: i64,
}

impl Account {
    pub fn new(balance: i64) -> Self {
        Account { balance }
    }
}

fn main() {}
