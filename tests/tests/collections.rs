//! The collections behave as std's documentation promises, wherever objects and threads are: each is compared with
//! std's under random operations, and then in what std doesn't have.

use std::{
    cmp::Reverse,
    collections::{
        BTreeMap as StdBTreeMap, BTreeSet as StdBTreeSet, HashMap as StdHashMap, HashSet as StdHashSet,
        VecDeque as StdVecDeque,
    },
    fmt::Debug,
    ops::Bound,
};

use crucial::{
    Shared, cloud_fn,
    collections::{Array, BTreeMap, BTreeSet, HashMap, HashSet, Matrix, Reduction, Vec, VecDeque},
    shared, test, thread,
};
use serde::{Deserialize, Serialize};
use tests::{assert_says, panic_of, random::Random};

type StdVec<T> = std::vec::Vec<T>;

/// How many operations a random comparison makes.
const OPERATIONS: usize = 400;

#[shared]
fn add(total: &mut u64, by: u64) -> u64 {
    *total += by;
    *total
}

#[shared]
fn concat(text: &mut String, more: String) {
    text.push_str(&more);
}

#[shared]
fn join(text: &mut String, separator: &str, words: &[String]) -> usize {
    *text = std::iter::once(text.clone()).chain(words.iter().cloned()).collect::<StdVec<_>>().join(separator);
    text.len()
}

#[shared]
fn is_even(n: &u64) -> bool {
    n.is_multiple_of(2)
}

#[shared]
fn is_below(n: &u64, limit: u64) -> bool {
    *n < limit
}

/// Halves numbers, and keeps those that are not 0 then.
#[shared]
fn halve(n: &mut u64) -> bool {
    *n /= 2;
    *n > 0
}

#[shared]
fn checked_sub(n: &mut u64, by: u64) {
    *n = n.checked_sub(by).expect("it is large enough");
}

#[shared]
fn expect_below(n: &u64, limit: u64) {
    assert!(*n < limit, "{n} is too large");
}

#[shared]
fn starts_with(key: &str, prefix: &str) -> bool {
    key.starts_with(prefix)
}

/// Panics of both, without what differs.
#[track_caller]
fn same_panic<A: Debug, B: Debug>(ours: impl FnOnce() -> A, std: impl FnOnce() -> B) {
    let (ours, std) = (panic_of(ours), panic_of(std));
    assert_eq!(ours, std);
}

macro_rules! compare_maps {
    ($ours:ident, $std:ident, $seed:literal) => {{
        let mut random = Random($seed);
        let ours = $ours::<String, u64>::new();
        let mut std = $std::<String, u64>::new();
        for _ in 0..OPERATIONS {
            let key = format!("k{}", random.below(30));
            let n = random.below(1000);
            match random.below(14) {
                0..=3 => assert_eq!(ours.insert(key.clone(), n), std.insert(key, n)),
                4 => assert_eq!(ours.remove(&key), std.remove(&key)),
                5 => assert_eq!(ours.remove_entry(key.as_str()), std.remove_entry(key.as_str())),
                6 => assert_eq!(ours.get(&key), std.get(&key).copied()),
                7 => assert_eq!(
                    ours.get_key_value(key.as_str()),
                    std.get_key_value(key.as_str()).map(|(k, v)| (k.clone(), *v))
                ),
                8 => assert_eq!(ours.contains_key(&key), std.contains_key(&key)),
                9 => {
                    let value = *std.entry(key.clone()).and_modify(|v| *v += n).or_insert(7);
                    assert_eq!(ours.entry(key).and_modify(add, n).or_insert(7), value);
                }
                10 => {
                    let result = std.get_mut(&key).map(|v| add(v, n));
                    assert_eq!(ours.update_with(&key, add, n), result);
                }
                11 => {
                    let value = std.entry(key.clone()).or_insert(3);
                    *value += n;
                    assert_eq!(ours.update_or_insert(key, 3, add, n), *value);
                }
                12 => {
                    let entries = [(key.clone(), n), (format!("k{}", n % 30), 5)];
                    ours.extend(entries.clone());
                    std.extend(entries);
                }
                _ if random.below(8) == 0 => {
                    ours.retain(halve, ());
                    std.retain(|_, v| halve(v));
                }
                _ => assert_eq!(ours.entry(key.clone()).or_default(), *std.entry(key).or_default()),
            }
            assert_eq!(ours.len(), std.len());
            assert_eq!(ours.is_empty(), std.is_empty());
        }
        assert_eq!(ours.to_map(), std);
        let mut seen: StdVec<_> = ours.iter().page_size(7).collect();
        let mut expected: StdVec<_> = std.clone().into_iter().collect();
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected);
        assert_eq!(ours.keys().into_iter().collect::<StdBTreeSet<_>>(), std.keys().cloned().collect());
        let sum: u64 = ours.values().iter().sum();
        assert_eq!(sum, std.values().sum::<u64>());
        let mut taken = ours.extract_if(is_even, ());
        taken.sort();
        let even: StdVec<_> = expected.iter().filter(|(_, v)| v % 2 == 0).cloned().collect();
        assert_eq!(taken, even);
        assert_eq!(ours.drain().len() + taken.len(), expected.len());
        assert!(ours.is_empty());
    }};
}

