//! What the compiler says to mistakes, by kind of mistake.

#[test]
fn mistakes() {
    let tests = trybuild::TestCases::new();
    tests.compile_fail("tests/ui/*/*.rs");
}
