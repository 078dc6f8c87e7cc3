use crate::shared;

/// A counter that threads count down and wait for: a barrier for one use, where those who count need not wait.
/// Std has none; the names are those of C++'s `std::latch`.
///
/// ```
/// use crucial::{cloud_fn, sync::Latch, thread};
///
/// #[cloud_fn]
/// fn prepare(ready: &Latch) {
///     ready.count_down(1);
///     // .. and goes on with something else
/// }
///
/// let ready = Latch::new(3);
/// let threads: Vec<_> = (0..3).map(|_| thread::spawn(|| prepare(&ready))).collect();
/// ready.wait();
/// assert!(ready.try_wait());
/// threads.into_iter().for_each(|thread| thread.join().unwrap());
/// ```
#[shared]
#[derive(Debug)]
pub struct Latch {
    left: usize,
}

#[shared]
impl Latch {
    /// One that has to be counted down this many times.
    pub fn new(count: usize) -> Self {
        Latch { left: count }
    }

    /// How often it has still to be counted down.
    pub fn count(&self) -> usize {
        self.left
    }

    /// Counts down by `n`, at most to zero.
    pub fn count_down(&mut self, n: usize) {
        self.left = self.left.saturating_sub(n);
    }

    /// Whether it has come to zero.
    pub fn try_wait(&self) -> bool {
        self.left == 0
    }

    /// Waits until it has come to zero.
    #[when(self.left == 0)]
    pub fn wait(&self) {}

    /// Counts down by `n` and waits until it has come to zero.
    #[then(arrived)]
    pub fn arrive_and_wait(&mut self, n: usize) {
        self.count_down(n);
    }

    #[when(self.left == 0)]
    fn arrived(&self, (): ()) {}
}
