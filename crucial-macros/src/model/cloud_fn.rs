//! `#[cloud_fn]`.

use std::time::Duration;

use syn::{Attribute, ItemFn};

use super::{Instances, Output, Param};

/// A cloud function.
pub struct CloudFn {
    /// Docs and hints for callers.
    pub face: Vec<Attribute>,
    /// Everything else.
    pub body: Vec<Attribute>,
    pub item: ItemFn,
    pub params: Vec<Param>,
    pub output: Output,
    pub instances: Instances,
    pub options: FnOptions,
}

/// Its options.
#[derive(Default)]
pub struct FnOptions {
    pub retries: Option<u32>,
    pub timeout: Option<Duration>,
    /// In MiB.
    pub memory: Option<u64>,
}
