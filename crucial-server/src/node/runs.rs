//! How runs, their processes and their sessions come and go.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use crucial_runtime::{
    error::{Error, Result},
    holder::Lost,
    id::{MemberId, RunId},
    reference::Lifetime,
    wire::{self, Hello, Welcome},
};

use super::{Client, Link, Node, Origin, Overdue, Slot};

impl Node {
    /// Registers a run of this process.
    pub(crate) fn start_run(&self, run: RunId, member: MemberId) {
        let now = Instant::now();
        let mut runs = self.runs.lock().unwrap();
        runs.start(run, (), now);
        runs.attach(run);
        self.members.lock().unwrap().attach(member, run, now);
    }

    /// Accepts a connection, or says why not. [`Node::close`] has to follow.
    pub(crate) fn open(&self, hello: &Hello, link: Arc<dyn Link>) -> Result<(Arc<Client>, Welcome)> {
        if hello.version != wire::VERSION {
            return Err(Error::Refused {
                reason: format!(
                    "this server speaks version {} of the protocol, the client version {}: redeploy, so that both \
                     run the same build",
                    wire::VERSION,
                    hello.version
                ),
            });
        }
        let lost = |reason: &str| Error::StateLost {
            object: format!("run {}", hello.run),
            reason: reason.to_owned(),
        };
        let cluster = self.cluster.get();
        if cluster.is_none() && hello.node.is_some_and(|node| node != self.incarnation) {
            return Err(lost("the server was started again, and it keeps objects in memory only"));
        }
        let mut runs = self.runs.lock().unwrap();
        // In a cluster a run is on all nodes: which of its processes comes here first, nobody knows.
        if hello.starts_run || cluster.is_some() && !self.ended.lock().unwrap().contains(hello.run) {
            runs.start(hello.run, (), Instant::now());
        }
        if !runs.attach(hello.run) {
            return Err(lost("the run has ended, or had no connection for longer than its lease"));
        }
        drop(runs);
        self.members.lock().unwrap().attach(hello.member, hello.run, Instant::now());
        let mut sessions = self.sessions.lock().unwrap();
        let resumed = sessions.contains_key(&hello.session);
        let place = cluster.map(|cluster| cluster.place());
        // The client that starts a run has not heard of an epoch yet.
        let begins = place.as_ref().filter(|_| hello.starts_run).map(|place| place.map.epoch);
        let since = begins.unwrap_or(hello.since);
        let new = || Arc::new(Client::new(hello.session, hello.run, hello.member, since, self.limits.frame));
        let client = sessions.entry(hello.session).or_insert_with(new).clone();
        drop(sessions);
        let mut state = client.lock();
        // Invariant: answers go to the connection that the client opened last. One that it has given up may be accepted
        // after it, since clients wait while a node starts.
        if hello.connection >= state.connection {
            state.link = Some(link);
            state.connection = hello.connection;
            state.lost = None;
        }
        drop(state);
        let welcome =
            Welcome { node: self.incarnation, resumed, frame_limit: self.limits.frame, cluster: place };
        Ok((client, welcome))
    }

