//! A Lambda function that does as its event says, well or badly.

use std::{process, time::Duration};

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda_runtime::run(service_fn(handle)).await
}

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let (event, context) = event.into_parts();
    match event["do"].as_str().unwrap_or_default() {
        "print" => println!("printed {}", event["text"]),
        "sleep" => tokio::time::sleep(Duration::from_millis(event["ms"].as_u64().unwrap_or_default())).await,
        "fail" => return Err("the disk is full".into()),
        "panic" => panic!("index out of range"),
        "exit" => process::exit(3),
        "allocate" => {
            let bytes = vec![1u8; usize::try_from(event["mib"].as_u64().unwrap_or_default())? << 20];
            tokio::time::sleep(Duration::from_secs(30)).await;
            println!("{}", bytes.len());
        }
        _ => {}
    }
    Ok(json!({
        "event": event,
        "request_id": context.request_id,
        "client": context.client_context.map(|client| client.custom),
    }))
}