#[test(modes(embedded, processes, server))]
fn hash_maps_are_stds() {
    compare_maps!(HashMap, StdHashMap, 1);

    let map: HashMap<u32, char> = HashMap::from([(1, 'a'), (2, 'b')]);
    assert_eq!(map.insert_many([(2, 'c'), (3, 'd'), (3, 'e')]), [Some('b'), None, Some('d')]);
    assert_eq!(map.get_many(&[3, 4, 1]), [Some('e'), None, Some('a')]);
    assert_eq!(map.remove_many([&3, &4]), [Some('e'), None]);
    assert_eq!(map.get_or_insert(2, 'x'), 'c');
    assert_eq!(map.entry(9).key(), &9);
    assert_eq!(map.entry(2).or_insert_with(|| 'x'), 'c');
    assert_eq!(map.entry(0x79).or_insert_with_key(|key| char::from_u32(*key).unwrap()), 'y');
    map.clear();
    assert!(map.iter().next().is_none() && map.keys().is_empty() && map.to_map().is_empty());
    assert_eq!((&[(1, 'z')].into_iter().collect::<HashMap<_, _>>()).into_iter().next(), Some((1, 'z')));
    assert!(HashMap::<u8, u8>::default().is_empty());
}

/// A key with structure.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
enum Key {
    Nothing,
    Point { x: i32, y: i32 },
    Name(String, Option<char>),
}

#[test(modes(embedded, processes, server))]
fn btree_maps_are_stds() {
    compare_maps!(BTreeMap, StdBTreeMap, 2);

    let mut random = Random(3);
    let key = |random: &mut Random| match random.below(3) {
        0 => Key::Nothing,
        1 => Key::Point { x: random.below(7) as i32 - 3, y: random.number() as i32 },
        _ => {
            Key::Name("ab\0"[..random.below(4) as usize].to_owned(), char::from_u32(random.below(99) as u32))
        }
    };
    let mut std = StdBTreeMap::new();
    let ours = BTreeMap::new();
    for i in 0..OPERATIONS {
        match random.below(8) {
            0..=3 => {
                let key = key(&mut random);
                assert_eq!(ours.insert(key.clone(), i), std.insert(key, i));
            }
            4 if random.below(4) == 0 => assert_eq!(ours.pop_first(), std.pop_first()),
            4 if random.below(3) == 0 => assert_eq!(ours.pop_last(), std.pop_last()),
            4 => assert_eq!(ours.first_key_value(), std.first_key_value().map(|(k, v)| (k.clone(), *v))),
            5 => assert_eq!(ours.last_key_value(), std.last_key_value().map(|(k, v)| (k.clone(), *v))),
            _ => {
                let (a, b) = (key(&mut random), key(&mut random));
                let (a, b) = (a.clone().min(b.clone()), a.max(b));
                if a < b {
                    let range = (Bound::Excluded(a.clone()), Bound::Included(b.clone()));
                    let expected: StdVec<_> =
                        std.range(range.clone()).map(|(k, v)| (k.clone(), *v)).collect();
                    assert_eq!(ours.range(range).page_size(3).collect::<StdVec<_>>(), expected);
                }
                let expected: StdVec<_> =
                    std.range(a.clone()..=b.clone()).map(|(k, v)| (k.clone(), *v)).rev().collect();
                assert_eq!(ours.range(a..=b).page_size(3).rev().collect::<StdVec<_>>(), expected);
            }
        }
    }
    assert!(ours.iter().page_size(10).eq(std.clone()), "in the order of the keys");
    assert!(ours.iter().page_size(10).rev().eq(std.clone().into_iter().rev()));
    let expected: StdVec<_> = std.clone().into_iter().rev().take(5).collect();
    assert_eq!(ours.last_n(5), expected);
    assert_eq!(ours.first_n(0), []);
    assert_eq!(ours.first_n(usize::MAX).len(), std.len());

    let mut both_ends = ours.iter().page_size(3);
    let mut expected = std.clone().into_iter();
    for step in 0..=std.len() {
        let (next, std) = if step % 3 == 0 {
            (both_ends.next_back(), expected.next_back())
        } else {
            (both_ends.next(), expected.next())
        };
        assert_eq!(next, std);
    }

    let at = Key::Point { x: 0, y: 0 };
    assert_eq!(ours.split_off(&at), std.split_off(&at));
    assert_eq!(ours.to_map(), std);
    let mut other = StdBTreeMap::from([(Key::Nothing, 1), (Key::Name("z".to_owned(), None), 2)]);
    ours.append(&mut other.clone());
    std.append(&mut other);
    assert_eq!(ours.to_map(), std);

    let numbers: BTreeMap<i64, u8> = [(-5, 1), (300, 2), (7, 3), (i64::MIN, 4)].into_iter().collect();
    assert_eq!(numbers.keys(), [i64::MIN, -5, 7, 300]);
    assert_eq!(numbers.values(), [4, 1, 3, 2]);
    assert_eq!(numbers.range(-5..).map(|(k, _)| k).collect::<StdVec<_>>(), [-5, 7, 300]);
    assert_eq!(numbers.range(..0).count(), 2);
    // Std's panics only if there is something in the map.
    let std = numbers.to_map();
    same_panic(
        || numbers.range((Bound::Included(2), Bound::Excluded(1))),
        || std.range((Bound::Included(2), Bound::Excluded(1))).count(),
    );
    same_panic(
        || numbers.range((Bound::Excluded(1), Bound::Excluded(1))),
        || std.range((Bound::Excluded(1), Bound::Excluded(1))).count(),
    );
}

