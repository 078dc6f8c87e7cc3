//! The metadata server of Google Cloud, as far as identity tokens need it.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::front::{header, message};

/// Gives a new token to each who asks in the right way, and status 403 to others.
pub struct Metadata {
    pub address: SocketAddr,
    /// What was given, in turn.
    tokens: Arc<Mutex<Vec<String>>>,
}

/// What is asked for.
const REQUEST: &str =
    "GET /computeMetadata/v1/instance/service-accounts/default/identity?audience=https://127.0.0.1 ";

impl Metadata {
    /// With tokens that end after this time.
    pub fn start(lifetime: Duration) -> Metadata {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let metadata = Metadata { address: listener.local_addr().unwrap(), tokens: Arc::default() };
        let tokens = metadata.tokens.clone();
        // It ends with the test process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let tokens = tokens.clone();
                thread::spawn(move || drop(serve(client, lifetime, &tokens)));
            }
        });
        metadata
    }

    /// The tokens that it gave.
    pub fn tokens(&self) -> Vec<String> {
        self.tokens.lock().unwrap().clone()
    }
}

fn serve(mut client: TcpStream, lifetime: Duration, tokens: &Mutex<Vec<String>>) -> io::Result<()> {
    while let Some(request) = message(&mut client)? {
        let is_right = request.starts_with(REQUEST.as_bytes())
            && header(&request, "metadata-flavor").as_deref() == Some("google");
        let (status, body) = if is_right {
            let mut tokens = tokens.lock().unwrap();
            let token = token(tokens.len(), lifetime);
            tokens.push(token.clone());
            (200, token)
        } else {
            (403, "forbidden".to_owned())
        };
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        client.write_all(answer.as_bytes())?;
    }
    Ok(())
}

/// A token that is unlike others, and signed by nobody.
fn token(number: usize, lifetime: Duration) -> String {
    let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + lifetime;
    let claims = format!(r#"{{"exp":{},"jti":"{number}"}}"#, end.as_secs());
    format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims))
}