    /// A connection is gone. Its session can be resumed for the length of the lease.
    pub(crate) fn close(&self, client: &Client, link: &Arc<dyn Link>) {
        self.members.lock().unwrap().detach(client.member, Instant::now());
        let mut runs = self.runs.lock().unwrap();
        runs.detach(client.run, Instant::now());
        let ended = !runs.contains(client.run);
        drop(runs);
        let mut state = client.lock();
        // A new connection may have taken over already.
        if state.link.as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
            state.link = None;
            state.lost = Some(Instant::now());
            drop(state);
            if ended {
                self.sessions.lock().unwrap().remove(&client.id);
            }
        }
    }

    /// Ends what has outlived its lease. Called now and then.
    pub fn expire(&self) {
        let now = Instant::now();
        let over = self.runs.lock().unwrap().expire(now);
        for (run, ()) in over {
            tracing::info!(%run, "the lease of a run is over");
            self.drop_run(run);
        }
        let lost = self.members.lock().unwrap().expire(now);
        self.lose(&Lost::new(lost));
        let over = |lost: Instant| now.duration_since(lost) >= self.lease;
        for client in self.take_sessions(|client| client.lock().lost.is_some_and(over)) {
            self.drop_session(&client);
        }
        let Overdue { clients, members } = std::mem::take(&mut *self.overdue.lock().unwrap());
        clients.iter().for_each(|client| self.drop_session(client));
        self.take_back_ephemeral(&Lost::new(members));
    }

    /// Ends a run and its ephemeral objects.
    pub(crate) fn end_run(&self, run: RunId) {
        if self.runs.lock().unwrap().end(run).is_some() {
            self.drop_run(run);
        }
    }

    fn drop_run(&self, run: RunId) {
        if self.cluster.get().is_some() {
            self.ended.lock().unwrap().insert(run);
        }
        let mut gone = Vec::new();
        for partition in &self.partitions {
            let mut objects = partition.objects.write().unwrap();
            let ended = |slot: &Slot| slot.lifetime == Lifetime::Ephemeral && slot.run == run;
            gone.extend(objects.extract_if(|_, slot| ended(slot)).map(|(_, slot)| slot));
            // A table that was large once gives its memory back.
            if objects.capacity() > 4 * objects.len() + 1024 {
                objects.shrink_to_fit();
            }
        }
        self.objects.fetch_sub(gone.len() as u64, Ordering::Relaxed);
        for slot in gone {
            slot.close();
        }
        // What they hold of persistent objects, others wait for.
        let members = self.members.lock().unwrap().end(run);
        self.take_back(&Lost::new(members));
        self.sessions.lock().unwrap().retain(|_, client| client.run != run || client.lock().link.is_some());
    }

    /// Takes out the sessions that are over.
    fn take_sessions(&self, over: impl Fn(&Client) -> bool) -> Vec<Arc<Client>> {
        let mut sessions = self.sessions.lock().unwrap();
        sessions.extract_if(|_, client| over(client)).map(|(_, client)| client).collect()
    }

    /// A client that is gone does not take what its parked calls wait for.
    fn drop_session(&self, client: &Arc<Client>) {
        tracing::debug!(session = ?client.id, "the lease of a session is over");
        let running = client.lock().session.running();
        let mut overdue = false;
        for (seq, object) in running {
            let Some(slot) = self.slot(object) else { continue };
            match self.stay(object) {
                Ok(_staying) => slot.withdraw(&Origin::Session(client.clone(), seq)),
                Err(_) => overdue = true,
            }
        }
        if overdue {
            self.overdue.lock().unwrap().clients.push(client.clone());
        }
    }

    /// Ends the part of lost processes. What they asked for is withdrawn before what they held is taken back: else it
    /// could be given to another of them.
    pub(super) fn lose(&self, lost: &Lost) {
        if lost.members().is_empty() {
            return;
        }
        for client in self.take_sessions(|client| lost.members().binary_search(&client.member).is_ok()) {
            let mut state = client.lock();
            state.session.close();
            let link = state.link.take();
            drop(state);
            self.drop_session(&client);
            if let Some(link) = link {
                link.close();
            }
        }
        self.take_back(lost);
    }

    /// Tells the objects that these processes are lost.
    fn take_back(&self, lost: &Lost) {
        if lost.members().is_empty() {
            return;
        }
        tracing::debug!(?lost, "processes are lost");
        if let Some(cluster) = self.cluster.get() {
            cluster.lose(&lost.to_args());
        }
        self.take_back_ephemeral(lost);
    }

    fn take_back_ephemeral(&self, lost: &Lost) {
        if lost.members().is_empty() {
            return;
        }
        let args = lost.to_args();
        let mut overdue = false;
        for partition in &self.partitions {
            let slots: Vec<_> = {
                let objects = partition.objects.read().unwrap();
                let holding = objects.iter().filter(|(_, slot)| slot.info.lost.is_some());
                holding.map(|(id, slot)| (*id, slot.clone())).collect()
            };
            for (id, slot) in slots {
                match self.stay(id) {
                    Ok(_staying) => slot.take_back(&args, self.context()),
                    Err(_) => overdue = true,
                }
            }
        }
        if overdue {
            self.overdue.lock().unwrap().members.extend(lost.members());
        }
    }
}