#[test(modes(embedded, server))]
fn an_order_that_the_server_does_not_know_is_noticed() {
    let map = BTreeMap::new();
    map.insert(Reverse(1), ());
    assert_says(
        &panic_of(|| map.insert(Reverse(2), ())),
        &["`Ord` of", "Reverse<i32>", "is not that of its fields"],
    );
    let map = BTreeMap::new();
    map.insert(Reverse(2), ());
    assert_says(&panic_of(|| map.insert(Reverse(1), ())), &["is not that of its fields"]);
    assert_says(&panic_of(|| BTreeSet::from([Reverse(1), Reverse(2)])), &["is not that of its fields"]);
    assert_says(
        &panic_of(|| map.extend([(Reverse(5), ()), (Reverse(6), ())])),
        &["is not that of its fields"],
    );
    assert_eq!(map.len(), 2, "extend checks before it sends");
    for n in [0, 3] {
        let map = BTreeMap::from([(Reverse(n), 1)]);
        assert_says(&panic_of(|| map.extend([(Reverse(1), 1)])), &["is not that of its fields"]);
        let map = BTreeMap::from([(Reverse(n), 1)]);
        assert_says(&panic_of(|| map.insert_many([(Reverse(1), 1)])), &["is not that of its fields"]);
        let set = BTreeSet::from([Reverse(n)]);
        assert_says(&panic_of(|| set.extend([Reverse(1)])), &["is not that of its fields"]);
    }

    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    struct Skips {
        #[serde(skip_serializing_if = "Option::is_none", default)]
        maybe: Option<u8>,
    }
    assert_says(
        &panic_of(|| BTreeSet::from([Skips { maybe: None }])),
        &["cannot encode a key", "skip_serializing_if"],
    );
}

