//! A node in the process that uses it.

use std::{
    sync::{Arc, Condvar, Mutex, OnceLock},
    task::Waker,
    time::Instant,
};

use crucial_runtime::{
    config::Config,
    dso::{BoxFuture, Dso, Head, Operation, OwnedRequest, Request},
    error::{Error, Result},
    id::{MemberId, RunId, ThreadId},
    run::{self, Embedded},
};

use crate::{
    cell::{Answer, Step},
    listener::Listener,
    node::{Local, Node, Origin},
};

crucial_runtime::support::inventory::submit! { Embedded { open } }

/// The process's own node, which all its runs share.
fn node(config: &Config) -> &'static Arc<Node> {
    static NODE: OnceLock<Arc<Node>> = OnceLock::new();
    NODE.get_or_init(|| Node::new(config))
}

fn open(config: &Arc<Config>, run: RunId, member: MemberId) -> Result<Arc<dyn Dso>> {
    let node = node(config).clone();
    node.start_run(run, member);
    Ok(Arc::new(OwnNode { node, run, config: config.clone() }))
}

/// The DSO layer of a run on the node of its own process.
struct OwnNode {
    node: Arc<Node>,
    run: RunId,
    config: Arc<Config>,
}

/// A caller that waits for a parked call.
#[derive(Default)]
struct Waiter {
    state: Mutex<Waiting>,
    answered: Condvar,
}

#[derive(Default)]
struct Waiting {
    answer: Option<Answer>,
    waker: Option<Waker>,
}

impl Local for Waiter {
    fn answer(&self, answer: Answer) {
        let mut state = self.state.lock().unwrap();
        state.answer = Some(answer);
        let waker = state.waker.take();
        drop(state);
        self.answered.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Waiter {
    /// Waits for the answer; none if it is not there at `deadline`.
    fn wait(&self, deadline: Option<Instant>) -> Option<Answer> {
        let mut state = self.state.lock().unwrap();
        loop {
            if let Some(answer) = state.answer.take() {
                return Some(answer);
            }
            state = match deadline {
                None => self.answered.wait(state).unwrap(),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    self.answered.wait_timeout(state, left).unwrap().0
                }
            };
        }
    }

    fn poll(&self, waker: &Waker) -> Option<Answer> {
        let mut state = self.state.lock().unwrap();
        let answer = state.answer.take();
        if answer.is_none() {
            state.waker = Some(waker.clone());
        }
        answer
    }
}

impl OwnNode {
    fn begin(&self, head: &Head, args: &[u8], waiter: &mut Option<Arc<Waiter>>, out: &mut Vec<u8>) -> Step {
        if head.operation != Operation::Call {
            return Step::Done(self.node.administer(head, self.run, args, out));
        }
        let origin = || Origin::Local(waiter.insert(Arc::default()).clone());
        self.node.call_local(head, args, origin, out)
    }
}

impl Dso for OwnNode {
    fn call(&self, request: Request<'_>, decode: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut out = Vec::new();
        let mut waiter = None;
        match self.begin(&request.head, request.args(), &mut waiter, &mut out) {
            Step::Done(result) => result?,
            Step::Parked => {
                let waiter = waiter.expect("a parked call has an origin");
                let deadline = request.timeout.map(|timeout| Instant::now() + timeout);
                let answer = waiter.wait(deadline).unwrap_or_else(|| {
                    let origin: Arc<dyn Local> = waiter.clone();
                    self.node.withdraw_local(request.head.object, &Origin::Local(origin));
                    // Withdrawn, or its answer came in the meantime: one of both is there now, or will be soon.
                    waiter.wait(None).expect("a wait without a deadline has an answer")
                });
                out = answer.map_err(|error| match error {
                    Error::Withdrawn => request.timed_out(),
                    error => error,
                })?;
            }
        }
        decode(&out);
        Ok(())
    }

    fn call_async(&self, mut request: OwnedRequest) -> BoxFuture<'static, Result<Vec<u8>>> {
        let mut out = Vec::new();
        let mut waiter = None;
        let timeout = request.timeout;
        let borrowed = request.borrow();
        let step = self.begin(&borrowed.head, borrowed.args(), &mut waiter, &mut out);
        match step {
            Step::Done(result) => Box::pin(std::future::ready(result.map(|()| out))),
            Step::Parked => {
                let waiter = waiter.expect("a parked call has an origin");
                let object = request.head.object;
                let mut parked = Parked { node: self.node.clone(), object, waiter, over: false };
                Box::pin(async move {
                    let answer = match timeout {
                        None => (&mut parked).await,
                        Some(timeout) => {
                            let sleep = {
                                let _io = run::io().enter();
                                tokio::time::sleep(timeout)
                            };
                            let answered = tokio::select! {
                                biased;
                                answer = &mut parked => Some(answer),
                                () = sleep => None,
                            };
                            match answered {
                                Some(answer) => answer,
                                None => {
                                    parked.withdraw();
                                    (&mut parked).await
                                }
                            }
                        }
                    };
                    answer.map_err(|error| match error {
                        Error::Withdrawn => request.borrow().timed_out(),
                        error => error,
                    })
                })
            }
        }
    }

    fn addresses(&self) -> Result<Vec<String>> {
        // All runs of the process share the node, so they share its socket.
        static ADDRESS: OnceLock<Result<String>> = OnceLock::new();
        let address = ADDRESS.get_or_init(|| {
            let (node, config) = (self.node.clone(), self.config.clone());
            run::block_on(async move {
                let handle = run::io();
                let listener = handle
                    .spawn(async move { Listener::bind(node, "127.0.0.1:0", &config).await })
                    .await
                    .expect("no panic")?;
                let address =
                    listener.address().map_err(|e| Error::io("asking for the server's address", &e))?;
                handle.spawn(listener.serve());
                Ok(address.to_string())
            })
        });
        Ok(vec![address.clone()?])
    }

    fn attend(&self, _: ThreadId) {
        // A cloud thread of this process ends with it, as does the node.
    }

    fn end_run(&self) {
        self.node.end_run(self.run);
    }
}

/// A parked async call. Dropping it takes the call back.
struct Parked {
    node: Arc<Node>,
    object: crucial_runtime::id::ObjectId,
    waiter: Arc<Waiter>,
    over: bool,
}

impl Parked {
    fn withdraw(&self) {
        let origin: Arc<dyn Local> = self.waiter.clone();
        self.node.withdraw_local(self.object, &Origin::Local(origin));
    }
}

impl Future for Parked {
    type Output = Answer;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Answer> {
        match self.waiter.poll(cx.waker()) {
            Some(answer) => {
                self.over = true;
                std::task::Poll::Ready(answer)
            }
            None => std::task::Poll::Pending,
        }
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        if !self.over {
            self.withdraw();
        }
    }
}
