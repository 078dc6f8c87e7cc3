//! The impl block is shared, the struct is not.
use crucial::shared;

pub struct Account {
    balance: i64,
}

#[shared]
impl Account {
    pub fn new(balance: i64) -> Self {
        Account { balance }
    }
    pub fn balance(&self) -> i64 {
        self.balance
    }
}

fn main() {}
