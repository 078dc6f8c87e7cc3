use std::{
    future::{self, Future},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
    task::unconstrained,
};

/// A place in the queue for a slot. It fails when the semaphore is closed.
pub type Turn = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// Joins the queue for a slot now: first come, first served. A semaphore's own future joins when it is first polled,
/// so tasks that are spawned one after the other would join in any order.
#[must_use]
pub fn turn(slots: &Arc<Semaphore>) -> Turn {
    let mut turn = Box::pin(unconstrained(slots.clone().acquire_owned()));
    match turn.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(slot) => Box::pin(future::ready(slot)),
        Poll::Pending => turn,
    }
}
