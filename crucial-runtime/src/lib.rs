//! Placeholder while the crate is being written.

#[cfg(feature = "processes")]
pub mod lambda;
