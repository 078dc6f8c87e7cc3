//! The checker rejects what is wrong and accepts what is right, and agrees with stateright's.

use std::{
    fmt,
    time::{Duration, Instant},
};

use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use tests::random::Random;
use tests_faults::{
    checker::{Verdict, check, check_within, evidence},
    history::{History, Operation, Outcome, Recorder},
    models::{
        Counter, CounterOp, List, ListOp, ListRet, Lock, LockOp, LockRet, Model, MutexOp, MutexRet, Register,
        RegisterOp, RegisterRet, StdMutex,
    },
};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A call of `client` from `from` to `to`.
fn op<O, R>(client: u64, from: u64, to: u64, op: O, ret: R) -> Operation<O, R> {
    Operation { client, op, invoked: ms(from), outcome: Outcome::Returned(ret, ms(to)) }
}

/// A call whose end nobody knows.
fn open<O, R>(client: u64, from: u64, op: O) -> Operation<O, R> {
    Operation { client, op, invoked: ms(from), outcome: Outcome::Unknown }
}

#[track_caller]
fn accepted<M: Model>(model: &M, history: History<M>) {
    assert_eq!(check(model, &history), Verdict::Linearizable);
}

#[track_caller]
fn rejected<M: Model>(model: &M, history: History<M>) {
    assert_eq!(check(model, &history), Verdict::Violated);
}

use CounterOp::{Add, Read as Get};
use ListOp::{Push, Read as All};
use ListRet::{Index, Values};
use LockOp::{Acquire, Owner, Release, TryAcquire};
use LockRet::{Owner as Has, Released};
use RegisterOp::{CompareExchange, Read, Swap, Write};
use RegisterRet::{Differs, Value, Written};

#[test]
fn no_operations_are_right() {
    accepted(&Counter, vec![]);
    accepted(&Counter, vec![open(1, 0, Add(1)), open(2, 0, Get)]);
}

#[test]
fn a_stale_read_is_rejected() {
    rejected(&Counter, vec![op(1, 0, 1, Add(1), 0), op(2, 2, 3, Get, 0)]);
    rejected(&Register, vec![op(1, 0, 1, Write(7), Written), op(2, 2, 3, Read, Value(0))]);
    rejected(
        &List,
        vec![
            op(1, 0, 1, Push(1), Index(0)),
            op(1, 2, 3, Push(2), Index(1)),
            op(2, 4, 5, All, Values(vec![1])),
        ],
    );
    // While the write runs, both answers are right, but not the new one first and the old one after it.
    let write = || op(1, 0, 10, Write(7), Written);
    accepted(&Register, vec![write(), op(2, 1, 2, Read, Value(0)), op(3, 3, 4, Read, Value(7))]);
    rejected(&Register, vec![write(), op(2, 1, 2, Read, Value(7)), op(3, 3, 4, Read, Value(0))]);
    // The same when nobody knows how the write ended.
    let write = || open(1, 0, Write(7));
    accepted(&Register, vec![write(), op(2, 1, 2, Read, Value(0)), op(3, 3, 4, Read, Value(7))]);
    rejected(&Register, vec![write(), op(2, 1, 2, Read, Value(7)), op(3, 3, 4, Read, Value(0))]);
}

#[test]
fn a_lost_update_is_rejected() {
    rejected(&Counter, vec![op(1, 0, 5, Add(1), 0), op(2, 0, 5, Add(1), 0)]);
    rejected(&Counter, vec![op(1, 0, 1, Add(1), 0), op(2, 2, 3, Add(2), 1), op(1, 4, 5, Get, 2)]);
    rejected(
        &Register,
        vec![
            op(1, 0, 5, CompareExchange(0, 1), Value(0)),
            op(2, 0, 5, CompareExchange(0, 2), Value(0)),
            op(1, 6, 7, Read, Value(1)),
        ],
    );
    // Acknowledged, and not there at the end.
    rejected(
        &List,
        vec![
            op(1, 0, 3, Push(1), Index(0)),
            op(2, 1, 2, Push(2), Index(1)),
            op(1, 4, 5, All, Values(vec![1])),
        ],
    );
}

