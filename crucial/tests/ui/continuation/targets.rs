//! A continuation takes what the method returns.
use crucial::shared;

#[shared]
pub struct Barrier {
    round: u64,
}

#[shared]
impl Barrier {
    pub fn new() -> Self {
        Barrier { round: 0 }
    }
    #[then(leave)]
    pub fn missing(&mut self) -> u64 {
        self.round
    }
    #[then(two)]
    pub fn count(&mut self) -> u64 {
        self.round
    }
    #[then(pass)]
    pub fn read(&self) -> u64 {
        self.round
    }
    fn pass(&mut self, round: u64) -> bool {
        self.round > round
    }
    fn two(&mut self, a: u64, b: u64) -> bool {
        a < b
    }
}

fn main() {}