macro_rules! compare_sets {
    ($ours:ident, $std:ident, $seed:literal) => {{
        let mut random = Random($seed);
        let ours = $ours::<u64>::new();
        let mut std = $std::<u64>::new();
        for _ in 0..OPERATIONS {
            let n = random.below(40);
            match random.below(8) {
                0..=2 => assert_eq!(ours.insert(n), std.insert(n)),
                3 => assert_eq!(ours.remove(&n), std.remove(&n)),
                4 => assert_eq!(ours.contains(&n), std.contains(&n)),
                5 => assert_eq!(ours.take(&n), std.take(&n)),
                6 => assert_eq!(ours.get(&n), std.get(&n).copied()),
                _ => {
                    let before = std.len();
                    std.extend([n, n + 1, n]);
                    assert_eq!(ours.extend([n, n + 1, n]), std.len() - before);
                }
            }
            assert_eq!((ours.len(), ours.is_empty()), (std.len(), std.is_empty()));
        }
        assert_eq!(ours.to_set(), std);
        assert_eq!(ours.iter().page_size(6).collect::<$std<_>>(), std);
        assert_eq!(ours.contains_many(&[1, 100]), [std.contains(&1), false]);
        let some: $std<u64> = std.iter().copied().take(3).collect();
        let more: $std<u64> = std.iter().copied().chain([100]).collect();
        for other in [$std::new(), some, more, $std::from([100]), std.clone()] {
            assert_eq!(ours.is_disjoint(&other), std.is_disjoint(&other));
            assert_eq!(ours.is_subset(&other), std.is_subset(&other));
            assert_eq!(ours.is_superset(&other), std.is_superset(&other));
        }
        assert_eq!((ours.replace(7), ours.replace(7)), (std.replace(7), Some(7)));
        ours.retain(is_below, 30);
        std.retain(|n| is_below(n, 30));
        assert_eq!(ours.to_set(), std);
        let taken = ours.extract_if(is_even, ());
        assert_eq!(taken.into_iter().collect::<$std<_>>(), std.extract_if_even());
        assert_eq!(ours.remove_many(&[1, 100]), [std.remove(&1), false]);
        assert_eq!(ours.drain().into_iter().collect::<$std<_>>(), std);
        assert!(ours.is_empty());
        ours.insert(1);
        ours.clear();
        assert!($ours::<u8>::default().is_empty() && ours.is_empty());
        assert_eq!($ours::from([2, 2]).len(), 1);
        for n in &$ours::from([5_u8]) {
            assert_eq!(n, 5);
        }
    }};
}

/// What `extract_if` of both sets of std does, whose signatures differ.
trait ExtractIfEven {
    fn extract_if_even(&mut self) -> Self;
}

impl ExtractIfEven for StdHashSet<u64> {
    fn extract_if_even(&mut self) -> Self {
        self.extract_if(is_even_here).collect()
    }
}

impl ExtractIfEven for StdBTreeSet<u64> {
    fn extract_if_even(&mut self) -> Self {
        self.extract_if(.., is_even_here).collect()
    }
}

fn is_even_here(n: &u64) -> bool {
    is_even(n)
}

#[test(modes(embedded, processes, server))]
fn sets_are_stds() {
    compare_sets!(HashSet, StdHashSet, 4);
    compare_sets!(BTreeSet, StdBTreeSet, 5);

    let set = BTreeSet::from([1]);
    set.append(&mut StdBTreeSet::from([1, 2]));
    assert_eq!(set.to_set(), StdBTreeSet::from([1, 2]));
    let set: BTreeSet<(u8, String)> = [(2, "b"), (1, "z"), (2, "a")].map(|(n, s)| (n, s.to_owned())).into();
    assert_eq!(set.first(), Some((1, "z".to_owned())));
    assert_eq!(set.last(), Some((2, "b".to_owned())));
    assert_eq!(set.range((2, String::new())..).count(), 2);
    assert_eq!(set.last_n(2).len(), 2);
    assert_eq!(set.split_off(&(2, "b".to_owned())).len(), 1);
    assert_eq!(set.pop_last(), Some((2, "a".to_owned())));
    assert_eq!(set.pop_first(), Some((1, "z".to_owned())));
    assert_eq!(set.pop_first(), None);
    let (ours, std) = (BTreeSet::from([1]), StdBTreeSet::from([1]));
    let (from, to) = (3, 2);
    same_panic(|| ours.range(from..to), || std.range(from..to).count());
    let names = BTreeSet::from(["ab".to_owned(), "b".to_owned()]);
    names.retain(starts_with, "a".to_owned());
    assert_eq!(
        names.to_set(),
        StdBTreeSet::from(["ab".to_owned()]),
        "a function sees keys in their own encoding"
    );
}

