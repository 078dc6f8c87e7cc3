use serde::{Deserialize, Serialize};

use crate::shared;

/// A barrier for cloud threads. Follows [`std::sync::Barrier`]: reusable, and each round has one leader.
///
/// ```
/// use crucial::{cloud_fn, sync::Barrier, thread};
///
/// #[cloud_fn]
/// fn work(barrier: &Barrier) -> bool {
///     barrier.wait().is_leader()
/// }
///
/// let barrier = Barrier::new(3);
/// let threads: Vec<_> = (0..3).map(|_| thread::spawn(|| work(&barrier))).collect();
/// let leaders = threads.into_iter().filter(|_| true).map(|t| t.join().unwrap()).filter(|leader| *leader);
/// assert_eq!(leaders.count(), 1);
/// ```
#[shared]
pub struct Barrier {
    size: usize,
    arrived: usize,
    round: u64,
}

#[shared]
impl Barrier {
    /// A barrier for `n` threads. As in std, 0 and 1 never block.
    pub fn new(n: usize) -> Self {
        Barrier { size: n, arrived: 0, round: 0 }
    }

    /// Waits until all threads are here. The last one to arrive is the round's leader.
    #[then(pass)]
    pub fn wait(&mut self) -> Arrival {
        let round = self.round;
        self.arrived += 1;
        let leader = self.arrived >= self.size;
        if leader {
            self.arrived = 0;
            self.round += 1;
        }
        Arrival { round, leader }
    }

    #[when(self.round > arrival.round)]
    fn pass(&self, arrival: Arrival) -> BarrierWaitResult {
        BarrierWaitResult(arrival.leader)
    }
}

/// A thread's place in a round.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Arrival {
    round: u64,
    leader: bool,
}

/// Tells a round's leader from the others. Follows [`std::sync::BarrierWaitResult`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// Whether this thread was the last to arrive. Exactly one is, in each round.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.0
    }
}
