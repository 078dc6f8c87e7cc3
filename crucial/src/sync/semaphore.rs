use crate::{Call, Shared, shared};

/// A counting semaphore for cloud threads, with the method names of the `tokio` crate's; they block.
///
/// A caller that waits for permits costs no thread on the server. Callers whose permits are there go on in the order
/// of their arrival; one that asks for few can pass one that waits for many.
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
}

#[shared]
impl Semaphore {
    /// A semaphore with this many permits.
    pub fn new(permits: usize) -> Self {
        Semaphore { permits }
    }

    /// The permits that nobody holds.
    pub fn available_permits(&self) -> usize {
        self.permits
    }

    /// Adds permits: new ones, or those of a permit that was forgotten.
    pub fn add_permits(&mut self, n: usize) {
        self.permits += n;
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
        self.take(n);
        SemaphorePermit { semaphore: self.clone(), permits: n }
    }

    /// Takes a permit if there is one.
    #[track_caller]
    pub fn try_acquire(&self) -> Option<SemaphorePermit> {
        self.try_acquire_many(1)
    }

    /// Takes `n` permits if they are there.
    #[track_caller]
    pub fn try_acquire_many(&self, n: usize) -> Option<SemaphorePermit> {
        self.try_take(n).then(|| SemaphorePermit { semaphore: self.clone(), permits: n })
    }
}

/// Permits that go back to their semaphore when this is dropped. Follows the `tokio` crate's `OwnedSemaphorePermit`.
#[derive(Debug)]
#[must_use = "the permits go back when this is dropped"]
pub struct SemaphorePermit {
    semaphore: Semaphore,
    permits: usize,
}

impl SemaphorePermit {
    /// How many permits this holds.
    #[must_use]
    pub fn num_permits(&self) -> usize {
        self.permits
    }

    /// Keeps the permits from going back.
    pub fn forget(mut self) {
        self.permits = 0;
    }
}

impl Drop for SemaphorePermit {
    fn drop(&mut self) {
        if self.permits > 0 {
            // A destructor can't fail: if the semaphore is out of reach, nobody else can take its permits either.
            let returned: Call<()> = self.semaphore.remote().add_permits(self.permits);
            if let Err(error) = returned.wait() {
                tracing::warn!(%error, key = self.semaphore.key(), "permits could not be given back");
            }
        }
    }
}