#[test(modes(embedded, processes, server))]
fn vectors_are_stds() {
    let mut random = Random(6);
    let ours = Vec::<u64>::new();
    let mut std = StdVec::<u64>::new();
    for _ in 0..OPERATIONS {
        let n = random.below(50);
        let at = random.below(std.len() as u64 + 1) as usize;
        let inside = at < std.len();
        match random.below(20) {
            0..=3 => {
                ours.push(n);
                std.push(n);
            }
            4 => assert_eq!(ours.pop(), std.pop()),
            5 => {
                ours.insert(at, n);
                std.insert(at, n);
            }
            6 if inside => assert_eq!(ours.remove(at), std.remove(at)),
            7 if inside => assert_eq!(ours.swap_remove(at), std.swap_remove(at)),
            8 => assert_eq!(ours.get(at), std.get(at).copied()),
            9 if inside => assert_eq!(ours.replace(at, n), std::mem::replace(&mut std[at], n)),
            10 => {
                ours.extend([n, n, n + 1]);
                std.extend([n, n, n + 1]);
            }
            11 if random.below(4) == 0 => {
                assert_eq!(ours.drain(at / 2..at), std.drain(at / 2..at).collect::<StdVec<_>>());
            }
            12 => assert_eq!(ours.splice(at.., [n]), std.splice(at.., [n]).collect::<StdVec<_>>()),
            13 if inside => {
                ours.swap(0, at);
                std.swap(0, at);
                ours.rotate_left(at);
                std.rotate_left(at);
            }
            14 => {
                ours.reverse();
                std.reverse();
                ours.dedup();
                std.dedup();
            }
            15 => assert_eq!(ours.update_with(at, add, n), std.get_mut(at).map(|v| add(v, n))),
            16 if random.below(8) == 0 => {
                ours.retain(halve, ());
                std.retain_mut(halve_here);
            }
            17 => assert_eq!(ours.position(is_below, n), std.iter().position(|v| is_below(v, n))),
            18 => {
                ours.extend_from_within(at / 2..at);
                std.extend_from_within(at / 2..at);
                ours.truncate(20);
                std.truncate(20);
            }
            _ => assert_eq!(ours.contains(&n), std.contains(&n)),
        }
        assert_eq!((ours.len(), ours.is_empty()), (std.len(), std.is_empty()));
        assert_eq!((ours.first(), ours.last()), (std.first().copied(), std.last().copied()));
    }
    assert_eq!(ours.to_vec(), std);
    assert!(ours.iter().page_size(3).eq(std.iter().copied()));
    assert!((&ours).into_iter().page_size(3).rev().eq(std.iter().rev().copied()));

    let ours = Vec::from([1, 2, 3, 4_u64]);
    let mut std = ours.to_vec();
    same_panic(|| ours.insert(5, 0), || std.insert(5, 0));
    same_panic(|| ours.remove(4), || std.remove(4));
    same_panic(|| ours.swap_remove(9), || std.swap_remove(9));
    same_panic(|| ours.split_off(5), || std.split_off(5));
    same_panic(|| ours.replace(4, 0), || std[4] = 0);
    same_panic(|| ours.swap(0, 4), || std.swap(0, 4));
    same_panic(|| ours.rotate_right(5), || std.rotate_right(5));
    same_panic(|| ours.get_range(2..5), || std[2..5].to_vec());
    let (from, to) = (3, 2);
    same_panic(|| ours.get_range(from..to), || std[from..to].to_vec());
    same_panic(|| ours.drain(5..), || std[5..].to_vec());
    same_panic(|| ours.get_range(..=usize::MAX), || std[..=usize::MAX].to_vec());
    assert_eq!(ours.is_poisoned(), Ok(false), "a caller's mistake is the caller's");
    assert_says(&panic_of(|| ours.resize(usize::MAX, 0)), &["no memory"]);
    assert_eq!(ours.to_vec(), std);

    assert_eq!(ours.get_many(&[3, 9]), [Some(4), None]);
    assert_eq!(ours.get_range(1..=2), [2, 3]);
    assert_eq!(ours.split_off(3), [4]);
    ours.append(&mut vec![7, 8]);
    ours.extend_from_slice(&[9]);
    assert_eq!(ours.pop_if(is_even, ()), None);
    assert_eq!(ours.pop_many(2), [9, 8]);
    assert_eq!(ours.extract_if(1.., is_even, ()), [2]);
    ours.resize(5, 6);
    assert_eq!(ours.to_vec(), [1, 3, 7, 6, 6]);
    assert_eq!(ours.inspect_with(3, is_even, ()), Some(true));
    ours.update_all(add, 1);
    assert_eq!(ours.to_vec(), [2, 4, 8, 7, 7]);
    ours.fill(0);
    assert_eq!(ours.get_range(..), [0; 5]);
    ours.clear();
    assert_eq!(ours.pop_many(3), [0_u64; 0]);
    assert_eq!([1_u8].into_iter().collect::<Vec<_>>().first(), Some(1));
    assert_eq!(Vec::from(vec![1_u8]).last(), Some(1));
}

fn halve_here(n: &mut u64) -> bool {
    halve(n)
}