#[test]
fn a_doubled_update_is_rejected() {
    rejected(&Counter, vec![op(1, 0, 1, Add(1), 0), op(2, 2, 3, Get, 2)]);
    rejected(&List, vec![op(1, 0, 1, Push(1), Index(0)), op(1, 4, 5, All, Values(vec![1, 1]))]);
    // One call with an unknown outcome is applied once or never.
    for (value, verdict) in [(0, true), (5, true), (10, false), (3, false)] {
        let history = vec![open(1, 0, Add(5)), op(2, 20, 21, Get, value)];
        if verdict { accepted(&Counter, history) } else { rejected(&Counter, history) }
    }
    // A retry that was applied, while the first attempt was, too.
    rejected(&List, vec![open(1, 0, Push(1)), op(2, 10, 11, All, Values(vec![1, 1]))]);
    rejected(
        &Lock,
        vec![
            op(1, 0, 1, Acquire, Has(Some(1))),
            op(1, 2, 3, Release(1), Released(true)),
            op(1, 4, 5, Release(1), Released(true)),
        ],
    );
}

#[test]
fn an_answer_from_the_future_is_rejected() {
    rejected(&Counter, vec![op(2, 0, 1, Get, 1), op(1, 2, 3, Add(1), 0)]);
    rejected(&Register, vec![op(2, 0, 1, Read, Value(7)), open(1, 2, Write(7))]);
    rejected(&List, vec![op(2, 0, 1, All, Values(vec![1])), op(1, 2, 3, Push(1), Index(0))]);
    rejected(&Lock, vec![op(2, 0, 1, Acquire, Has(Some(2))), op(1, 2, 3, Acquire, Has(Some(1)))]);
}

#[test]
fn a_value_that_nobody_wrote_is_rejected() {
    rejected(&Register, vec![op(1, 0, 1, Read, Value(3))]);
    rejected(&Register, vec![op(1, 0, 1, CompareExchange(3, 4), Differs(3))]);
    rejected(&List, vec![op(1, 0, 1, All, Values(vec![9]))]);
    // A list that was emptied: the state was lost.
    rejected(&List, vec![op(1, 0, 1, Push(1), Index(0)), op(1, 2, 3, Push(2), Index(0))]);
    rejected(&Counter, vec![op(1, 0, 1, Add(4), 0), op(1, 2, 3, Add(1), 0)]);
}

#[test]
fn a_lock_that_two_have_is_rejected() {
    let first = || op(1, 0, 1, Acquire, Has(Some(1)));
    rejected(&Lock, vec![first(), op(2, 2, 9, Acquire, Has(Some(2)))]);
    rejected(
        &Lock,
        vec![first(), op(2, 2, 3, TryAcquire, Has(Some(2))), op(1, 4, 5, Release(1), Released(true))],
    );
    accepted(
        &Lock,
        vec![first(), op(2, 2, 9, Acquire, Has(Some(2))), op(1, 4, 5, Release(1), Released(true))],
    );
    accepted(&Lock, vec![first(), op(2, 2, 3, TryAcquire, Has(None)), op(3, 4, 5, Owner, Has(Some(1)))]);
    // The numbers of owners go up by one, so none was an owner unseen, but for those who don't know.
    rejected(
        &Lock,
        vec![first(), op(1, 2, 3, Release(1), Released(true)), op(2, 4, 5, Acquire, Has(Some(3)))],
    );
    let unknown = vec![
        first(),
        op(1, 2, 3, Release(1), Released(true)),
        open(3, 0, Acquire),
        op(4, 3, 5, Release(2), Released(true)),
        op(2, 4, 6, Acquire, Has(Some(3))),
    ];
    accepted(&Lock, unknown);

    let lock = |client, from, to, attempt, value, poisoned| {
        op(client, from, to, MutexOp::Lock(attempt), MutexRet::Locked(value, poisoned))
    };
    let unlock = |client, from, to, attempt, value| {
        op(client, from, to, MutexOp::Unlock(attempt, value), MutexRet::Done)
    };
    accepted(&StdMutex, vec![lock(1, 0, 1, 1, 0, false), lock(2, 0, 5, 2, 8, false), unlock(1, 2, 3, 1, 8)]);
    rejected(&StdMutex, vec![lock(1, 0, 1, 1, 0, false), lock(2, 0, 5, 2, 0, false), unlock(1, 2, 3, 1, 8)]);
    rejected(&StdMutex, vec![lock(1, 0, 1, 1, 0, false), lock(2, 2, 3, 2, 0, false), unlock(1, 4, 5, 1, 8)]);
    // Taken from a client that seemed dead: then the next one is told.
    let taken = |poisoned| {
        vec![lock(1, 0, 1, 1, 0, false), open(1, 1, MutexOp::Lose(1)), lock(2, 2, 3, 2, 0, poisoned)]
    };
    accepted(&StdMutex, taken(true));
    rejected(&StdMutex, taken(false));
}

