//! Continuations end somewhere.
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
    #[then(pass)]
    pub fn wait(&mut self) -> u64 {
        self.round
    }
    #[then(back)]
    fn pass(&mut self, round: u64) -> u64 {
        round
    }
    #[then(pass)]
    fn back(&mut self, round: u64) -> u64 {
        round
    }
    #[then(forever)]
    pub fn forever(&mut self, round: u64) -> u64 {
        round
    }
}

fn main() {}
