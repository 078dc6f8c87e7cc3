//! The mirrored types behave as std's documentation promises, wherever objects and threads are.

use std::collections::{BTreeSet, HashMap as Map};

use crucial::{
    cloud_fn,
    collections::HashMap,
    sync::{
        Barrier, Semaphore,
        atomic::{
            AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16,
            AtomicU32, AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
            compiler_fence, fence,
        },
    },
    test, thread,
};
use serde::{Deserialize, Serialize};
use tests::{eventually, in_time, objects::Tally};

macro_rules! check_int {
    ($($atomic:ident $int:ident)*) => {$({
        let a = $atomic::new($int::MAX);
        assert_eq!(a.fetch_add(1, SeqCst), $int::MAX, "the value before");
        assert_eq!(a.load(SeqCst), $int::MIN, "it wraps around at the upper end");
        assert_eq!(a.fetch_sub(1, Relaxed), $int::MIN);
        assert_eq!(a.load(Acquire), $int::MAX, "it wraps around at the lower end");

        a.store(5, Release);
        assert_eq!(a.swap(6, AcqRel), 5);
        assert_eq!(a.compare_exchange(6, 7, SeqCst, SeqCst), Ok(6));
        assert_eq!(a.compare_exchange(6, 8, SeqCst, Relaxed), Err(7));
        assert_eq!(a.compare_exchange_weak(7, 0b1100, SeqCst, SeqCst), Ok(7));

        assert_eq!(a.fetch_and(0b1010, SeqCst), 0b1100);
        assert_eq!(a.fetch_or(0b0001, SeqCst), 0b1000);
        assert_eq!(a.fetch_xor(0b1111, SeqCst), 0b1001);
        assert_eq!(a.fetch_nand(0b0010, SeqCst), 0b0110);
        assert_eq!(a.load(SeqCst), !0b0010);
        a.store(5, SeqCst);
        assert_eq!(a.fetch_max(9, SeqCst), 5);
        assert_eq!(a.fetch_max(3, SeqCst), 9);
        assert_eq!(a.fetch_min(2, SeqCst), 9);
        assert_eq!(a.load(SeqCst), 2);

        assert_eq!(a.fetch_update(SeqCst, SeqCst, |n| Some(n * 3)), Ok(2));
        assert_eq!(a.fetch_update(SeqCst, SeqCst, |n| (n > 100).then_some(0)), Err(6));
        assert_eq!(a.try_update(SeqCst, SeqCst, |n| (n > 100).then_some(0)), Err(6));
        assert_eq!(a.try_update(SeqCst, SeqCst, |n| Some(n + 1)), Ok(6));
        assert_eq!(a.update(SeqCst, SeqCst, |n| n - 1), 7);
        assert_eq!(a.load(SeqCst), 6);
        #[allow(deprecated, reason = "as in std")]
        let before = (a.compare_and_swap(6, 8, SeqCst), a.compare_and_swap(6, 9, SeqCst));
        assert_eq!(before, (6, 8));
        let other = a.clone();
        assert_eq!(a.into_inner(), 8);
        assert!(other.remote().load(SeqCst).wait().is_err(), "it is gone");
        assert_eq!($atomic::default().load(SeqCst), 0);
        assert_eq!($atomic::from(3).load(SeqCst), 3);
    })*};
}

#[test(modes(embedded, processes, server))]
fn integers_are_stds() {
    check_int! {
        AtomicI8 i8 AtomicI16 i16 AtomicI32 i32 AtomicI64 i64 AtomicIsize isize
        AtomicU8 u8 AtomicU16 u16 AtomicU32 u32 AtomicU64 u64 AtomicUsize usize
    }
}

#[test(modes(embedded, processes, server))]
fn booleans_are_stds() {
    for a in [false, true] {
        for b in [false, true] {
            let bool = AtomicBool::new(a);
            assert_eq!(bool.fetch_and(b, SeqCst), a);
            assert_eq!(bool.swap(a, SeqCst), a & b);
            assert_eq!(bool.fetch_or(b, SeqCst), a);
            assert_eq!(bool.swap(a, SeqCst), a | b);
            assert_eq!(bool.fetch_xor(b, SeqCst), a);
            assert_eq!(bool.swap(a, SeqCst), a ^ b);
            assert_eq!(bool.fetch_nand(b, SeqCst), a);
            assert_eq!(bool.swap(a, SeqCst), !(a & b));
            assert_eq!(bool.fetch_not(SeqCst), a);
            assert_eq!(bool.load(SeqCst), !a);
            bool.store(a, SeqCst);
            let exchanged = bool.compare_exchange(b, !b, SeqCst, SeqCst);
            assert_eq!(exchanged, if a == b { Ok(a) } else { Err(a) });
            assert_eq!(bool.load(SeqCst), if a == b { !b } else { a });
        }
    }
    let bool = AtomicBool::default();
    assert_eq!(bool.fetch_update(SeqCst, SeqCst, |b| (!b).then_some(true)), Ok(false));
    assert_eq!(bool.fetch_update(SeqCst, SeqCst, |b| (!b).then_some(true)), Err(true));
    assert_eq!(bool.try_update(SeqCst, SeqCst, |b| (!b).then_some(true)), Err(true));
    assert!(bool.update(SeqCst, SeqCst, |b| !b));
    #[allow(deprecated, reason = "as in std")]
    let before = (bool.compare_and_swap(false, true, SeqCst), bool.compare_and_swap(false, true, SeqCst));
    assert_eq!(before, (false, true));
    let other = bool.clone();
    assert!(bool.into_inner());
    assert!(other.remote().load(SeqCst).wait().is_err(), "it is gone");
}

