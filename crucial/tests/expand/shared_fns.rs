//! Shared functions: what the attribute makes of them.

use crucial::{Inspect, Update, shared};
use crucial_runtime::shared_fn::{Format, Invocation};

/// Adds.
#[shared]
pub fn add(total: &mut u64, by: u64) -> u64 {
    *total += by;
    *total
}

#[shared]
fn append(text: &mut String, separator: char, more: &str) {
    if !text.is_empty() {
        text.push(separator);
    }
    text.push_str(more);
}

#[shared]
fn is_long(text: &str) -> bool {
    text.len() > 3
}

#[shared]
fn negate(numbers: &mut [f64]) {
    numbers.iter_mut().for_each(|n| *n = -*n);
}

#[shared]
fn sum(numbers: &Vec<f64>, weights: &[f64]) -> f64 {
    numbers.iter().zip(weights).map(|(n, w)| n * w).sum()
}

fn update<T: serde::Serialize, F: Update<T>>(value: &T, f: F, arg: &F::Arg) -> (Vec<u8>, Vec<u8>) {
    let mut bytes = rmp_serde::to_vec(value).unwrap();
    let result = Invocation::new(f, arg).unwrap().find().unwrap().update(&mut bytes).unwrap();
    (bytes, result)
}

fn inspect<T: serde::Serialize, F: Inspect<T>>(value: &T, f: F, arg: &F::Arg) -> Vec<u8> {
    let bytes = rmp_serde::to_vec(value).unwrap();
    Invocation::new(f, arg).unwrap().find().unwrap().inspect(Format::Plain, &bytes).unwrap()
}

#[test]
fn a_shared_function_runs_here_too() {
    let mut total = 1;
    assert_eq!(add(&mut total, 2), 3);
    let mut text = String::new();
    append(&mut text, ',', "a");
    append(&mut text, ',', "b");
    assert_eq!(text, "a,b");
    assert_eq!(sum(&vec![1.0, 2.0], &[3.0, 4.0]), 11.0);
}

#[test]
fn a_shared_function_is_found_by_its_name() {
    assert_eq!(format!("{add:?}"), "Function(\"expand::shared_fns::add\")");
    assert_eq!(update(&1_u64, add, &2), (vec![3], vec![3]));
    let (text, _) = update(&"a".to_owned(), append, &(';', "b".to_owned()));
    assert_eq!(rmp_serde::from_slice::<String>(&text).unwrap(), "a;b");
    assert_eq!(inspect(&"long".to_owned(), is_long, &()), [0xc3]);
    assert_eq!(update(&"abc".to_owned(), is_long, &()).1, [0xc2]);
    let (negative, _) = update(&vec![1.0, 2.0], negate, &());
    assert_eq!(rmp_serde::from_slice::<Vec<f64>>(&negative).unwrap(), [-1.0, -2.0]);
    let result = inspect(&vec![1.0, 2.0], sum, &vec![3.0, 4.0]);
    assert_eq!(rmp_serde::from_slice::<f64>(&result).unwrap(), 11.0);
}

#[test]
fn an_unknown_shared_function_is_refused_with_those_that_are_there() {
    #[derive(serde::Serialize)]
    struct Wire(&'static str, u64, serde_bytes::Bytes);
    mod serde_bytes {
        #[derive(serde::Serialize)]
        #[serde(transparent)]
        pub struct Bytes(#[serde(with = "crucial::bulk")] pub Vec<u8>);
    }
    let decode = |name| -> Invocation {
        let bytes = rmp_serde::to_vec(&Wire(name, 0, serde_bytes::Bytes(vec![]))).unwrap();
        rmp_serde::from_slice(&bytes).unwrap()
    };
    let error = decode("a::b").find().unwrap_err().to_string();
    assert!(
        error.contains("no shared function `a::b`; it has ") && error.contains("shared_fns::add"),
        "{error}"
    );
    let error = decode("expand::shared_fns::add").find().unwrap_err().to_string();
    assert!(error.contains("`expand::shared_fns::add` differs"), "{error}");
}
