//! What one copy of an object does that answers one call after the other.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    hash::Hash,
};

use crate::history::{History, Outcome};

/// A sequential specification.
pub trait Model: Clone + fmt::Debug + 'static {
    /// All that later answers depend on.
    type State: Clone + fmt::Debug + Eq + Hash;
    /// A method with its arguments.
    type Op: Clone + fmt::Debug + Eq + Hash + Send;
    /// A result.
    type Ret: Clone + fmt::Debug + Eq + Send;

    /// The state of a new object.
    fn init(&self) -> Self::State;

    /// The state after `op`, if it can take effect now and return `ret`; any result, if nobody saw it.
    fn step(&self, state: &Self::State, op: &Self::Op, ret: Option<&Self::Ret>) -> Option<Self::State>;

    /// Takes out operations with an unknown outcome that need not be tried, or makes them definite. The history that
    /// is left is linearizable if, and only if, the given one is.
    ///
    /// Without this the search grows exponentially with the number of operations that nobody knows the end of.
    fn simplify(&self, _history: &mut History<Self>) {}
}

fn answer<T: PartialEq>(actual: &T, seen: Option<&T>) -> bool {
    seen.is_none_or(|seen| seen == actual)
}

/// A number that is added to.
#[derive(Clone, Debug)]
pub struct Counter;

/// A method of [`Counter`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CounterOp {
    /// Adds; returns the value before.
    Add(u64),
    /// Returns the value.
    Read,
}

impl Model for Counter {
    type State = u64;
    type Op = CounterOp;
    type Ret = u64;

    fn init(&self) -> u64 {
        0
    }

    fn step(&self, state: &u64, op: &CounterOp, ret: Option<&u64>) -> Option<u64> {
        let after = match op {
            CounterOp::Add(by) => state + by,
            CounterOp::Read => *state,
        };
        answer(state, ret).then_some(after)
    }

    fn simplify(&self, history: &mut History<Self>) {
        history.retain(|o| o.op != CounterOp::Read || o.outcome != Outcome::Unknown);
    }
}

/// A value that is replaced. Every written value is written once in a history.
#[derive(Clone, Debug)]
pub struct Register;

/// A method of [`Register`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RegisterOp {
    /// Returns the value.
    Read,
    /// Sets the value; returns the one before.
    Swap(u64),
    /// Sets the value; returns nothing.
    Write(u64),
    /// Sets the value to the second if it is the first. Returns the value before.
    CompareExchange(u64, u64),
}

/// What a method of [`Register`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterRet {
    /// The value before, or the value.
    Value(u64),
    /// It was written.
    Written,
    /// The comparison failed: this is the value.
    Differs(u64),
}

impl Model for Register {
    type State = u64;
    type Op = RegisterOp;
    type Ret = RegisterRet;

    fn init(&self) -> u64 {
        0
    }

    fn step(&self, state: &u64, op: &RegisterOp, ret: Option<&RegisterRet>) -> Option<u64> {
        let (result, after) = match op {
            RegisterOp::Read => (RegisterRet::Value(*state), *state),
            RegisterOp::Swap(new) => (RegisterRet::Value(*state), *new),
            RegisterOp::Write(new) => (RegisterRet::Written, *new),
            RegisterOp::CompareExchange(expected, new) if state == expected => {
                (RegisterRet::Value(*state), *new)
            }
            RegisterOp::CompareExchange(..) => (RegisterRet::Differs(*state), *state),
        };
        answer(&result, ret).then_some(after)
    }