#[test(modes(embedded, processes, server))]
fn queues_are_stds() {
    let mut random = Random(7);
    let ours = VecDeque::<u64>::new();
    let mut std = StdVecDeque::<u64>::new();
    for _ in 0..OPERATIONS {
        let n = random.below(50);
        let at = random.below(std.len() as u64 + 2) as usize;
        match random.below(14) {
            0..=2 => {
                ours.push_back(n);
                std.push_back(n);
            }
            3..=4 => {
                ours.push_front(n);
                std.push_front(n);
            }
            5 => assert_eq!(ours.pop_front(), std.pop_front()),
            6 => assert_eq!(ours.pop_back(), std.pop_back()),
            7 => assert_eq!(ours.remove(at), std.remove(at)),
            8 => assert_eq!(ours.swap_remove_front(at), std.swap_remove_front(at)),
            9 => assert_eq!(ours.swap_remove_back(at), std.swap_remove_back(at)),
            10 if at <= std.len() => {
                ours.insert(at, n);
                std.insert(at, n);
            }
            11 if at <= std.len() => {
                ours.rotate_right(at);
                std.rotate_right(at);
            }
            12 => {
                ours.truncate(25);
                std.truncate(25);
            }
            _ => assert_eq!(ours.get(at), std.get(at).copied()),
        }
        assert_eq!((ours.len(), ours.is_empty()), (std.len(), std.is_empty()));
        assert_eq!((ours.front(), ours.back()), (std.front().copied(), std.back().copied()));
    }
    assert!(ours.iter().page_size(4).eq(std.iter().copied()));

    let ours = VecDeque::from([1, 2, 3_u64]);
    let mut std = StdVecDeque::from([1, 2, 3_u64]);
    same_panic(|| ours.insert(4, 0), || std.insert(4, 0));
    same_panic(|| ours.split_off(4), || std.split_off(4));
    same_panic(|| ours.replace(3, 0), || std[3] = 0);
    same_panic(|| ours.swap(0, 3), || std.swap(0, 3));
    same_panic(|| ours.rotate_left(4), || std.rotate_left(4));
    same_panic(|| ours.drain(2..4), || std.drain(2..4).count());
    assert_eq!(ours.range(1..).collect::<StdVec<_>>(), [2, 3]);
    assert_eq!(ours.pop_front_if(is_even, ()), None);
    assert_eq!(ours.pop_back_if(is_below, 9), Some(3));
    ours.append(&mut StdVecDeque::from([8, 9]));
    assert_eq!(ours.pop_front_many(2), [1, 2]);
    assert_eq!(ours.pop_back_many(9), [9, 8]);
    assert_eq!(VecDeque::from(StdVecDeque::from([1_u8])).split_off(0), [1]);
}

#[cloud_fn]
fn count(words: &HashMap<String, u64>, all: &BTreeMap<u64, String>, worker: u64) {
    for round in 0..10 {
        words.merge("all".to_owned(), 1, add);
        words.merge_all([("all".to_owned(), 1), (format!("w{worker}"), 1), ("all".to_owned(), 1)], add);
        words.entry("entry".to_owned()).and_modify(add, 1).or_insert(1);
        words.update_or_insert("update".to_owned(), 0, add, 2);
        all.merge(round, "x".to_owned(), concat);
    }
}

#[test(modes(embedded, processes, server))]
fn merges_lose_nothing() {
    let (words, all) = (HashMap::new(), BTreeMap::new());
    let threads: StdVec<_> = (0..4).map(|worker| thread::spawn(|| count(&words, &all, worker))).collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(words.get("all"), Some(120));
    assert_eq!(words.get("entry"), Some(40));
    assert_eq!(words.get("update"), Some(80));
    assert_eq!(words.get_many(["w0", "w3"]), [Some(10), Some(10)]);
    assert_eq!(all.len(), 10);
    assert!(all.values().iter().all(|text| text == "xxxx"));

    assert_eq!(words.merge("new".to_owned(), 5, add), None);
    assert_eq!(words.merge("new".to_owned(), 5, add), Some(10));
    words.update_all(add, 1);
    assert_eq!(words.get("new"), Some(11));
    assert_eq!(words.inspect_with("new", is_below, 11), Some(false));
    assert_eq!(words.inspect_with("old", is_below, 11), None);
    words.retain_keys(starts_with, "n".to_owned());
    assert_eq!(words.keys(), ["new"]);
    all.retain_keys(is_even, ());
    assert_eq!(all.keys(), [0, 2, 4, 6, 8], "a function sees keys in their own encoding");
    let length = all.update_with(&2, join, ("-".to_owned(), vec!["y".to_owned(), "z".to_owned()]));
    assert_eq!((length, all.get(&2).as_deref()), (Some(8), Some("xxxx-y-z")));
}

