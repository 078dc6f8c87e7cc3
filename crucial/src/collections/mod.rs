//! Collections that cloud threads share: [`std::collections`] across processes and machines.

mod hash_map;

pub use hash_map::{HashMap, NamedHashMap};
