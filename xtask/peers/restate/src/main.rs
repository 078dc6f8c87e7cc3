//! A virtual object of Restate that holds a block of bytes. Serves at the port that its argument names.

use std::{env, net::Ipv4Addr};

use restate_sdk::prelude::*;

struct Block;

#[object]
impl Block {
    #[handler]
    async fn set(&self, context: ObjectContext<'_>, bytes: Vec<u8>) -> Result<(), TerminalError> {
        context.set("bytes", bytes);
        Ok(())
    }

    #[handler]
    async fn get(&self, context: SharedObjectContext<'_>) -> Result<Vec<u8>, TerminalError> {
        Ok(context.get::<Vec<u8>>("bytes").await?.unwrap_or_default())
    }
}

#[tokio::main]
async fn main() {
    let port: u16 = env::args().nth(1).and_then(|port| port.parse().ok()).expect("the argument is a port");
    let endpoint = Endpoint::builder().bind(Block).build();
    HttpServer::new(endpoint).listen_and_serve((Ipv4Addr::LOCALHOST, port).into()).await;
}
