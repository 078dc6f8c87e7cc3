//! What the compiler says to mistakes, by kind of mistake; and what it accepts without a word.

#[test]
fn mistakes() {
    let tests = trybuild::TestCases::new();
    tests.compile_fail("tests/ui/*/*.rs");
}

#[test]
fn no_mistakes() {
    let tests = trybuild::TestCases::new();
    tests.pass("tests/ui_pass/*.rs");
}
