//! How replicas of a partition find out that they differ: commands go to several replicas in this process, as the log
//! would bring them.

use crucial_runtime::{
    bulk::Bulk,
    codec,
    config::Limits,
    dso::{Create, Head, Operation},
    id::{self, MemberId, ObjectId, SessionId},
    object::Methods as Typed,
    reference::Lifetime,
};
use crucial_server::cluster::{
    batch::{Builder, Item},
    divergence::Step,
    replica::Replica,
};
use serde::Serialize;
use tests::{
    objects::{Dice, Journal, Tally},
    raw,
};

/// The replicas of a partition, of which the first one leads unless another is told to.
struct Group {
    replicas: Vec<Replica>,
    seq: u64,
}

/// Type, key and methods.
type Found = (String, String, Vec<&'static str>);

impl Group {
    fn of(replicas: usize) -> Self {
        Group { replicas: (0..replicas).map(|_| Replica::default()).collect(), seq: 0 }
    }

    /// What a leader puts into the log for this.
    fn command(item: Item<'_>) -> Vec<u8> {
        let mut builder = Builder::default();
        builder.push(item);
        builder.finish(1, 2, &Limits::default())
    }

    fn apply(&self, item: Item<'_>) {
        let command = Self::command(item);
        for replica in &self.replicas {
            replica.apply(&command).unwrap();
        }
    }

    fn request(&mut self, operation: Operation, object: ObjectId, tag: u64, method: u16, args: &[u8]) {
        let frame = raw::request(&Head { operation, object, tag, method }, self.seq, self.seq, args);
        self.seq += 1;
        self.apply(Item::Call { session: SessionId(1), member: MemberId(1), body: &frame[4..] });
    }

    fn id<T: Typed>(key: &str) -> ObjectId {
        ObjectId::persistent(id::of_key(T::NAME, key))
    }

    /// Makes an object with a constructor.
    fn create<T: Typed>(&mut self, key: &str, constructor: &str, args: &impl Serialize) {
        let number = T::CONSTRUCTORS.iter().position(|name| *name == constructor).unwrap();
        let args = encode(args);
        let create = Create {
            type_name: T::NAME,
            key: Some(key),
            lifetime: Lifetime::Persistent,
            constructor: number as u16,
            args: &args,
        };
        self.request(Operation::Create, Self::id::<T>(key), raw::info::<T>().tag, 0, &encode(&create));
    }

    fn call<T: Typed>(&mut self, key: &str, method: &str, args: &impl Serialize) {
        let info = raw::info::<T>();
        let method = raw::method(info, method);
        self.request(Operation::Call, Self::id::<T>(key), info.tag, method, &encode(args));
    }

    fn step(&self, step: &Step) {
        self.apply(Item::Check { step: &step.encode() });
    }

    /// Checks until there is nothing more to check, or to say.
    fn check(&self, leader: usize) {
        for _ in 0..1000 {
            match self.replicas[leader].next_step() {
                Some(step) => self.step(&step),
                // It may wait because the last one was large.
                None if (0..1000).all(|_| self.replicas[leader].next_step().is_none()) => return,
                None => {}
            }
            let found: Vec<_> = self.replicas.iter().flat_map(Replica::found).collect();
            if !found.is_empty() {
                self.step(&Step::Diverged { objects: found });
            }
        }
        panic!("there is always something to check");
    }

    /// What a replica knows of what differs.
    fn diverged(&self, replica: usize) -> Vec<Found> {
        let mut found = Vec::new();
        self.replicas[replica].each(|cell| {
            if let Some(methods) = cell.diverged() {
                let methods = methods.names(cell.info());
                found.push((cell.info().name.to_owned(), cell.key().to_owned(), methods));
            }
        });
        found.sort();
        found
    }

    #[track_caller]
    fn all_know(&self, found: &[(&str, &[&'static str])]) {
        let found: Vec<Found> = found
            .iter()
            .map(|(key, methods)| ("tests::objects::Dice".to_owned(), format!("{key:?}"), methods.to_vec()))
            .collect();
        for replica in 0..self.replicas.len() {
            assert_eq!(self.diverged(replica), found, "replica {replica}");
        }
    }

    /// A replica starts again, or gets a snapshot of another one.
    fn restore(&mut self, replica: usize, from: usize) {
        let image = self.replicas[from].image().unwrap();
        self.replicas[replica] = Replica::default();
        self.replicas[replica].restore(&image).unwrap();
    }
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode("a value", value, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_method_that_is_not_deterministic_is_named() {
    let mut group = Group::of(3);
    for key in ["a", "b", "c"] {
        group.create::<Dice>(key, "new", &());
    }
    group.check(0);
    group.all_know(&[]);
    group.call::<Dice>("a", "turn", &(7,));
    group.call::<Dice>("b", "turn", &(7,));
    group.check(0);
    group.call::<Dice>("b", "throw", &());
    group.check(0);
    group.all_know(&[("b", &["throw"])]);
    // What was called in between may have been it, too; and a hash table has another order on each replica.
    group.call::<Dice>("a", "turn", &(7,));
    group.call::<Dice>("a", "look", &());
    group.check(0);
    group.all_know(&[("a", &["look", "turn"]), ("b", &["throw"])]);
    // What is called later is not blamed.
    group.call::<Dice>("b", "turn", &(7,));
    assert_eq!(group.replicas[0].next_step(), None, "it isn't checked any more");
    group.check(0);
    group.check(1);
    group.all_know(&[("a", &["look", "turn"]), ("b", &["throw"])]);
}

#[test]
fn a_constructor_that_is_not_deterministic_is_named() {
    let mut group = Group::of(2);
    group.create::<Dice>("a", "thrown", &());
    group.check(0);
    group.all_know(&[("a", &["thrown"])]);
    // An object of the same key is another one.
    let tag = raw::info::<Dice>().tag;
    group.request(Operation::Remove, Group::id::<Dice>("a"), tag, 0, &[]);
    group.create::<Dice>("a", "new", &());
    group.check(0);
    group.all_know(&[]);
}

#[test]
fn replicas_that_are_equal_raise_no_alarm() {
    let mut group = Group::of(2);
    for i in 0..200 {
        let key = (i % 40).to_string();
        match i {
            0..40 => group.create::<Dice>(&key, "new", &()),
            _ => group.call::<Dice>(&key, "turn", &(i,)),
        }
        group.create::<Journal>(&key, "new", &());
        group.call::<Journal>(&key, "push", &(i,));
        group.create::<Tally>(&key, "new", &(i,));
        // Waits for ever, or panics and poisons.
        group.call::<Tally>(&key, "take", &(1000,));
        if i % 50 == 49 {
            group.call::<Tally>(&key, "fail_writing", &("no",));
        }
        match i {
            60 => group.check(0),
            80 => group.restore(1, 1),
            100 => group.restore(1, 0),
            120 => group.restore(0, 0),
            130 => group.check(1),
            140 => group.restore(0, 1),
            _ => {}
        }
    }
    group.check(0);
    group.check(1);
    group.all_know(&[]);
    assert_eq!(group.replicas[0].next_step(), None, "where nothing is written, nothing is checked");
}

#[test]
fn digests_of_different_places_in_the_log_are_not_compared() {
    let mut group = Group::of(3);
    group.create::<Tally>("a", "new", &(0,));
    let check = group.replicas[0].next_step().unwrap();
    group.step(&check);
    let compare = group.replicas[0].next_step().unwrap();
    assert!(matches!((&check, &compare), (Step::Check { .. }, Step::Compare { .. })));
    // Another check comes in between: of a leader that is none any more, or does not know it yet.
    group.call::<Tally>("a", "add", &(1,));
    let again = group.replicas[1].next_step().unwrap();
    assert!(matches!(again, Step::Compare { .. }), "whoever leads next goes on");
    let Step::Check { objects, limit, .. } = check else { unreachable!() };
    group.step(&Step::Check { check: 77, limit, objects });
    group.step(&compare);
    assert!(group.replicas.iter().all(|replica| replica.found().is_empty()));
    // One that got a snapshot in between has nothing to compare.
    group.call::<Dice>("a", "turn", &(7,));
    group.restore(2, 0);
    group.check(1);
    group.all_know(&[]);
}

#[test]
fn what_was_not_compared_is_checked_again() {
    let mut group = Group::of(2);
    group.create::<Dice>("a", "new", &());
    group.check(0);
    group.call::<Dice>("a", "throw", &());
    group.step(&group.replicas[0].next_step().unwrap());
    // The leader is lost before it has said what its digests are; another check comes first.
    group.create::<Tally>("b", "new", &(0,));
    group.step(&Step::Check { check: 77, limit: 1000, objects: vec![Group::id::<Tally>("b")] });
    group.call::<Dice>("a", "turn", &(7,));
    group.check(1);
    group.all_know(&[("a", &["throw", "turn"])]);
}

#[test]
fn what_is_known_stays_known() {
    let mut group = Group::of(3);
    group.create::<Dice>("a", "new", &());
    group.call::<Dice>("a", "throw", &());
    group.restore(0, 0);
    // A replica that starts again knows what is to be checked, and by what it was changed.
    group.check(0);
    group.all_know(&[("a", &["new", "throw"])]);
    group.restore(2, 2);
    group.call::<Dice>("a", "turn", &(1,));
    group.check(2);
    group.all_know(&[("a", &["new", "throw"])]);
    // One that found it, and becomes the leader before it could say so, says it itself.
    group.create::<Dice>("b", "thrown", &());
    for _ in 0..2 {
        group.step(&group.replicas[0].next_step().unwrap());
    }
    assert_eq!(group.replicas[1].found().len(), 1);
    assert!(matches!(group.replicas[1].next_step(), Some(Step::Diverged { .. })));
    group.step(&group.replicas[1].next_step().unwrap());
    group.all_know(&[("a", &["new", "throw"]), ("b", &["thrown"])]);
}

#[test]
fn an_object_that_is_missing_is_a_difference() {
    let mut group = Group::of(2);
    group.create::<Dice>("a", "new", &());
    group.check(0);
    let other = Replica::default();
    group.replicas.insert(0, other);
    group.call::<Dice>("a", "turn", &(1,));
    group.check(1);
    assert_eq!(group.diverged(0), []);
    assert_eq!(group.diverged(1), [("tests::objects::Dice".to_owned(), "\"a\"".to_owned(), vec!["turn"])]);
}

#[test]
fn what_is_checked_at_once_is_limited() {
    let mut group = Group::of(2);
    for i in 0..100 {
        group.create::<Tally>(&i.to_string(), "new", &(i,));
    }
    let limits = |group: &Group| match group.replicas[0].next_step() {
        Some(Step::Check { limit, objects, .. }) => Some((limit, objects)),
        _ => None,
    };
    let (mib, first) = limits(&group).unwrap();
    assert_eq!((mib, first.len()), (1 << 20, 64));
    group.step(&group.replicas[0].next_step().unwrap());
    group.step(&group.replicas[0].next_step().unwrap());
    // Those that come first in the order are not preferred for ever.
    for i in 0..100 {
        group.call::<Tally>(&i.to_string(), "add", &(1,));
    }
    let (_, second) = limits(&group).unwrap();
    assert_eq!(first.iter().filter(|object| second.contains(object)).count(), 64 + 64 - 100);
    group.check(0);

    // A large object is digested no further than the limit, which grows until it is enough; in between, there is time.
    group.create::<Journal>("large", "new", &());
    let tokens = vec![7u64; 1000];
    for _ in 0..700 {
        group.call::<Journal>("large", "extend", &(Bulk(&tokens),));
    }
    let mut seen = Vec::new();
    let mut rounds = 0;
    while seen.last() != Some(&0) && rounds < 1000 {
        rounds += 1;
        match group.replicas[0].next_step() {
            Some(step) => {
                group.step(&step);
                match step {
                    Step::Check { limit, .. } => seen.push(limit / mib),
                    _ => seen.push(0),
                }
            }
            None => assert!(!seen.is_empty()),
        }
    }
    assert_eq!(seen, [1, 2, 4, 8, 0], "MiB");
    assert!((1 + 2 + 4) * 4 <= rounds, "{rounds} rounds of 256 KiB");
    // From then on, its size is known.
    group.call::<Journal>("large", "push", &(7,));
    let mut next = None;
    for _ in 0..100 {
        next = next.or_else(|| limits(&group));
    }
    assert!((10..12).contains(&(next.unwrap().0 / mib)));
    group.check(0);
    group.all_know(&[]);
}