#[test(modes(embedded, processes, server))]
fn every_ordering_is_accepted() {
    let a = AtomicU32::new(1);
    assert_eq!(a.load(Release), 1);
    a.store(9, Acquire);
    assert_eq!(a.compare_exchange(9, 2, SeqCst, AcqRel), Ok(9));
    assert_eq!(a.load(Relaxed), 2);
    // Std's would panic.
    fence(Relaxed);
    compiler_fence(Relaxed);
}

#[cloud_fn]
fn count_up(counter: &AtomicU64, times: u64) -> Vec<u64> {
    (0..times).map(|_| counter.fetch_add(1, Relaxed)).collect()
}

#[test(modes(embedded, processes, server))]
fn no_increment_is_lost_and_no_value_seen_twice() {
    let counter = AtomicU64::new(0);
    let threads: Vec<_> = (0..4).map(|_| thread::spawn(|| count_up(&counter, 50))).collect();
    let seen: BTreeSet<u64> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    assert_eq!(seen, (0..200).collect());
    assert_eq!(counter.load(SeqCst), 200);
}

#[cloud_fn]
fn update(counter: &AtomicI64) {
    for _ in 0..20 {
        counter.fetch_update(SeqCst, SeqCst, |n| Some(n * 2 + 1)).unwrap();
    }
}

#[test(modes(embedded, processes, server))]
fn fetch_update_loses_nothing_under_contention() {
    let counter = AtomicI64::new(0);
    let threads: Vec<_> = (0..3).map(|_| thread::spawn(|| update(&counter))).collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    // 60 times n * 2 + 1, in whatever order.
    assert_eq!(counter.load(SeqCst), (1 << 60) - 1);
}

#[cloud_fn]
fn rounds(barrier: &Barrier, arrived: &AtomicU64, threads: u64, rounds: u64) -> (u64, bool) {
    let mut led = 0;
    let mut all_there = true;
    for round in 1..=rounds {
        arrived.fetch_add(1, SeqCst);
        led += u64::from(barrier.wait().is_leader());
        // Nobody passes before all have arrived.
        all_there &= arrived.load(SeqCst) >= round * threads;
        // And nobody goes on to the next round before all have looked.
        barrier.wait();
    }
    (led, all_there)
}

#[test(modes(embedded, processes, server))]
fn a_barrier_has_one_leader_in_each_round() {
    let (barrier, arrived) = (Barrier::new(4), AtomicU64::new(0));
    let threads: Vec<_> = (0..4).map(|_| thread::spawn(|| rounds(&barrier, &arrived, 4, 5))).collect();
    let results: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert_eq!(results.iter().map(|(led, _)| led).sum::<u64>(), 5);
    assert!(results.iter().all(|(_, all_there)| *all_there));
    assert_eq!(arrived.load(SeqCst), 20);
}

#[test(modes(embedded, processes, server))]
fn a_barrier_for_none_or_one_does_not_block() {
    for n in [0, 1] {
        let barrier = Barrier::new(n);
        for _ in 0..3 {
            let barrier = barrier.clone();
            assert!(in_time("a barrier for one", move || barrier.wait().is_leader()));
        }
    }
}

#[cloud_fn]
fn enter(semaphore: &Semaphore, inside: &AtomicU64, permits: usize) -> u64 {
    let mut most = 0;
    for _ in 0..10 {
        let permit = semaphore.acquire_many(permits);
        most = most.max(inside.fetch_add(permits as u64, SeqCst) + permits as u64);
        inside.fetch_sub(permits as u64, SeqCst);
        drop(permit);
    }
    most
}

#[test(modes(embedded, processes, server))]
fn no_more_permits_are_out_than_there_are() {
    let (semaphore, inside) = (Semaphore::new(3), AtomicU64::new(0));
    let threads: Vec<_> =
        [1, 2, 3, 1, 2].into_iter().map(|n| thread::spawn(|| enter(&semaphore, &inside, n))).collect();
    let most = threads.into_iter().map(|t| t.join().unwrap()).max();
    assert!(most <= Some(3), "{most:?} of 3 permits were out at once");
    assert_eq!((semaphore.available_permits(), inside.load(SeqCst)), (3, 0));
}

