//! Functions in processes on this machine: a local implementation of AWS Lambda's [Invoke API] and
//! [Runtime API].
//!
//! [`LocalLambda`] starts a program as function instances and hands invocations to them. Any program that runs
//! under the `lambda_runtime` crate will do, or under any other client of the Runtime API; any client of the
//! Invoke API can call, the AWS SDKs among them. So the code that runs in the cloud runs here unchanged, with
//! real processes that start cold, are reused, time out, crash, and run out of memory.
//!
//! What is like Lambda: one invocation at a time in an instance, cold starts and reuse of the most recently
//! used instance, limits on concurrency, time, memory and sizes, the form of errors, logs, headers and
//! environment variables. What isn't: instances aren't frozen between invocations, they see this machine's
//! file system and the environment of the process that started the service, asynchronous invocations aren't
//! retried when the function fails, an invocation can be stopped by its caller, and memory is watched rather
//! than confined, so it can go over the limit for some milliseconds.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use crucial_runtime::lambda::{Function, InvokeOptions, LocalLambda};
//!
//! let function = Function { concurrency: 8, ..Function::new("work", "target/debug/work") };
//! let lambda = LocalLambda::start(function, |line| eprintln!("[{}] {}", line.instance, line.line)).await?;
//! let answer = lambda.invoke(r#"{"n": 7}"#.into(), InvokeOptions::default()).await?;
//! println!("{}", String::from_utf8_lossy(&answer.payload));
//! lambda.shutdown().await;
//! # Ok(()) }
//! ```
//!
//! [Invoke API]: https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
//! [Runtime API]: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

// Decisions, without I/O or clocks.
mod error;
mod exit;
mod function;
mod invocation;
mod log;
mod pool;

// The edges.
mod client;
mod clock;
mod http;
mod instance;
mod invoke_api;
mod memory;
mod output;
mod parent;
mod runtime_api;
mod service;
mod spawn;

#[cfg(feature = "tls")]
pub(crate) use self::client::connector;
pub(crate) use self::{
    client::{CLIENT, chain},
    clock::request_id,
    http::{Body, Reply, json, read, serve},
    log::Figures,
};
pub use self::{
    client::{invoke_http, stop_http},
    error::InvokeError,
    function::Function,
    invocation::{ErrorDocument, FunctionError, Invocation, InvokeOptions},
    log::{GB_SECOND, REQUEST},
    output::{MAX_LINE, OutputLine, OutputStream},
    parent::{PARENT_VARIABLE, die_with_parent},
    service::LocalLambda,
};
