//! A program whose registry is inconsistent doesn't start.

use crucial::shared;

fn one() {
    #[shared]
    fn double(n: &mut u64) {
        *n *= 2;
    }
    double(&mut 1);
}

fn another() {
    #[shared]
    fn double(n: &mut u32) {
        *n *= 2;
    }
    double(&mut 1);
}

#[test]
fn two_shared_functions_of_one_name_are_refused() {
    one();
    another();
    let error = crucial_runtime::object::check_registry().unwrap_err().to_string();
    assert!(error.contains("two shared functions have the name `registry::double`"), "{error}");
    assert_eq!(error.matches("registry.rs:").count(), 2, "both places are named: {error}");
}