    /// A write whose value nobody saw or compared with, successfully or not, made no difference: what came next either
    /// shows the value before it or replaced it unseen.
    fn simplify(&self, history: &mut History<Self>) {
        history.retain(|o| o.op != RegisterOp::Read || o.outcome != Outcome::Unknown);
        loop {
            let mut seen = HashSet::new();
            for o in &*history {
                if let Outcome::Returned(RegisterRet::Value(v) | RegisterRet::Differs(v), _) = o.outcome {
                    seen.insert(v);
                }
                if let RegisterOp::CompareExchange(expected, _) = o.op {
                    seen.insert(expected);
                }
            }
            let before = history.len();
            history.retain(|o| match (&o.op, &o.outcome) {
                (
                    RegisterOp::Swap(v) | RegisterOp::Write(v) | RegisterOp::CompareExchange(_, v),
                    Outcome::Unknown,
                ) => seen.contains(v),
                _ => true,
            });
            // One that is gone may have been the only one that compared with another's value.
            if history.len() == before {
                return;
            }
        }
    }
}

/// A list that grows at its end. Every pushed value is pushed once in a history.
#[derive(Clone, Debug)]
pub struct List;

/// A method of [`List`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListOp {
    /// Appends a value; returns its index.
    Push(u64),
    /// Returns all values.
    Read,
}

/// What a method of [`List`] returns.
#[derive(Clone, PartialEq, Eq)]
pub enum ListRet {
    /// The index of the new value.
    Index(usize),
    /// All values.
    Values(Vec<u64>),
}

impl fmt::Debug for ListRet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// A violation shows at the end of a list; all of a long one would hide it.
        const SHOWN: usize = 8;
        match self {
            ListRet::Index(index) => write!(f, "Index({index})"),
            ListRet::Values(values) if values.len() <= SHOWN => write!(f, "Values({values:?})"),
            ListRet::Values(values) => {
                let last = &values[values.len() - SHOWN..];
                write!(f, "{} values, the last ones {last:?}", values.len())
            }
        }
    }
}

/// A list's length and a digest of its values: a search that kept the values themselves would need their square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Digest {
    length: usize,
    digest: u64,
}

impl Digest {
    fn push(self, value: u64) -> Self {
        let digest = (self.digest ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Digest { length: self.length + 1, digest: digest ^ digest >> 29 }
    }

    fn of(values: &[u64]) -> Self {
        values.iter().fold(Digest::default(), |digest, value| digest.push(*value))
    }
}

impl Model for List {
    type State = Digest;
    type Op = ListOp;
    type Ret = ListRet;

    fn init(&self) -> Digest {
        Digest::default()
    }

    fn step(&self, state: &Digest, op: &ListOp, ret: Option<&ListRet>) -> Option<Digest> {
        match (op, ret) {
            (ListOp::Push(value), None) => Some(state.push(*value)),
            (ListOp::Push(value), Some(ListRet::Index(index))) => {
                (*index == state.length).then(|| state.push(*value))
            }
            (ListOp::Read, None) => Some(*state),
            (ListOp::Read, Some(ListRet::Values(values))) => {
                (values.len() == state.length && Digest::of(values) == *state).then_some(*state)
            }
            _ => None,
        }
    }

    /// A list never shrinks, so a read that began after all else had ended tells of every push whether it took effect
    /// before, and where. One that it doesn't show is after it in every order, where nobody looks.
    fn simplify(&self, history: &mut History<Self>) {
        history.retain(|o| o.op != ListOp::Read || o.outcome != Outcome::Unknown);
        let Some(last) = history.iter().max_by_key(|o| o.invoked) else { return };
        let Outcome::Returned(ListRet::Values(values), read) = last.outcome.clone() else { return };
        if history.iter().any(|o| o.returned().is_some_and(|at| at > last.invoked) && o != last) {
            return;
        }
        let index: HashMap<u64, usize> =
            values.iter().enumerate().map(|(index, value)| (*value, index)).collect();
        history.retain_mut(|o| {
            let (ListOp::Push(value), Outcome::Unknown) = (&o.op, &o.outcome) else { return true };
            let Some(index) = index.get(value) else { return false };
            o.outcome = Outcome::Returned(ListRet::Index(*index), read);
            true
        });
    }
}

/// A lock whose owners have numbers that only grow.
#[derive(Clone, Debug)]
pub struct Lock;

/// A method of [`Lock`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LockOp {
    /// Takes the lock as soon as nobody has it; returns the owner's number.
    Acquire,
    /// Takes the lock if nobody has it.
    TryAcquire,
    /// Frees the lock if this owner has it.
    Release(u64),
    /// Returns the owner.
    Owner,
}

