//! A plain function under the `lambda_runtime` crate that behaves as its event asks, well or badly.
//!
//! It knows nothing of the service that starts it, except in the modes that say so. The tests of the local
//! Lambda service use it; run it under that service or deploy it.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process,
    time::Duration,
};

use crucial_runtime::lambda::{Function, InvokeOptions, LocalLambda, die_with_parent};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    match env::args().nth(1).as_deref() {
        None => {}
        Some("exit-at-once") => {
            println!("about to give up");
            eprint!("no configuration");
            process::exit(7);
        }
        Some("init-error") => {
            let body = r#"{"errorType":"Runtime.NoConfig","errorMessage":"there is no configuration"}"#;
            let (status, ..) = request("POST", "init/error", body);
            println!("reported: {status}");
            process::exit(1);
        }
        Some("never-ready") => std::thread::sleep(Duration::from_secs(3600)),
        Some("raw") => raw(),
        Some("deaf") => deaf(),
        Some("dawdle") => dawdle(),
        Some("tied") => die_with_parent(),
        Some("host") => host().await?,
        Some(other) => return Err(format!("there is no mode {other}").into()),
    }
    lambda_runtime::run(service_fn(handle)).await
}

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let (event, context) = event.into_parts();
    let number = |key: &str| event[key].as_u64().unwrap_or_default();
    match event["do"].as_str().unwrap_or_default() {
        "print" => {
            println!("to stdout");
            eprintln!("to stderr");
        }
        "flood" => {
            for line in 0..number("lines") {
                println!("line {line} of a log that is longer than what is kept of it");
            }
        }
        "sleep" => tokio::time::sleep(Duration::from_millis(number("ms"))).await,
        "exit" => {
            println!("last words on stdout");
            eprint!("last words on stderr, cut o");
            process::exit(number("code") as i32);
        }
        "abort" => process::abort(),
        "panic" => panic!("as asked"),
        "fail" => return Err("as asked".into()),
        "allocate" => {
            let bytes = vec![1u8; (number("mib") << 20) as usize];
            tokio::time::sleep(Duration::from_millis(number("ms"))).await;
            println!("{}", bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>());
        }
        "answer" => return Ok(Value::String("x".repeat(number("bytes") as usize))),
        "exit-later" => {
            std::thread::spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                process::exit(0);
            });
        }
        _ => {}
    }
    Ok(json!({
        "pid": process::id(),
        "event": event,
        "request_id": context.request_id,
        "deadline": context.deadline,
        "arn": context.invoked_function_arn,
        "trace": context.xray_trace_id,
        "client": context.client_context.map(|client| client.custom),
        "memory": context.env_config.memory,
        "version": context.env_config.version,
        "log_group": context.env_config.log_group,
        "setting": env::var("SETTING").ok(),
    }))
}

/// Speaks the Runtime API by hand, and not as it should.
fn raw() -> ! {
    let (_, id, _) = request("GET", "invocation/next", "");
    let mut seen = vec![request("POST", "invocation/8476a536-e9f4-11e8-9739-2dfe598c3fcd/response", "0").0];
    seen.push(request("GET", "invocation/next", "").0);
    seen.push(request("POST", "init/error", "{}").0);
    seen.push(request("POST", &format!("invocation/{id}/response"), "\"first\"").0);
    seen.push(request("POST", &format!("invocation/{id}/response"), "\"again\"").0);
    seen.push(request("POST", &format!("invocation/{id}/error"), "{}").0);
    seen.push(request("GET", "invocation/nonsense", "").0);
    loop {
        let (_, id, _) = request("GET", "invocation/next", "");
        request("POST", &format!("invocation/{id}/response"), &json!(seen).to_string());
    }
}

/// Answers once, asks for more, and hangs up without waiting for it.
fn deaf() -> ! {
    let (_, id, _) = request("GET", "invocation/next", "");
    request("POST", &format!("invocation/{id}/response"), &process::id().to_string());
    drop(send("GET", "invocation/next", ""));
    println!("hung up");
    loop {
        std::thread::park();
    }
}

/// Takes its time between an answer and the next request for work.
fn dawdle() -> ! {
    loop {
        let (_, id, _) = request("GET", "invocation/next", "");
        request("POST", &format!("invocation/{id}/response"), &process::id().to_string());
        std::thread::sleep(Duration::from_secs(2));
        println!("asks");
    }
}

/// Status, request id and body of an answer.
fn request(method: &str, path: &str, body: &str) -> (u16, String, String) {
    let mut reader = BufReader::new(send(method, path, body));
    let mut line = String::new();
    reader.read_line(&mut line).expect("an answer");
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let mut id = String::new();
    loop {
        line.clear();
        reader.read_line(&mut line).expect("headers");
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("lambda-runtime-aws-request-id: ") {
            id = value.trim().to_owned();
        }
    }
    let mut body = String::new();
    reader.read_to_string(&mut body).expect("a body");
    (status, id, body)
}

/// The connection on which the answer will come.
fn send(method: &str, path: &str, body: &str) -> TcpStream {
    let api = env::var("AWS_LAMBDA_RUNTIME_API").expect("started as a function");
    let mut stream = TcpStream::connect(&api).expect("the Runtime API is there");
    let length = body.len();
    write!(
        stream,
        "{method} /2018-06-01/runtime/{path} HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .expect("the Runtime API listens");
    stream
}

/// Hosts a service with one instance of this program that ends with it, and says which.
async fn host() -> Result<(), Error> {
    let function = Function { args: vec!["tied".into()], ..Function::new("tied", env::current_exe()?) };
    let lambda = LocalLambda::start(function, |_| {}).await?;
    let invocation = lambda.invoke("{}".into(), InvokeOptions::default()).await?;
    let answer: Value = serde_json::from_slice(&invocation.payload)?;
    println!("{}", answer["pid"]);
    std::future::pending().await
}