#[test]
fn concurrent_calls_may_have_any_order() {
    let all = |values| op(9, 20, 21, All, Values(values));
    let push = |value, index| op(value, 0, 10, Push(value), Index(index));
    accepted(&List, vec![push(1, 2), push(2, 0), push(3, 1), all(vec![2, 3, 1])]);
    rejected(&List, vec![push(1, 2), push(2, 0), push(3, 1), all(vec![3, 2, 1])]);
    accepted(&Counter, vec![op(1, 0, 10, Add(1), 6), op(2, 0, 10, Add(2), 4), op(3, 0, 10, Add(4), 0)]);
    rejected(&Counter, vec![op(1, 0, 3, Add(1), 6), op(2, 4, 10, Add(2), 4), op(3, 0, 10, Add(4), 0)]);
    // An operation whose client gave up takes effect much later.
    accepted(
        &Register,
        vec![
            open(1, 0, Swap(7)),
            op(2, 1, 2, CompareExchange(0, 1), Value(0)),
            op(2, 3, 4, Read, Value(1)),
            op(3, 50, 51, CompareExchange(1, 2), Differs(7)),
        ],
    );
}

#[test]
fn the_evidence_is_the_beginning_up_to_the_wrong_answer() {
    let mut history: Vec<_> = (0..50).map(|n| op(1, 10 * n, 10 * n + 5, Add(1), n)).collect();
    history[30].outcome = Outcome::Returned(29, ms(305));
    let found = evidence(&Counter, &history);
    assert_eq!(found.prefix.len(), 31);
    let text = found.to_string();
    assert!(text.contains("Add(1) -> 29"), "{text}");
    assert!(!text.contains("Add(1) -> 31"), "{text}");
}

#[test]
fn a_search_that_takes_too_long_is_no_acceptance() {
    // Any subset of these sums is possible, and none is this one.
    let mut history: Vec<_> = (0..24).map(|n| open(n, 0, Add(1 << n))).collect();
    history.push(op(99, 1, 2, Get, 1 << 30));
    assert_eq!(check_within(&Counter, &history, 10_000), Verdict::Undecided);
}

#[test]
fn the_recorder_keeps_what_happened() {
    let recorder = Recorder::<Counter>::new("n", Instant::now());
    let (a, b, c, d) = (
        recorder.begin(1, Add(1)),
        recorder.begin(2, Add(2)),
        recorder.begin(3, Add(3)),
        recorder.begin(4, Get),
    );
    assert_eq!(recorder.running().len(), 4);
    recorder.end(a, 0);
    recorder.give_up(b);
    recorder.void(c);
    assert_eq!(recorder.running().len(), 1);
    let history = recorder.history();
    assert_eq!(history.iter().map(|o| o.client).collect::<Vec<_>>(), [1, 2, 4]);
    assert!(history[0].returned() >= Some(history[0].invoked));
    assert_eq!(history[1].outcome, Outcome::Unknown);
    drop(d);
}

// ---- random histories

/// Methods to call at random.
trait Generate: Model {
    fn method(&self, random: &mut Random, fresh: u64, last: Option<&Self::Ret>) -> Self::Op;
    /// What one copy does now; `None` if it waits.
    fn apply(&self, state: &mut Real, op: &Self::Op) -> Option<Self::Ret>;
    /// Another result.
    fn distort(&self, random: &mut Random, ret: &Self::Ret) -> Self::Ret;
}

/// The state of any of the objects, written without the models.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Real {
    number: u64,
    values: Vec<u64>,
    locked: bool,
}

impl Generate for Counter {
    fn method(&self, random: &mut Random, _: u64, _: Option<&u64>) -> CounterOp {
        if random.below(3) == 0 { Get } else { Add(1 + random.below(2)) }
    }
    fn apply(&self, state: &mut Real, op: &CounterOp) -> Option<u64> {
        let before = state.number;
        if let Add(by) = op {
            state.number += by;
        }
        Some(before)
    }
    fn distort(&self, random: &mut Random, ret: &u64) -> u64 {
        (ret + random.below(4)).saturating_sub(2)
    }
}

impl Generate for Register {
    fn method(&self, random: &mut Random, fresh: u64, last: Option<&RegisterRet>) -> RegisterOp {
        let last = match last {
            Some(Value(v) | Differs(v)) => *v,
            _ => random.below(fresh + 1),
        };
        match random.below(5) {
            0 => Swap(fresh),
            1 => Write(fresh),
            2 => Read,
            _ => CompareExchange(last, fresh),
        }
    }
    fn apply(&self, state: &mut Real, op: &RegisterOp) -> Option<RegisterRet> {
        let before = state.number;
        match op {
            Swap(new) | Write(new) => state.number = *new,
            CompareExchange(expected, new) if *expected == before => state.number = *new,
            CompareExchange(..) => return Some(Differs(before)),
            Read => {}
        }
        Some(if matches!(op, Write(_)) { Written } else { Value(before) })
    }
    fn distort(&self, random: &mut Random, ret: &RegisterRet) -> RegisterRet {
        match ret {
            Written => Written,
            Value(_) => Value(random.below(12)),
            Differs(_) => Differs(random.below(12)),
        }
    }
}

