//! Derives above the attribute see the fields before they move to the state.
use crucial::shared;

#[derive(Debug, Default)]
#[shared]
pub struct Account {
    balance: i64,
}

#[shared]
impl Account {
    pub fn new(balance: i64) -> Self {
        Account { balance }
    }
}

fn main() {}
