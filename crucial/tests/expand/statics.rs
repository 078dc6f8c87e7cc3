//! Shared statics.

use crucial::{Shared, Static, shared};

/// A counter.
#[shared]
pub struct Counter {
    n: u64,
}

#[shared]
impl Counter {
    /// A counter that starts at `n`.
    pub const fn new(n: u64) -> Self {
        Counter { n }
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.n
    }
}

#[shared(instances(Pair<u8, String>))]
struct Pair<A, B> {
    a: A,
    b: B,
}

#[shared]
impl<A: Clone, B: Default> Pair<A, B> {
    pub fn new(a: A) -> Self {
        Pair { a, b: B::default() }
    }
    pub fn a(&self) -> A {
        self.a.clone()
    }
    pub fn b(&mut self) -> B {
        std::mem::take(&mut self.b)
    }
}

/// Counts.
#[shared]
pub static HITS: Counter = Counter::new(1);

#[shared(key = "misses", persistent)]
static MISSES: self::Counter = Counter::new(2 + 3);

#[shared]
static PAIR: Pair<u8, String> = Pair::new(1);

#[shared]
static TURBO: Pair<u8, String> = Pair::<u8, String>::new(2);

#[shared]
static QUALIFIED: Counter = <Counter>::new(3);

#[test]
fn a_static_is_a_handle_with_its_path_as_key() {
    assert_eq!(HITS.key(), Some("expand::statics::HITS"));
    assert_eq!(MISSES.key(), Some("misses"));
    assert_eq!(PAIR.key(), Some("expand::statics::PAIR"));
    assert_eq!(TURBO.key(), Some("expand::statics::TURBO"));
    let hits: &Static<Counter> = &HITS;
    let handle: Counter = Counter::clone(hits);
    assert_eq!(handle, **hits);
    assert_ne!(handle, *QUALIFIED);
}

#[test]
fn a_static_knows_how_it_is_made() {
    use crucial_runtime::{object::SharedType, reference::Lifetime};
    let object = MISSES.object_ref();
    assert_eq!(object.lifetime(), Lifetime::Persistent);
    assert_eq!(HITS.object_ref().lifetime(), Lifetime::Ephemeral);
    let origin = object.origin().unwrap();
    assert_eq!(origin.constructor, 0);
    assert_eq!(rmp_serde::from_slice::<(u64,)>(&origin.args).unwrap(), (5,));
}

#[test]
fn statics_are_registered() {
    use crucial_runtime::object::StaticInfo;
    let mut found: Vec<_> = inventory::iter::<StaticInfo>
        .into_iter()
        .filter(|info| info.place.starts_with(file!()))
        .map(|info| ((info.type_name)(), info.key))
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("expand::statics::Counter", "expand::statics::HITS"),
            ("expand::statics::Counter", "expand::statics::QUALIFIED"),
            ("expand::statics::Counter", "misses"),
            ("expand::statics::Pair<u8, String>", "expand::statics::PAIR"),
            ("expand::statics::Pair<u8, String>", "expand::statics::TURBO"),
        ]
    );
    crucial_runtime::object::check_registry().unwrap();
}