impl Generate for List {
    fn method(&self, random: &mut Random, fresh: u64, _: Option<&ListRet>) -> ListOp {
        if random.below(3) == 0 { All } else { Push(fresh) }
    }
    fn apply(&self, state: &mut Real, op: &ListOp) -> Option<ListRet> {
        match op {
            Push(value) => {
                state.values.push(*value);
                Some(Index(state.values.len() - 1))
            }
            All => Some(Values(state.values.clone())),
        }
    }
    fn distort(&self, random: &mut Random, ret: &ListRet) -> ListRet {
        match ret {
            Index(index) => Index((index + random.below(3) as usize).saturating_sub(1)),
            Values(values) => {
                let mut values = values.clone();
                if values.len() > 1 && random.below(2) == 0 {
                    values.swap(0, 1);
                } else {
                    values.pop();
                }
                Values(values)
            }
        }
    }
}

impl Generate for Lock {
    fn method(&self, random: &mut Random, fresh: u64, last: Option<&LockRet>) -> LockOp {
        match (last, random.below(5)) {
            (Some(Has(Some(owner))), 0..3) => Release(*owner),
            (_, 0) => Release(random.below(fresh + 1)),
            (_, 1) => TryAcquire,
            (_, 2) => Owner,
            _ => Acquire,
        }
    }
    fn apply(&self, state: &mut Real, op: &LockOp) -> Option<LockRet> {
        let owner = |state: &Real| Has(state.locked.then_some(state.number));
        match op {
            Acquire if state.locked => None,
            TryAcquire if state.locked => Some(Has(None)),
            Acquire | TryAcquire => {
                state.number += 1;
                state.locked = true;
                Some(owner(state))
            }
            Release(number) => {
                let has = state.locked && *number == state.number;
                state.locked &= !has;
                Some(Released(has))
            }
            Owner => Some(owner(state)),
        }
    }
    fn distort(&self, random: &mut Random, ret: &LockRet) -> LockRet {
        match ret {
            Released(released) => Released(!released),
            Has(Some(owner)) if random.below(2) == 0 => Has(Some(owner + 1)),
            Has(_) => Has(None),
        }
    }
}

/// What clients of a real object see. Each of its calls takes effect at one moment while it runs; one in `odds` or so
/// ends unseen.
fn generate<M: Generate>(model: &M, random: &mut Random, clients: u64, calls: u64, odds: u64) -> History<M> {
    enum Client<M: Model> {
        Idle,
        Invoked(usize),
        Applied(usize, M::Ret),
    }
    let mut real = Real::default();
    let mut history: History<M> = Vec::new();
    let mut running: Vec<(u64, Client<M>, Option<M::Ret>)> =
        (0..clients).map(|id| (id, Client::Idle, None)).collect();
    let mut next = clients;
    for time in 0..calls * 6 {
        let (id, client, last) = &mut running[random.below(clients) as usize];
        match client {
            Client::Idle if (history.len() as u64) < calls => {
                let op = model.method(random, history.len() as u64 + 1, last.as_ref());
                history.push(Operation { client: *id, op, invoked: ms(time), outcome: Outcome::Unknown });
                *client = Client::Invoked(history.len() - 1);
            }
            Client::Idle => {}
            Client::Invoked(i) => {
                if random.below(odds) == 0 {
                    // It gives up; its call may be applied now, or never.
                    if random.below(2) == 0 {
                        model.apply(&mut real, &history[*i].op);
                    }
                    (*id, *client, *last) = (next, Client::Idle, None);
                    next += 1;
                } else if let Some(ret) = model.apply(&mut real, &history[*i].op) {
                    *client = Client::Applied(*i, ret);
                }
            }
            Client::Applied(i, ret) => {
                if random.below(odds) == 0 {
                    (*id, *client, *last) = (next, Client::Idle, None);
                    next += 1;
                } else {
                    history[*i].outcome = Outcome::Returned(ret.clone(), ms(time));
                    *last = Some(ret.clone());
                    *client = Client::Idle;
                }
            }
        }
    }
    history
}