#[test(modes(embedded, processes, server))]
fn permits_go_back_or_are_forgotten() {
    let semaphore = Semaphore::new(3);
    let two = semaphore.acquire_many(2);
    assert_eq!((two.num_permits(), semaphore.available_permits()), (2, 1));
    assert!(semaphore.try_acquire_many(2).is_none());
    let one = semaphore.try_acquire().unwrap();
    assert!(semaphore.try_acquire().is_none());
    assert_eq!(semaphore.available_permits(), 0);
    one.forget();
    drop(two);
    assert_eq!(semaphore.available_permits(), 2, "the forgotten one is gone");
    semaphore.add_permits(1);
    assert!(semaphore.try_acquire_many(3).is_some());
    assert_eq!(semaphore.available_permits(), 3);
}

#[test(modes(embedded, processes, server))]
fn a_waiter_gets_the_permit_that_another_gives_back() {
    let semaphore = Semaphore::new(1);
    let held = semaphore.acquire();
    let waiter = tests::begin({
        let semaphore = semaphore.clone();
        move || semaphore.acquire().num_permits()
    });
    drop(held);
    assert_eq!(waiter.within("the permit was given back"), 1);
    eventually("the waiter gave it back too", || semaphore.available_permits() == 1);
}

/// A key with structure.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Key {
    Point { x: i32, y: i32 },
    Name(String),
}

#[test(modes(embedded, processes, server))]
fn a_map_is_stds() {
    let map = HashMap::new();
    assert!(map.is_empty());
    assert_eq!(map.insert("a".to_owned(), 1), None);
    assert_eq!(map.insert("a".to_owned(), 2), Some(1));
    assert_eq!(map.get("a"), Some(2));
    assert_eq!(map.get(&"a".to_owned()), Some(2), "a borrowed key and an owned one are the same");
    assert_eq!(map.get("b"), None);
    assert!(map.contains_key("a") && !map.contains_key("b"));
    assert_eq!(map.get_or_insert("a".to_owned(), 9), 2);
    assert_eq!(map.get_or_insert("c".to_owned(), 3), 3);
    map.extend([("d".to_owned(), 4), ("a".to_owned(), 5)]);
    let expected = [("a", 5), ("c", 3), ("d", 4)].map(|(k, v)| (k.to_owned(), v));
    assert_eq!(map.to_map(), Map::from(expected));
    assert_eq!(
        map.keys().into_iter().collect::<BTreeSet<_>>(),
        BTreeSet::from(["a", "c", "d"].map(String::from))
    );
    assert_eq!(map.values().into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([3, 4, 5]));
    assert_eq!(map.len(), 3);
    assert_eq!(map.remove("a"), Some(5));
    assert_eq!(map.remove("a"), None);
    map.clear();
    assert!(map.is_empty() && map.keys().is_empty() && map.to_map().is_empty());
    assert!(HashMap::<u8, u8>::default().is_empty());

    let keyed = HashMap::new();
    keyed.insert(Key::Point { x: -1, y: 1 << 20 }, vec![1.5]);
    keyed.insert(Key::Name(String::new()), vec![]);
    assert_eq!(keyed.get(&Key::Point { x: -1, y: 1 << 20 }), Some(vec![1.5]));
    assert_eq!(keyed.get(&Key::Point { x: 1, y: 1 << 20 }), None);
    assert_eq!(keyed.remove(&Key::Name(String::new())), Some(vec![]));
}

#[cloud_fn]
fn fill(map: &HashMap<String, Tally>, name: &str) -> u64 {
    let tally = map.get_or_insert(name.to_owned(), Tally::new(100));
    tally.add(1)
}

#[test(modes(embedded, processes, server))]
fn handles_are_values_of_a_map() {
    let map = HashMap::<String, Tally>::new();
    let threads: Vec<_> =
        ["x", "y", "x"].into_iter().map(|name| thread::spawn(|| fill(&map, name))).collect();
    threads.into_iter().for_each(|t| assert!((100..102).contains(&t.join().unwrap())));
    assert_eq!(map.get("x").unwrap().get(), 102);
    assert_eq!(map.get("y").unwrap().get(), 101);
    assert_eq!(map.len(), 2);
}

#[test(modes(embedded, processes, server))]
fn a_named_map_is_the_same_for_everybody() {
    let ages: HashMap<String, u32> = HashMap::at("ages").new();
    ages.insert("Ada".to_owned(), 36);
    let again: HashMap<String, u32> = HashMap::at("ages").new();
    assert_eq!(again.get("Ada"), Some(36));
    assert_eq!(ages, again);
    assert_ne!(ages, HashMap::new());
}
