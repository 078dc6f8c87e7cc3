//! Which methods have changed an object.

use crucial_runtime::object::TypeInfo;
use serde::{Deserialize, Serialize};

/// A set of methods and constructors of one type.
///
/// It is added to with every call of every object, so it is a number with a bit for each. The methods of a type that has
/// very many share the last bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Methods(u64);

/// The first bit that stands for a constructor.
const CONSTRUCTORS: u32 = 48;

fn bit(number: u16, first: u32, end: u32) -> u64 {
    1 << (first + u32::from(number)).min(end - 1)
}

fn method(number: u16) -> u64 {
    bit(number, 0, CONSTRUCTORS)
}

fn constructor(number: u16) -> u64 {
    bit(number, CONSTRUCTORS, u64::BITS)
}

impl Methods {
    /// A constructor alone.
    #[must_use]
    pub fn constructor(number: u16) -> Self {
        Methods(constructor(number))
    }

    /// Adds a method.
    pub fn insert(&mut self, number: u16) {
        self.0 |= method(number);
    }

    /// Adds all of `others`.
    pub fn extend(&mut self, others: Methods) {
        self.0 |= others.0;
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of these are among `others`.
    #[must_use]
    pub fn is_subset(self, others: Methods) -> bool {
        self.0 & others.0 == self.0
    }

    /// Their names, constructors first.
    #[must_use]
    pub fn names(self, info: &TypeInfo) -> Vec<&'static str> {
        let constructors = (0..).zip(info.constructors).filter(|(n, _)| self.0 & constructor(*n) != 0);
        let methods = (0..).zip(info.methods).filter(|(n, _)| self.0 & method(*n) != 0);
        constructors.map(|(_, name)| *name).chain(methods.map(|(_, info)| info.name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_knows_its_methods() {
        let mut some = Methods::default();
        assert!(some.is_empty() && some.is_subset(Methods::default()));
        some.insert(3);
        let mut more = Methods::constructor(3);
        assert!(!some.is_subset(more) && !more.is_subset(some));
        more.extend(some);
        assert!(some.is_subset(more) && !more.is_subset(some));
        // Numbers that are too large for a bit of their own stay among their kind.
        some.insert(u16::MAX);
        assert!(!some.is_subset(more) && !Methods::constructor(0).is_subset(some));
        assert_eq!(Methods::constructor(100), Methods::constructor(u16::MAX));
    }
}
