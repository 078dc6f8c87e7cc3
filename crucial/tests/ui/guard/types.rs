//! A guard is a condition on the state and the arguments.
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
    #[when(self.free)]
    pub fn not_a_condition(&mut self, n: u32) {
        self.free -= n;
    }
    #[when(self.free >= m)]
    pub fn unknown_name(&mut self, n: u32) {
        self.free -= n;
    }
    #[when(self.permits >= n)]
    pub fn unknown_field(&mut self, n: u32) {
        self.free -= n;
    }
    #[when(self.free >= n)]
    pub fn other_type(&mut self, n: u64) {
        self.free -= n as u32;
    }
}

fn main() {}