#[test(modes(embedded, server))]
fn a_function_that_panics_poisons_what_it_changes() {
    let map = HashMap::from([("a".to_owned(), 1_u64)]);
    let panic = panic_of(|| map.inspect_with("a", expect_below, 1));
    assert_says(&panic, &["inspect", "panicked", "1 is too large"]);
    assert_eq!(map.is_poisoned(), Ok(false), "as a read that panics");
    let panic = panic_of(|| map.update_with("a", checked_sub, 2));
    assert_says(&panic, &["update", "panicked", "it is large enough"]);
    assert_eq!(map.is_poisoned(), Ok(true));
    assert_says(&panic_of(|| map.get("a")), &["poisoned", "it is large enough"]);
    map.clear_poison().unwrap();
    assert_eq!(map.get("a"), Some(1), "the value is as it was before the function");

    let vec = Vec::from([1_u64, 0]);
    assert_says(&panic_of(|| vec.update_all(checked_sub, 1)), &["it is large enough"]);
    assert_eq!(vec.is_poisoned(), Ok(true));
    vec.clear_poison().unwrap();
    assert_eq!(vec.to_vec(), [1, 0]);
}

#[cloud_fn]
fn churn(map: &HashMap<u64, u64>, worker: u64) {
    for n in 0..60 {
        let key = 1000 + n * 10 + worker;
        map.insert(key, 0);
        if n % 2 == 0 {
            map.remove(&key);
        }
    }
}

#[test(modes(embedded, processes, server))]
fn a_cursor_sees_what_stays_exactly_once() {
    let map: HashMap<u64, u64> = (0..200).map(|n| (n, n)).collect();
    let threads: StdVec<_> = (0..2).map(|worker| thread::spawn(|| churn(&map, worker))).collect();
    for _ in 0..5 {
        let seen: StdVec<_> = map.iter().page_size(9).map(|(key, _)| key).filter(|key| *key < 1000).collect();
        let distinct: StdBTreeSet<_> = seen.iter().copied().collect();
        assert_eq!((seen.len(), distinct.len()), (200, 200));
    }
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(map.len(), 260);

    let mut cursor = map.iter().page_size(10);
    let first: StdVec<_> = cursor.by_ref().take(10).collect();
    map.clear();
    map.extend(first.iter().copied());
    assert_eq!(cursor.count(), 0, "what has been seen doesn't come again, and what is gone doesn't come");

    let large: HashMap<u64, StdVec<u8>> = (0..20).map(|n| (n, vec![0; 100_000])).collect();
    assert_eq!(large.iter().count(), 20, "pages end at a number of bytes, too");
}