/// What a method of [`Lock`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockRet {
    /// The owner, if there is one.
    Owner(Option<u64>),
    /// Whether the lock was freed.
    Released(bool),
}

/// Who has a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The number of the last owner.
    pub last: u64,
    /// Whether that one still has it.
    pub locked: bool,
}

impl Model for Lock {
    type State = Owner;
    type Op = LockOp;
    type Ret = LockRet;

    fn init(&self) -> Owner {
        Owner { last: 0, locked: false }
    }

    fn step(&self, state: &Owner, op: &LockOp, ret: Option<&LockRet>) -> Option<Owner> {
        let owner = |state: &Owner| LockRet::Owner(state.locked.then_some(state.last));
        let taken = Owner { last: state.last + 1, locked: true };
        let (result, after) = match op {
            // It waits.
            LockOp::Acquire if state.locked => return None,
            LockOp::TryAcquire if state.locked => (LockRet::Owner(None), *state),
            LockOp::Acquire | LockOp::TryAcquire => (owner(&taken), taken),
            LockOp::Release(number) if state.locked && *number == state.last => {
                (LockRet::Released(true), Owner { locked: false, ..*state })
            }
            LockOp::Release(_) => (LockRet::Released(false), *state),
            LockOp::Owner => (owner(state), *state),
        };
        answer(&result, ret).then_some(after)
    }

    fn simplify(&self, history: &mut History<Self>) {
        history.retain(|o| o.op != LockOp::Owner || o.outcome != Outcome::Unknown);
    }
}

/// A `Mutex<u64>` as std's, whose owner may die.
#[derive(Clone, Debug)]
pub struct StdMutex;

/// A method of [`StdMutex`] or of its guard.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MutexOp {
    /// Locks it, as the attempt with this number; returns the value, and whether it is poisoned.
    Lock(u64),
    /// Drops the guard of that attempt, which writes this value.
    Unlock(u64, u64),
    /// The server takes the lock back from that attempt, whose client it thinks dead.
    Lose(u64),
    /// Clears the poison.
    ClearPoison,
}

/// What a method of [`StdMutex`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MutexRet {
    /// The value, and whether the mutex is poisoned.
    Locked(u64, bool),
    /// It is done.
    Done,
}

/// The state of a [`StdMutex`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MutexState {
    value: u64,
    owner: Option<u64>,
    poisoned: bool,
}

impl Model for StdMutex {
    type State = MutexState;
    type Op = MutexOp;
    type Ret = MutexRet;

    fn init(&self) -> MutexState {
        MutexState::default()
    }

    fn step(&self, state: &MutexState, op: &MutexOp, ret: Option<&MutexRet>) -> Option<MutexState> {
        let (result, after) = match op {
            MutexOp::Lock(attempt) if state.owner.is_none() => (
                MutexRet::Locked(state.value, state.poisoned),
                MutexState { owner: Some(*attempt), ..*state },
            ),
            MutexOp::Unlock(attempt, value) if state.owner == Some(*attempt) => {
                (MutexRet::Done, MutexState { value: *value, owner: None, ..*state })
            }
            MutexOp::Lose(attempt) if state.owner == Some(*attempt) => {
                (MutexRet::Done, MutexState { owner: None, poisoned: true, ..*state })
            }
            MutexOp::ClearPoison => (MutexRet::Done, MutexState { poisoned: false, ..*state }),
            MutexOp::Lock(_) | MutexOp::Unlock(..) | MutexOp::Lose(_) => return None,
        };
        answer(&result, ret).then_some(after)
    }
}
