//! Collections that cloud threads share: [`std::collections`] across processes and machines.
//!
//! | for | there is |
//! |---|---|
//! | anything by a key | [`HashMap`], [`BTreeMap`] |
//! | whether something is there | [`HashSet`], [`BTreeSet`] |
//! | anything in a row | [`Vec`], [`VecDeque`] |
//! | numbers to compute with | [`Array`], [`Matrix`] |
//!
//! A method is one call, whatever it does: those for many elements, such as `extend`, cost one round trip, too. Where
//! std's methods take a closure, these take a [shared function](macro@crate::shared), which runs on the server, with its
//! argument. `iter` goes through a collection of any size in pages: see [`Cursor`].

mod array;
mod btree_map;
mod btree_set;
mod cursor;
mod dense;
mod hash_map;
mod hash_set;
mod map;
mod matrix;
mod numbers;
mod raw_map;
mod raw_sequence;
mod sequence;
mod set;
mod vec;
mod vec_deque;

pub use array::{Array, NamedArray};
pub use btree_map::{BTreeMap, BTreeMapEntry, NamedBTreeMap};
pub use btree_set::{BTreeSet, NamedBTreeSet};
pub use cursor::Cursor;
pub use hash_map::{HashMap, HashMapEntry, NamedHashMap};
pub use hash_set::{HashSet, NamedHashSet};
pub use matrix::{Matrix, NamedMatrix};
pub use numbers::{Number, Reduction};
pub use vec::{NamedVec, Vec};
pub use vec_deque::{NamedVecDeque, VecDeque};