/// Changes a history so that it is probably wrong.
fn mutate<M: Generate>(model: &M, random: &mut Random, history: &mut History<M>) {
    let returned: Vec<_> = (0..history.len()).filter(|i| history[*i].result().is_some()).collect();
    if returned.is_empty() {
        return;
    }
    let i = returned[random.below(returned.len() as u64) as usize];
    match random.below(4) {
        // A call that was acknowledged is lost.
        0 => drop(history.remove(i)),
        // It happened later than it did.
        1 => {
            let later = ms(100 + random.below(50));
            if history.iter().any(|o| o.client == history[i].client && o.invoked > history[i].invoked) {
                return;
            }
            let ret = history[i].result().unwrap().clone();
            history[i].invoked = later;
            history[i].outcome = Outcome::Returned(ret, later + ms(random.below(20)));
        }
        _ => {
            let (ret, at) = (history[i].result().unwrap(), history[i].returned().unwrap());
            history[i].outcome = Outcome::Returned(model.distort(random, ret), at);
        }
    }
}

/// A [`Generate`] as stateright wants it.
#[derive(Clone, Debug)]
struct Spec<M> {
    model: M,
    state: Real,
}

impl<M: Generate> SequentialSpec for Spec<M> {
    type Op = M::Op;
    /// `None`: the call waits.
    type Ret = Option<M::Ret>;

    fn invoke(&mut self, op: &M::Op) -> Option<M::Ret> {
        self.model.apply(&mut self.state, op)
    }
}

/// What stateright says.
fn stateright<M: Generate>(model: &M, history: &History<M>) -> bool {
    let spec = Spec { model: model.clone(), state: Real::default() };
    let mut tester = LinearizabilityTester::<u64, Spec<M>>::new(spec);
    let mut events: Vec<_> = history.iter().map(|o| (o.invoked, false, o)).collect();
    events.extend(history.iter().filter_map(|o| Some((o.returned()?, true, o))));
    events.sort_by_key(|(time, ends, _)| (*time, *ends));
    for (_, ends, o) in events {
        let result = if ends {
            tester.on_return(o.client, Some(o.result().unwrap().clone()))
        } else {
            tester.on_invoke(o.client, o.op.clone())
        };
        assert!(result.is_ok(), "{:?}", result.err());
    }
    tester.is_consistent()
}

fn show<M: Model>(history: &History<M>) -> String
where
    Operation<M::Op, M::Ret>: fmt::Display,
{
    history.iter().map(|o| format!("{o}\n")).collect()
}

fn agrees<M: Generate>(model: &M, seed: u64) {
    const ROUNDS: u64 = 1500;
    let mut random = Random(seed);
    let mut wrong = 0;
    for round in 0..ROUNDS {
        let (clients, calls) = (2 + random.below(3), 3 + random.below(7));
        let mut history = generate(model, &mut random, clients, calls, 10);
        assert_eq!(
            check(model, &history),
            Verdict::Linearizable,
            "{round}: it happened so:\n{}",
            show::<M>(&history)
        );
        for _ in 0..random.below(3) {
            mutate(model, &mut random, &mut history);
        }
        let expected = stateright(model, &history);
        let verdict = check(model, &history);
        let same = verdict == if expected { Verdict::Linearizable } else { Verdict::Violated };
        assert!(same, "{round}: stateright says {expected}, we say {verdict:?}:\n{}", show::<M>(&history));
        wrong += u64::from(!expected);
    }
    assert!((ROUNDS / 10..ROUNDS * 9 / 10).contains(&wrong), "{wrong} of {ROUNDS} histories were wrong");
}

#[test]
fn it_agrees_with_stateright_about_counters() {
    agrees(&Counter, 1);
}

#[test]
fn it_agrees_with_stateright_about_registers() {
    agrees(&Register, 2);
}

#[test]
fn it_agrees_with_stateright_about_lists() {
    agrees(&List, 3);
}

#[test]
fn it_agrees_with_stateright_about_locks() {
    agrees(&Lock, 4);
}

/// Long histories with many calls that nobody knows the end of are decided at once.
fn is_fast<M: Generate>(model: &M, seed: u64, clients: u64) {
    let mut random = Random(seed);
    let history = generate(model, &mut random, clients, 4000, 200);
    let unknown = history.iter().filter(|o| o.outcome == Outcome::Unknown).count();
    assert!(history.len() == 4000 && unknown > 20, "{unknown} of {} are unknown", history.len());
    let start = Instant::now();
    assert_eq!(check(model, &history), Verdict::Linearizable);
    println!("{model:?}: 4000 calls, {unknown} unknown, {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn long_histories_are_decided_soon() {
    is_fast(&Counter, 1, 8);
    is_fast(&Register, 2, 8);
    is_fast(&List, 3, 8);
}