#[test(modes(embedded, processes, server))]
fn arrays_compute_as_slices() {
    let array = Array::<f64>::new(4);
    assert_eq!((array.len(), array.is_empty()), (4, false));
    array.set_range(1, &[1.0, 2.0, 3.0]);
    array.add(&[1.0, 1.0, 1.0, 1.0]);
    array.scale(2.0);
    assert_eq!(array.to_vec(), [2.0, 4.0, 6.0, 8.0]);
    array.axpy(0.5, &[2.0; 4]);
    array.sub(&[1.0; 4]);
    assert_eq!(array.get_range(1..3), [4.0, 6.0]);
    assert_eq!(array.dot(&[1.0, 0.0, 0.0, 1.0]), 10.0);
    assert_eq!((array.sum(), array.min(), array.max()), (20.0, Some(2.0), Some(8.0)));
    assert_eq!(array.reduce(Reduction::Product), Some(2.0 * 4.0 * 6.0 * 8.0));
    assert_eq!(array.reduce_range(2.., Reduction::Min), Some(6.0));
    assert_eq!((array.get(3), array.get(4)), (Some(8.0), None));
    array.set(0, f64::NAN);
    assert_eq!((array.min(), array.max()), (Some(4.0), Some(8.0)));
    assert_eq!(array.replace(0, 1.0).to_bits(), f64::NAN.to_bits());
    assert_eq!(array.fetch_add(1, 1.0), 4.0);
    array.mul(&[2.0, 2.0, 0.0, 0.0]);
    array.add_range(2, &[7.0]);
    assert_eq!(array.take(), [2.0, 10.0, 7.0, 0.0]);
    assert_eq!(array.to_vec(), [0.0; 4]);
    array.fill(3.0);
    array.resize(5, 4.0);
    assert_eq!(array.to_vec(), [3.0, 3.0, 3.0, 3.0, 4.0]);
    array.copy_from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(array.sum(), 15.0);

    let mut std = array.to_vec();
    same_panic(|| array.set(5, 0.0), || std[5] = 0.0);
    same_panic(|| array.get_range(3..6), || std[3..6].to_vec());
    same_panic(|| array.copy_from_slice(&[1.0]), || std.copy_from_slice(&[1.0]));
    panic_of(|| array.add(&[1.0]));
    panic_of(|| array.dot(&[1.0; 6]));
    panic_of(|| array.set_range(4, &[1.0, 2.0]));
    panic_of(|| array.set_range(usize::MAX, &[1.0, 2.0]));
    assert_eq!(array.is_poisoned(), Ok(false));
    assert_eq!(array.to_vec(), std);

    let ints = Array::from([u8::MAX, 1]);
    ints.add(&[1, 1]);
    assert_eq!(ints.to_vec(), [0, 2], "integers wrap around");
    assert_eq!(Array::from([i64::MIN, 3]).sum(), i64::MIN + 3);
    assert_eq!((Array::<i32>::new(0).min(), Array::<i32>::new(0).sum()), (None, 0));
    let named = Array::<u32>::at("numbers").new(2);
    assert_eq!(Array::<u32>::at("numbers").new(9), named);
    let other = Array::<f32>::at("numbers").new(2);
    assert_says(&panic_of(|| other.to_vec()), &["are `u32`, not `f32`"]);
    assert_says(&panic_of(|| other.add(&[0.0; 2])), &["are `u32`, not `f32`"]);

    let large: StdVec<f64> = (0..20_000).map(f64::from).collect();
    let array = Array::from(&large[..]);
    array.add(&large);
    assert_eq!(array.to_vec(), large.iter().map(|n| n * 2.0).collect::<StdVec<_>>());
}

#[test(modes(embedded, processes, server))]
fn matrices_are_rows_and_columns() {
    let m = Matrix::<i32>::new(2, 3);
    assert_eq!((m.rows(), m.columns()), (2, 3));
    m.set_row(0, &[1, 2, 3]);
    m.add_row(1, &[4, 5, 6]);
    m.set(1, 2, 7);
    assert_eq!(m.to_vec(), [1, 2, 3, 4, 5, 7]);
    assert_eq!((m.row(1), m.column(1)), (vec![4, 5, 7], vec![2, 5]));
    m.set_column(0, &[10, 20]);
    m.add_column(2, &[1, 1]);
    assert_eq!(m.to_vec(), [10, 2, 4, 20, 5, 8]);
    assert_eq!(m.mul_vec(&[1, 0, 2]), [18, 36]);
    assert_eq!((m.get(1, 1), m.get(2, 0), m.get(0, 3)), (Some(5), None, None));
    assert_eq!(m.fetch_add(1, 1, 5), 5);
    assert_eq!(m.reduce_rows(Reduction::Sum), [16, 38]);
    assert_eq!(m.reduce_columns(Reduction::Max), [20, 10, 8]);
    assert_eq!((m.sum(), m.min(), m.max()), (54, Some(2), Some(20)));
    m.scale(2);
    m.axpy(-1, &[1; 6]);
    m.sub(&[0, 0, 0, 0, 0, 15]);
    assert_eq!(m.take(), [19, 3, 7, 39, 19, 0]);
    m.add(&[1; 6]);
    m.fill(2);
    m.copy_from_slice(&[1, 2, 3, 4, 5, 6]);
    assert_eq!(m.row(0), [1, 2, 3]);

    same_panic(|| m.row(2), || [(), ()][m.rows()]);
    panic_of(|| m.column(3));
    panic_of(|| m.set_row(0, &[1, 2]));
    panic_of(|| m.mul_vec(&[1, 2]));
    panic_of(|| Matrix::from_slice(2, 2, &[1_u8]));
    panic_of(|| Matrix::<u8>::new(usize::MAX, 2));
    assert_eq!(m.is_poisoned(), Ok(false));
    assert_eq!(m.sum(), 21);
    let empty = Matrix::<f64>::new(0, 3);
    assert_eq!((empty.column(2), empty.reduce_columns(Reduction::Sum)), (vec![], vec![0.0; 3]));
    assert_eq!(Matrix::<f64>::new(2, 0).mul_vec(&[]), [0.0; 2]);
    assert_eq!(Matrix::<u8>::at("m").new(1, 1), Matrix::<u8>::at("m").new(1, 1));
}
