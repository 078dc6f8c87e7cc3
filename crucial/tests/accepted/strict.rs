//! Generated code gives no reason for a warning, however strict the crate is.
#![deny(
    warnings,
    missing_docs,
    missing_debug_implementations,
    missing_copy_implementations,
    unreachable_pub,
    unsafe_code,
    unused_qualifications,
    unused_results,
    elided_lifetimes_in_paths,
    explicit_outlives_requirements,
    single_use_lifetimes,
    trivial_casts,
    let_underscore_drop,
    nonstandard_style,
    rust_2018_idioms,
    rust_2024_compatibility
)]
#![forbid(unsafe_op_in_unsafe_fn)]

/// Shared functions.
pub mod shared_functions {
    use crucial::shared;

    /// Adds.
    #[shared]
    pub fn add(total: &mut u64, by: u64) {
        *total += by;
    }

    /// Appends words, and gives the length.
    #[shared]
    pub(crate) fn append(text: &mut String, separator: char, words: &[String]) -> usize {
        for word in words {
            text.push(separator);
            text.push_str(word);
        }
        text.len()
    }

    /// Whether a text is one of some.
    #[must_use]
    #[shared]
    #[inline]
    pub fn is_one(text: &str, of: &[String]) -> bool {
        of.iter().any(|other| other == text)
    }

    /// Is not there.
    #[cfg(any())]
    #[shared]
    pub fn gone(value: &mut Missing) {}
}

/// Shared types.
pub mod shared {
    use crucial::{Context, shared};

    /// A semaphore.
    #[shared(persistent)]
    pub struct Permits {
        free: u32,
        trace: Vec<f64>,
    }

    #[shared]
    impl Permits {
        /// So many permits.
        pub fn new(free: u32) -> Self {
            Permits { free, trace: Vec::new() }
        }

        /// Takes permits.
        #[when(self.free >= n)]
        #[then(taken)]
        pub fn acquire(&mut self, n: u32, name: &str, cx: &mut Context) -> Vec<f64> {
            self.free -= n;
            self.trace.push(name.len() as f64 + cx.random() as f64);
            self.trace.clone()
        }

        /// Waits.
        #[when(self.free >= n)]
        pub fn wait(&self, n: u32) {}

        #[when(self.free > 0)]
        fn taken(&self, trace: &[f64]) -> u64 {
            trace.len() as u64
        }

        /// Does nothing, and is not to be used.
        #[deprecated = "use `acquire`"]
        #[must_use]
        pub fn old(&self, _: u8) -> u8 {
            0
        }
    }

    /// A pair.
    #[shared(instances(Pair<u8, String>))]
    #[derive(Debug, Clone)]
    pub struct Pair<A: Copy, B = u8>(A, B);

    #[shared]
    impl<A: Copy, B> Pair<A, B>
    where
        B: Clone,
    {
        /// A pair.
        pub fn new(a: A, b: B) -> Self {
            Pair(a, b)
        }

        /// Its halves.
        pub fn get(&self) -> (A, B) {
            (self.0, self.1.clone())
        }

        /// Its halves, or why not.
        pub fn try_get(&self) -> Result<(A, B), crucial::Error> {
            Ok(self.get())
        }
    }

    /// Permits for all.
    #[shared(key = "all")]
    pub static ALL: Permits = Permits::new(3);

    #[shared]
    struct Private {
        n: u64,
    }

    #[shared]
    impl Private {
        pub(crate) fn new() -> Self {
            Private { n: 0 }
        }
        fn helper(&self) -> u64 {
            self.n
        }
        pub(super) fn get(&self) -> u64 {
            self.helper()
        }
    }

    pub(crate) fn private() -> Option<u64> {
        // Never true: there is no server here.
        (std::env::args().count() > 100).then(|| Private::new().get())
    }
}

/// Functions.
pub mod functions {
    use crucial::cloud_fn;

    /// Adds.
    #[cloud_fn(retries = 1)]
    pub fn add(a: u64, values: &[u8]) -> u64 {
        a + values.len() as u64
    }

    /// Adds later.
    #[cloud_fn]
    pub async fn later(text: &str) -> Result<String, crucial::Error> {
        Ok(text.to_owned())
    }

    /// Does nothing.
    #[cloud_fn]
    pub fn nothing() {}
}

/// Elsewhere.
pub mod elsewhere {
    use crucial::shared;

    /// A tree of handles and values.
    #[shared]
    #[derive(Debug)]
    pub struct Tree {
        value: u64,
        below: Option<Box<Self>>,
        beside: Option<Tree>,
        pub(in crate::elsewhere) list: Vec<crate::shared::Permits>,
    }

    mod methods {
        use crucial::shared;
        #[shared]
        impl super::Tree {
            /// A tree.
            #[must_use]
            pub fn new(value: u64) -> Self {
                Tree { value, below: None, beside: None, list: Vec::new() }
            }
            /// Its value.
            pub fn value(&self) -> u64 {
                self.value
                    + self.below.as_ref().map_or(0, |below| below.value)
                    + u64::from(self.beside.is_some())
            }
            /// Grows.
            pub fn grow(&mut self) -> Result<(), crucial::Error> {
                self.below = Some(Box::new(Self::new(0)));
                Ok(())
            }
        }
    }
}

/// Runs.
#[crucial::main]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    assert_eq!(functions::add(1, &[1]).here(), 2);
    assert_eq!(functions::later("x").here()?, "x");
    functions::nothing().here();
    let mut text = String::new();
    assert_eq!(shared_functions::append(&mut text, ' ', &["x".to_owned()]), 2);
    assert!(!shared_functions::is_one(&text, &[]));
    assert_eq!(shared::private(), None);
    Ok(())
}

#[crucial::test(modes(embedded))]
fn in_modes() {}
