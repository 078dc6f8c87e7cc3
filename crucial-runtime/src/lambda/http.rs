//! An HTTP/1.1 server for one listener, and answers in JSON.

use std::{convert::Infallible, pin::pin, rc::Rc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

pub(crate) type Reply = Response<Full<Bytes>>;

/// Answers every request on every connection. When the sender of `closing` is dropped, it takes no more and
/// returns when those that have come are answered.
pub(crate) async fn serve<F>(
    listener: TcpListener,
    mut closing: watch::Receiver<()>,
    handle: impl Fn(Request<Incoming>) -> F + 'static,
) where
    F: Future<Output = Reply> + 'static,
{
    let handle = Rc::new(handle);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.changed() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn_local(converse(stream, closing.clone(), handle.clone()));
            }
            Err(error) => {
                // The peer gave up, or this process has no descriptor left: wait for one.
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    drop(listener);
    connections.join_all().await;
}

/// Answers every request on one connection.
async fn converse<F>(
    stream: TcpStream,
    mut closing: watch::Receiver<()>,
    handle: Rc<impl Fn(Request<Incoming>) -> F + 'static>,
) where
    F: Future<Output = Reply> + 'static,
{
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let reply = handle(request);
        async move { Ok::<_, Infallible>(reply.await) }
    });
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        _ = closing.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection ended");
    }
}

/// An answer with a JSON body.
pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// A body that was read.
#[derive(Debug)]
pub(crate) enum Body {
    Whole(Bytes),
    /// It has more bytes than allowed; they were read, so that the peer gets to read the answer.
    TooLarge,
    /// The connection broke.
    Broken,
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn read(body: Incoming, limit: usize) -> Body {
    let mut body = body;
    let mut whole: Vec<u8> = Vec::new();
    let mut first: Option<Bytes> = None;
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Body::Broken };
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length > limit {
            (whole, first) = (Vec::new(), None);
        } else if !whole.is_empty() {
            whole.extend_from_slice(&data);
        } else if let Some(head) = first.take() {
            whole.reserve(hyper::body::Body::size_hint(&body).lower() as usize + length);
            whole.extend_from_slice(&head);
            whole.extend_from_slice(&data);
        } else {
            // A small body is one piece and isn't copied.
            first = Some(data);
        }
    }
    if length > limit {
        return Body::TooLarge;
    }
    Body::Whole(first.unwrap_or_else(|| whole.into()))
}
