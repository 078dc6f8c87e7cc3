use crucial_runtime::shared_fn::{Invocation, Update};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Result, shared,
    typed::{Blob, done, typed},
};

/// The object behind a [`Reducer`].
#[shared]
#[doc(hidden)]
#[derive(Debug)]
pub struct RawReducer {
    parties: usize,
    combine: Invocation,
    /// What has been combined in this round.
    partial: Option<Blob>,
    arrived: usize,
    round: u64,
    /// The result of the last round.
    result: Blob,
}

/// A round that a caller has contributed to.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Contribution {
    round: u64,
}

#[shared]
impl RawReducer {
    pub fn new(parties: usize, combine: Invocation) -> Self {
        let parties = parties.max(1);
        RawReducer { parties, combine, partial: None, arrived: 0, round: 0, result: Blob::default() }
    }

    #[then(finished)]
    pub fn reduce(&mut self, value: Blob) -> Result<Contribution> {
        let round = self.round;
        match &mut self.partial {
            Some(partial) => drop(self.combine.find()?.with_arg(value.bytes()).update(partial.bytes_mut())?),
            None => self.partial = Some(value),
        }
        self.arrived += 1;
        if self.arrived == self.parties {
            self.result = self.partial.take().unwrap_or_default();
            self.arrived = 0;
            self.round += 1;
        }
        Ok(Contribution { round })
    }

    /// Invariant: callers of a round get its result before anybody begins the next one, since those that wait go on at
    /// once when the round ends.
    #[when(match contribution { Ok(contribution) => self.round > contribution.round, Err(_) => true })]
    fn finished(&self, contribution: Result<Contribution>) -> Result<Blob> {
        contribution.map(|_| self.result.clone())
    }
}

type RawReducerAt = __RawReducerAt;

typed! {
    /// Combines a value of each thread, and gives the result to all of them, in one call each: an all-reduce. Reusable,
    /// as a [`Barrier`](super::Barrier) is. Std has none.
    ///
    /// A shared function combines two values on the server, in the order in which they come; the sum of floating-point
    /// numbers depends on that order in its last digits.
    ///
    /// ```
    /// use crucial::{cloud_fn, shared, sync::Reducer, thread};
    ///
    /// #[shared]
    /// fn max(highest: &mut u64, other: u64) {
    ///     *highest = (*highest).max(other);
    /// }
    ///
    /// #[cloud_fn]
    /// fn work(reducer: &Reducer<u64>, rank: u64) -> u64 {
    ///     reducer.reduce(rank * 10)
    /// }
    ///
    /// let reducer = Reducer::new(3, max);
    /// let threads: Vec<_> = (0..3).map(|rank| thread::spawn(|| work(&reducer, rank))).collect();
    /// for thread in threads {
    ///     assert_eq!(thread.join(), Ok(20));
    /// }
    /// ```
    pub struct Reducer<T>(RawReducer), at NamedReducer(RawReducerAt);
}

impl<T: Serialize + DeserializeOwned> Reducer<T> {
    /// One for this many threads, which combines with a shared function of the form `fn(&mut T, T)`.
    #[must_use]
    #[track_caller]
    pub fn new<F: Update<T, Arg = T>>(parties: usize, combine: F) -> Self {
        Reducer::over(RawReducer::new(parties, Invocation::without_arg(combine)))
    }

    /// Contributes a value, waits until all threads have, and returns what they combine to.
    ///
    /// # Panics
    /// If the function panics, which poisons the reducer; and as all calls do.
    #[track_caller]
    pub fn reduce(&self, value: T) -> T {
        done(self.raw.reduce(Blob::of(&value))).to()
    }
}

impl<T: Serialize + DeserializeOwned> NamedReducer<T> {
    /// The one with this name.
    #[expect(clippy::new_ret_no_self, reason = "the end of the chain `at(key).new(parties, combine)`")]
    #[must_use]
    #[track_caller]
    pub fn new<F: Update<T, Arg = T>>(self, parties: usize, combine: F) -> Reducer<T> {
        self.build(|named| named.new(parties, Invocation::without_arg(combine)))
    }
}
