use crucial_runtime::holder::{Holder, Lost};

use super::holdings::{Holdings, me, name};
use crate::{Result, shared};

/// A counting semaphore for cloud threads, with the method names of the `tokio` crate's; they block.
///
/// A caller that waits for permits costs no thread on the server. Callers whose permits are there go on in the order
/// of their arrival; one that asks for few can pass one that waits for many. If a process dies, the permits that it
/// holds go back; those that it [took](Self::take) without a guard don't.
///
/// ```
/// use crucial::sync::Semaphore;
///
/// let semaphore = Semaphore::new(2);
/// let one = semaphore.acquire();
/// assert_eq!(semaphore.available_permits(), 1);
/// assert!(semaphore.try_acquire_many(2).is_none());
/// drop(one);
/// assert_eq!(semaphore.available_permits(), 2);
/// ```
#[shared]
pub struct Semaphore {
    permits: usize,
    held: Holdings<usize>,
}

#[shared]
impl Semaphore {
    /// A semaphore with this many permits.
    pub fn new(permits: usize) -> Self {
        Semaphore { permits, held: Holdings::default() }
    }

    /// The permits that nobody holds.
    pub fn available_permits(&self) -> usize {
        self.permits
    }

    /// Adds permits: new ones, or those of a permit that was forgotten.
    pub fn add_permits(&mut self, n: usize) {
        self.permits += n;
    }

    /// Takes up to `n` permits away for good. Returns how many there were.
    pub fn forget_permits(&mut self, n: usize) -> usize {
        let n = n.min(self.permits);
        self.permits -= n;
        n
    }

    /// Waits for `n` permits and takes them, without a guard that gives them back: give them back with
    /// [`add_permits`](Self::add_permits).
    #[when(self.permits >= n)]
    pub fn take(&mut self, n: usize) {
        self.permits -= n;
    }

    /// Takes `n` permits if they are there.
    pub fn try_take(&mut self, n: usize) -> bool {
        let there = self.permits >= n;
        if there {
            self.permits -= n;
        }
        there
    }

    #[doc(hidden)]
    #[when(self.permits >= n)]
    pub fn hold(&mut self, holder: Holder, n: usize) -> u64 {
        self.permits -= n;
        self.held.give(holder, n)
    }

    #[doc(hidden)]
    pub fn try_hold(&mut self, holder: Holder, n: usize) -> Option<u64> {
        (self.permits >= n).then(|| self.hold(holder, n))
    }

    /// Gives back `n` of the held permits, and takes the others from their holder. False if they were taken back.
    #[doc(hidden)]
    pub fn release(&mut self, token: u64, n: usize) -> Result<bool> {
        let held = self.held.take(token);
        self.permits += n.min(held.unwrap_or(0));
        Ok(held.is_some())
    }

    /// Holds permits in two parts from now on: returns the token of that with `n`.
    #[doc(hidden)]
    pub fn part(&mut self, holder: Holder, token: u64, n: usize) -> Option<u64> {
        let (_, held) = self.held.iter_mut().find(|(held, _)| *held == token)?;
        *held -= n.min(*held);
        Some(self.held.give(holder, n))
    }

    #[lost]
    fn take_back(&mut self, lost: &Lost) {
        self.permits += self.held.take_lost(lost).iter().sum::<usize>();
    }
}

impl Semaphore {
    /// Waits for a permit.
    #[track_caller]
    pub fn acquire(&self) -> SemaphorePermit {
        self.acquire_many(1)
    }

    /// Waits for `n` permits, all at once.
    #[track_caller]
    pub fn acquire_many(&self, n: usize) -> SemaphorePermit {
        let token = self.hold(me(), n);
        SemaphorePermit { semaphore: self.clone(), token, permits: n, returns: n }
    }

    /// Takes a permit if there is one.
    #[track_caller]
    pub fn try_acquire(&self) -> Option<SemaphorePermit> {
        self.try_acquire_many(1)
    }

    /// Takes `n` permits if they are there.
    #[track_caller]
    pub fn try_acquire_many(&self, n: usize) -> Option<SemaphorePermit> {
        let token = self.try_hold(me(), n)?;
        Some(SemaphorePermit { semaphore: self.clone(), token, permits: n, returns: n })
    }
}

/// Permits that go back to their semaphore when this is dropped. Follows the `tokio` crate's `OwnedSemaphorePermit`.
#[derive(Debug)]
#[must_use = "the permits go back when this is dropped"]
pub struct SemaphorePermit {
    semaphore: Semaphore,
    token: u64,
    permits: usize,
    /// How many go back.
    returns: usize,
}

impl SemaphorePermit {
    /// How many permits this holds.
    #[must_use]
    pub fn num_permits(&self) -> usize {
        self.permits
    }

    /// Keeps the permits from going back.
    pub fn forget(mut self) {
        self.returns = 0;
    }

    /// Splits `n` permits off, if there are as many.
    #[track_caller]
    pub fn split(&mut self, n: usize) -> Option<SemaphorePermit> {
        if n > self.permits {
            return None;
        }
        let token = self.semaphore.part(me(), self.token, n)?;
        self.permits -= n;
        self.returns = self.permits;
        Some(SemaphorePermit { semaphore: self.semaphore.clone(), token, permits: n, returns: n })
    }
}

impl Drop for SemaphorePermit {
    fn drop(&mut self) {
        let name = || name("semaphore", &self.semaphore);
        // A destructor can't fail: if the semaphore is out of reach, nobody else can take its permits either.
        match self.semaphore.release(self.token, self.returns) {
            Ok(true) => {}
            Ok(false) => tracing::warn!(
                semaphore = name(),
                "permits were given to others, because this process was cut off from the server for too long"
            ),
            Err(error) => tracing::warn!(%error, semaphore = name(), "permits could not be given back"),
        }
    }
}
