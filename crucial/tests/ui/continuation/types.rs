//! The compiler checks that one method's result is the other's argument.
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
    pub fn wait(&mut self) -> u32 {
        1
    }
    #[then(tell)]
    pub fn say(&mut self) -> Vec<u8> {
        Vec::new()
    }
    #[then(pass)]
    pub fn nothing(&mut self) {}
    fn pass(&mut self, round: u64) -> bool {
        self.round > round
    }
    fn tell(&mut self, text: &str) -> bool {
        text.is_empty()
    }
}

fn main() {}
