//! The data plane's client side.
use crate::{
    config::Config,
    dso::*,
    error::{Error, Result},
    id::RunId,
};
use std::sync::Arc;

/// How a process takes part in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It started the run.
    Root,
    /// It works for a run that another process started.
    Member,
}
/// The DSO layer on a server, behind sockets.
#[derive(Debug)]
pub struct Remote;
impl Remote {
    /// Connects.
    pub fn connect(_c: &Arc<Config>, _s: &[String], _id: RunId, _p: Part) -> Result<Self> {
        Err(Error::NoRun)
    }
}
impl Dso for Remote {
    fn call(&self, _r: Request<'_>, _d: &mut dyn FnMut(&[u8])) -> Result<()> {
        Err(Error::NoRun)
    }
    fn call_async(&self, _r: OwnedRequest) -> BoxFuture<'static, Result<Vec<u8>>> {
        Box::pin(async { Err(Error::NoRun) })
    }
    fn addresses(&self) -> Result<Vec<String>> {
        Ok(vec![])
    }
    fn end_run(&self) {}
}
