//! Decides whether a history is linearizable: the search of Wing and Gong, with Lowe's memory of what was tried.

use std::{collections::HashSet, fmt, time::Duration};

use crate::{
    history::{History, Operation, Outcome},
    models::Model,
};

/// What the checker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains every answer.
    Linearizable,
    /// There is none.
    Violated,
    /// The search was given up; this is no acceptance.
    Undecided,
}

/// How many states the search may visit.
pub const LIMIT: usize = 5_000_000;

/// Checks a history.
#[must_use]
pub fn check<M: Model>(model: &M, history: &History<M>) -> Verdict {
    check_within(model, history, LIMIT)
}

/// Checks a history, visiting at most so many states.
#[must_use]
pub fn check_within<M: Model>(model: &M, history: &History<M>, limit: usize) -> Verdict {
    let mut history = history.clone();
    model.simplify(&mut history);
    Search::new(model, history).run(limit)
}

/// Nothing: the end of a list, or no operation.
const NONE: usize = usize::MAX;

/// A search for an order.
///
/// Invariant: what is linearized so far, with the state it led to, decides what can follow. So a pair that was tried
/// before is not tried again, however it came about.
struct Search<'a, M: Model> {
    model: &'a M,
    /// Those that returned, in the order of their invocation, then those with an unknown outcome, likewise.
    operations: History<M>,
    /// How many returned.
    returned: usize,
    /// For each operation with an unknown outcome the one before it with the same method and arguments. They can trade
    /// places in any order, so only orders that begin with the first of them are tried.
    twin: Vec<usize>,
    /// The events that are not linearized yet, in the order of time, as a doubly linked list: `2 * i` is the invocation
    /// of operation `i` and `2 * i + 1` its return. The last element is the head.
    next: Vec<usize>,
    previous: Vec<usize>,
    done: Done,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, mut operations: History<M>) -> Self {
        operations.sort_by_key(|o| (o.outcome == Outcome::Unknown, o.invoked));
        let returned = operations.iter().filter(|o| o.outcome != Outcome::Unknown).count();
        let twin = (returned..operations.len())
            .map(|i| (returned..i).rev().find(|j| operations[*j].op == operations[i].op).unwrap_or(NONE))
            .collect();
        // An invocation at the very time of a return is before it: then they overlap.
        let mut events: Vec<(Duration, bool, usize)> = Vec::with_capacity(2 * returned);
        for (i, operation) in operations[..returned].iter().enumerate() {
            events.push((operation.invoked, false, 2 * i));
            events.push((operation.returned().expect("it is among those that returned"), true, 2 * i + 1));
        }
        events.sort_unstable();
        let head = 2 * returned;
        let (mut next, mut previous) = (vec![head; head + 1], vec![head; head + 1]);
        let mut last = head;
        for (_, _, event) in events {
            (next[last], previous[event]) = (event, last);
            last = event;
        }
        (next[last], previous[head]) = (head, last);
        let done = Done::new(operations.len());
        Search { model, operations, returned, twin, next, previous, done }
    }

    /// Whether an event is one, and neither a return nor the head.
    fn is_invocation(&self, event: usize) -> bool {
        event != 2 * self.returned && event.is_multiple_of(2)
    }

    fn remove(&mut self, event: usize) {
        let (next, previous) = (self.next[event], self.previous[event]);
        (self.next[previous], self.previous[next]) = (next, previous);
    }

    /// Events come back in the opposite order, so that their neighbours are what they were.
    fn restore(&mut self, event: usize) {
        let (next, previous) = (self.next[event], self.previous[event]);
        (self.next[previous], self.previous[next]) = (event, event);
    }

    /// The operation to try after `last` in this position: first those that returned, as most need no other.
    ///
    /// Only what was invoked before the first return can be next.
    fn candidate(&self, last: usize) -> usize {
        let head = 2 * self.returned;
        let mut unknown = last.wrapping_add(1);
        if last == NONE || last < self.returned {
            let event = self.next[if last == NONE { head } else { 2 * last }];
            if self.is_invocation(event) {
                return event / 2;
            }
            unknown = self.returned;
        }
        let mut event = self.next[head];
        while self.is_invocation(event) {
            event = self.next[event];
        }
        let end = if event == head {
            Duration::MAX
        } else {
            self.operations[event / 2].returned().unwrap_or(Duration::MAX)
        };
        (unknown..self.operations.len())
            .take_while(|i| self.operations[*i].invoked <= end)
            .find(|i| {
                let twin = self.twin[i - self.returned];
                !self.done.has(*i) && (twin == NONE || self.done.has(twin))
            })
            .unwrap_or(NONE)
    }

    fn linearize(&mut self, i: usize) {
        self.done.set(i);
        if i < self.returned {
            self.remove(2 * i);
            self.remove(2 * i + 1);
        }
    }

    fn take_back(&mut self, i: usize) {
        self.done.clear(i);
        if i < self.returned {
            self.restore(2 * i + 1);
            self.restore(2 * i);
        }
    }

    fn run(mut self, limit: usize) -> Verdict {
        let mut state = self.model.init();
        let mut path: Vec<(usize, M::State)> = Vec::new();
        let mut tried = HashSet::new();
        let mut last = NONE;
        // What returned must be in the order; what didn't, may.
        while self.next[2 * self.returned] != 2 * self.returned {
            let i = self.candidate(last);
            if i == NONE {
                let Some((i, before)) = path.pop() else { return Verdict::Violated };
                self.take_back(i);
                (state, last) = (before, i);
                continue;
            }
            last = i;
            let operation = &self.operations[i];
            let Some(after) = self.model.step(&state, &operation.op, operation.result()) else { continue };
            // What changes nothing and nobody saw the answer of need not be in the order.
            if i >= self.returned && after == state {
                continue;
            }
            self.linearize(i);
            if tried.insert((self.done.key(), after.clone())) {
                if tried.len() > limit {
                    return Verdict::Undecided;
                }
                path.push((i, std::mem::replace(&mut state, after)));
                last = NONE;
            } else {
                self.take_back(i);
            }
        }
        Verdict::Linearizable
    }
}

