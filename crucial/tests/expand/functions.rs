//! Cloud functions, the entry point and tests.

use std::{collections::HashMap, time::Duration};

use crucial::{Task, cloud_fn};
use crucial_runtime::function::{FunctionInfo, Options};

#[cloud_fn]
fn nothing() {}

/// Adds.
#[cloud_fn(retries = 2, timeout = "30s", memory = "512MB")]
pub fn add(a: u64, mut b: u64) -> u64 {
    b += a;
    b
}

#[cloud_fn(memory = 64)]
#[allow(clippy::ptr_arg)]
fn everything(
    (a, b): (u32, u32),
    text: &str,
    block: &[f64],
    words: &[String],
    map: &HashMap<String, u8>,
    bytes: Vec<u8>,
    array: [i16; 3],
    lent: &Vec<i8>,
) -> (u32, usize) {
    let length = text.len() + block.len() + words.len() + map.len() + bytes.len() + array.len() + lent.len();
    (a + b, length)
}

#[cloud_fn]
fn blocks(scale: f64, values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| value * scale).collect()
}

#[cloud_fn]
fn divide(a: u64, b: u64) -> Result<u64, String> {
    a.checked_div(b).ok_or_else(|| "by zero".to_owned())
}

#[cloud_fn]
async fn later(text: &str, numbers: &[u8]) -> Result<String, crucial::Error> {
    std::future::ready(()).await;
    Ok(format!("{text}{}", numbers.len()))
}

#[cloud_fn]
fn countdown(n: u32) -> Option<u32> {
    // A call of itself describes work, as any other.
    let next: Option<Task<Option<u32>>> = n.checked_sub(1).map(countdown);
    next.map_or(Some(0), |task| task.here().map(|steps| steps + 1))
}

#[cloud_fn]
fn fails() -> u8 {
    panic!("as it should")
}

#[test]
fn tasks_run_here() {
    let () = nothing().here();
    assert_eq!(add(1, 2).here(), 3);
    let words = ["a".to_owned()];
    let map = HashMap::from([("k".to_owned(), 1)]);
    let task = everything((1, 2), "text", &[0.5, 1.5], &words, &map, vec![1], [1, 2, 3], &vec![-1]);
    assert_eq!(task.here(), (3, 4 + 2 + 1 + 1 + 1 + 3 + 1));
    assert_eq!(blocks(2.0, &[0.5, 1.5]).here(), [1.0, 3.0]);
    assert_eq!(divide(6, 3).here(), Ok(2));
    assert_eq!(divide(6, 0).here(), Err("by zero".to_owned()));
    assert_eq!(later("x", &[1, 2]).here().unwrap(), "x2");
    assert_eq!(countdown(3).here(), Some(3));
}

#[test]
#[should_panic(expected = "as it should")]
fn a_panic_comes_through() {
    fails().here();
}

fn info(name: &str) -> &'static FunctionInfo {
    let name = format!("expand::functions::{name}");
    inventory::iter::<FunctionInfo>.into_iter().find(|info| info.name == name).unwrap()
}

#[test]
fn functions_are_registered_with_their_options() {
    assert_eq!(add(1, 2).name(), "expand::functions::add");
    let all = Options { retries: Some(2), timeout: Some(Duration::from_secs(30)), memory: Some(512) };
    assert_eq!(info("add").options, all);
    assert_eq!(info("everything").options, Options { memory: Some(64), ..Options::default() });
    assert_eq!(info("nothing").options, Options::default());
}

mod versions {
    pub mod a {
        #[crucial::cloud_fn]
        pub fn f(_: u32) -> u64 {
            0
        }
    }
    pub mod body {
        #[crucial::cloud_fn]
        pub fn f(n: u32) -> u64 {
            n.into()
        }
    }
    pub mod argument {
        #[crucial::cloud_fn]
        pub fn f(_: u16) -> u64 {
            0
        }
    }
    pub mod result {
        #[crucial::cloud_fn]
        pub fn f(_: u32) -> u32 {
            0
        }
    }
}

#[test]
fn a_fingerprint_changes_with_the_signature() {
    let print = |name: &str| info(&format!("versions::{name}::f")).fingerprint;
    assert_eq!(print("a"), print("body"));
    assert_ne!(print("a"), print("argument"));
    assert_ne!(print("a"), print("result"));
    assert_eq!(versions::a::f(3).here() + versions::body::f(3).here(), 3);
    assert_eq!(versions::argument::f(3).here() + versions::result::f(3).here() as u64, 0);
}

mod entry {
    use std::process::{ExitCode, Termination};

    // The attribute takes any name, as tokio's.
    #[crucial::main]
    fn plain() {}

    #[crucial::main]
    fn with_result() -> Result<(), String> {
        Err("it fails".to_owned())?;
        Ok(())
    }

    #[crucial::main]
    async fn waits() -> impl Termination {
        std::future::ready(ExitCode::from(3)).await
    }

    #[test]
    fn main_gives_an_exit_code() {
        assert_eq!(plain(), ExitCode::SUCCESS);
        assert_eq!(with_result(), ExitCode::FAILURE);
        assert_eq!(waits(), ExitCode::from(3));
    }
}

// The test runner finds each of these.
mod tests {
    use crucial::test;

    #[test]
    fn plain() {}

    #[test]
    #[should_panic(expected = "at the disco")]
    fn panics() {
        panic!("at the disco");
    }

    #[test]
    fn with_result() -> Result<(), String> {
        Ok(())
    }

    #[test]
    async fn waits() {
        std::future::ready(()).await;
    }

    #[test(modes(embedded, processes, server))]
    /// In all modes.
    fn in_modes() -> Result<(), String> {
        Ok(())
    }

    #[test(modes(embedded))]
    #[should_panic(expected = "at the disco")]
    async fn waits_in_modes() {
        panics_later().await;
    }

    async fn panics_later() {
        panic!("at the disco");
    }
}
