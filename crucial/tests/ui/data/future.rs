//! An async cloud function that holds what can't cross threads.
use std::rc::Rc;

use crucial::cloud_fn;

#[cloud_fn]
async fn count(n: u64) -> u64 {
    let shared = Rc::new(n);
    std::future::ready(()).await;
    *shared
}

fn main() {}