/// A set of operations.
///
/// It is mostly "the first so many, and a few of the next", and its key holds no more than that.
struct Done {
    words: Vec<u64>,
    /// All words before are full.
    full: usize,
}

impl Done {
    fn new(operations: usize) -> Self {
        Done { words: vec![0; operations.div_ceil(64) + 1], full: 0 }
    }

    fn has(&self, i: usize) -> bool {
        self.words[i / 64] >> (i % 64) & 1 == 1
    }

    fn set(&mut self, i: usize) {
        self.words[i / 64] |= 1 << (i % 64);
        while self.words[self.full] == u64::MAX {
            self.full += 1;
        }
    }

    fn clear(&mut self, i: usize) {
        self.words[i / 64] &= !(1 << (i % 64));
        self.full = self.full.min(i / 64);
    }

    fn key(&self) -> (usize, Box<[(usize, u64)]>) {
        let rest = self.words.iter().enumerate().skip(self.full).filter(|(_, word)| **word != 0);
        (self.full, rest.map(|(i, word)| (i, *word)).collect())
    }
}

/// The part of a violated history that shows the violation.
#[derive(Clone, Debug)]
pub struct Evidence<M: Model> {
    /// The history up to the first return that nothing explains.
    pub prefix: History<M>,
}

/// The shortest beginning of a violated history that is violated.
///
/// What clients saw up to some time is a history too: calls that returned later have an unknown outcome in it.
#[must_use]
pub fn evidence<M: Model>(model: &M, history: &History<M>) -> Evidence<M> {
    /// A beginning has more operations with an unknown outcome than the whole, and takes longer.
    const LIMIT: usize = 200_000;
    let mut history = history.clone();
    model.simplify(&mut history);
    let mut times: Vec<_> = history.iter().filter_map(Operation::returned).collect();
    times.sort_unstable();
    let until = |time: Duration| -> History<M> {
        let begun = history.iter().filter(|o| o.invoked <= time).cloned();
        begun
            .map(|mut o| {
                if o.returned().is_some_and(|at| at > time) {
                    o.outcome = Outcome::Unknown;
                }
                o
            })
            .collect()
    };
    // A shorter beginning of a linearizable history is linearizable.
    let first = times.partition_point(|time| check_within(model, &until(*time), LIMIT) != Verdict::Violated);
    Evidence { prefix: times.get(first).map_or_else(|| history.clone(), |time| until(*time)) }
}

impl<M: Model> fmt::Display for Evidence<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Enough to see what came before.
        const SHOWN: usize = 40;
        let mut operations = self.prefix.clone();
        operations.sort_by_key(|o| (o.returned().unwrap_or(Duration::MAX), o.invoked));
        // What has no end is last, however old it is.
        let open = operations.iter().filter(|o| o.outcome == Outcome::Unknown).count();
        let hidden = operations.len().saturating_sub(open).saturating_sub(SHOWN);
        if hidden > 0 {
            writeln!(f, "  ({hidden} operations before these)")?;
        }
        operations.iter().skip(hidden).try_for_each(|operation| writeln!(f, "  {operation}"))
    }
}
