//! A guard may look, but not touch.
use crucial::shared;

#[shared]
pub struct Permits {
    free: u32,
}

#[shared]
impl Permits {
    pub fn new(free: u32) -> Self {
        Permits { free }
    }
    #[when({ self.free -= 1; true })]
    pub fn assign(&mut self) {}
    #[when(self.try_take())]
    pub fn call(&mut self) {}
    #[when({ n += 1; self.free >= n })]
    pub fn argument(&mut self, mut n: u32) {
        n += 1;
        self.free -= n;
    }
    fn try_take(&mut self) -> bool {
        self.free > 0
    }
}

fn main() {}
