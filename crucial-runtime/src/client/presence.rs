//! A process's presence in a cluster: a connection to every node.
//!
//! Each node sees by it that the process is alive, also one that it has never called: it may be the next to lead a
//! partition where the process holds a lock. In return the process hears from the nodes where objects are.

use std::{
    collections::HashSet,
    io,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Link, routes::NodeId};
use crate::{
    id::{self, SessionId},
    net::Stream,
    run, wire,
};

/// How often each node is asked for its map.
const OFTEN: Duration = Duration::from_millis(500);
/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Keeps the process present as long as the link is there.
pub(super) fn start(link: &Arc<Link>) {
    let link = Arc::downgrade(link);
    run::own().spawn(async move {
        let present = Arc::new(Mutex::new(HashSet::new()));
        loop {
            let Some(nodes) = link.upgrade().map(|link| link.routes.nodes()) else { return };
            for node in nodes {
                if present.lock().unwrap().insert(node) {
                    let (link, present) = (link.clone(), present.clone());
                    tokio::spawn(async move {
                        // An error ends this connection; as long as the node is on the map, there is another one.
                        let _ = stay(link, node).await;
                        present.lock().unwrap().remove(&node);
                    });
                }
            }
            tokio::time::sleep(OFTEN).await;
        }
    });
}

async fn stay(link: Weak<Link>, node: NodeId) -> io::Result<()> {
    let mut stream = {
        let Some(link) = link.upgrade() else { return Ok(()) };
        link.reach_node(node, SessionId(id::fresh())).await.map_err(io::Error::other)?.0
    };
    loop {
        let frame = tokio::time::timeout(PATIENCE, ask(&mut stream)).await.map_err(io::Error::other)??;
        let answer = wire::parse_answer(&frame).map_err(io::Error::other)?;
        let Some(link) = link.upgrade() else { return Ok(()) };
        if let Some(elsewhere) = answer.elsewhere().map_err(io::Error::other)? {
            link.routes.learn(&elsewhere.map);
        }
        drop(link);
        tokio::time::sleep(OFTEN).await;
    }
}

async fn ask(stream: &mut Stream) -> io::Result<Vec<u8>> {
    stream.write_all(&wire::map_frame()).await?;
    stream.flush().await?;
    let length = stream.read_u32_le().await? as usize;
    if length > wire::GREETING_LIMIT {
        return Err(io::Error::other("a map is not that long"));
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}
