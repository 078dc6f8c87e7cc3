//! Guards and continuations go on methods.
use crucial::shared;

#[shared]
pub struct Gate {
    open: bool,
}

#[shared]
impl Gate {
    #[when(true)]
    pub fn new() -> Self {
        Gate { open: false }
    }
    #[when(self.open)]
    #[when(!self.open)]
    pub fn pass(&self) {}
    #[when]
    pub fn enter(&self) {}
    #[when(self.open =)]
    pub fn leave(&self) {}
    #[then]
    pub fn shut(&mut self) {}
}

fn main() {}
