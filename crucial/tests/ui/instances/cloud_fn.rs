//! A generic cloud function names its instances, and its types are data.
use crucial::{Data, cloud_fn};

#[cloud_fn]
fn double<T: std::ops::Add<Output = T> + Copy, const N: usize>(x: T) -> T {
    x + x
}

#[cloud_fn(instances(other<u8>, first, first<u8, u8>, first<T>, first<u8>, first< u8 >))]
fn first<T: Data>(values: Vec<T>) -> Option<T> {
    values.into_iter().next()
}

#[cloud_fn(instances(plain<u8>))]
fn plain() {}

#[cloud_fn(instances = "last<u8>")]
fn last<T: Data>(values: Vec<T>) -> Option<T> {
    values.into_iter().last()
}

#[cloud_fn(instances(len<u8>))]
fn len<T>(values: &[T]) -> usize {
    values.len()
}

#[cloud_fn(instances(larger<std::rc::Rc<u8>>))]
fn larger<T: Data + Ord>(a: T, b: T) -> T {
    a.max(b)
}

fn main() {}
