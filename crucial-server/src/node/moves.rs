//! How a node takes part in a cluster: which clients it knows, and how ephemeral objects move to another node.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use crucial_runtime::{
    codec,
    error::Result,
    id::{MemberId, ObjectId, RunId, SessionId},
    object,
    reference::Lifetime,
    wire::{self, Elsewhere},
};
use serde::{Deserialize, Serialize};

use super::{Client, Decline, Node, Origin, Others, Slot};
use crate::{
    cell::{self, Cell},
    members::Known,
    session::{Begin, Session},
    workers::Pace,
};

impl Client {
    pub(crate) fn id(&self) -> SessionId {
        self.id
    }

    pub(crate) fn member(&self) -> MemberId {
        self.member
    }

    pub(crate) fn begin(&self, seq: u64, ack: u64, object: ObjectId) -> Result<Begin> {
        self.lock().session.begin(seq, ack, object)
    }

    /// The call will be answered by another node: its client sends it there.
    pub(crate) fn send_elsewhere(&self, seq: u64, elsewhere: &Elsewhere) {
        let mut frame = Vec::new();
        wire::elsewhere_answer(&mut frame, seq, &Elsewhere { begun: true, ..elsewhere.clone() });
        let mut state = self.lock();
        state.session.forget(seq);
        let link = state.link.clone();
        drop(state);
        if let Some(link) = link {
            link.push(&frame);
            link.flush();
        }
    }
}

/// The ephemeral objects of a partition on their way to another node.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Luggage {
    objects: Vec<Packed>,
    /// With their runs, processes, and epochs.
    sessions: Vec<(SessionId, RunId, MemberId, u64, Session)>,
    /// The processes that may hold something of the objects.
    members: Known,
}

#[derive(Debug, Serialize, Deserialize)]
struct Packed {
    id: ObjectId,
    type_name: String,
    key: String,
    run: RunId,
    cell: cell::Image<(SessionId, u64)>,
}

impl Node {
    /// Keeps clients waiting until the node knows its cluster.
    pub(crate) fn await_cluster(&self) {
        self.ready.send_replace(false);
    }

    /// Answers other nodes in this way, since this one belongs to no cluster; or has them wait until it does.
    pub(crate) fn decline(&self, decline: Option<Decline>) {
        *self.decline.lock().unwrap() = decline;
        self.ready.send_modify(|_| ());
    }

    /// Makes this node one of several.
    pub(crate) fn join(&self, cluster: Arc<dyn Others>) {
        let _ = self.cluster.set(cluster);
        // Other nodes may wait for this.
        self.ready.send_modify(|_| ());
    }

    /// The node knows its cluster.
    pub(crate) fn joined(&self) {
        self.ready.send_replace(true);
    }

    /// Identifies this start of the node.
    #[must_use]
    pub fn incarnation(&self) -> u128 {
        self.incarnation
    }

    /// How long what isn't connected is kept.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// Whether a session, or else its process, is connected, or was a lease ago.
    pub(crate) fn knows(&self, session: SessionId, member: MemberId) -> (bool, bool) {
        (self.sessions.lock().unwrap().contains_key(&session), self.members.lock().unwrap().contains(member))
    }

    fn ephemeral(&self, belongs: impl Fn(ObjectId) -> bool) -> Vec<(ObjectId, Arc<Slot>)> {
        let mut slots = Vec::new();
        for partition in &self.partitions {
            let objects = partition.objects.read().unwrap();
            let here =
                objects.iter().filter(|(id, slot)| slot.lifetime == Lifetime::Ephemeral && belongs(**id));
            slots.extend(here.map(|(id, slot)| (*id, slot.clone())));
        }
        slots
    }

    /// Packs the ephemeral objects to which this applies. Nobody may call them meanwhile.
    pub(crate) fn pack(&self, belongs: impl Fn(ObjectId) -> bool) -> Result<Vec<u8>> {
        let mut luggage = Luggage::default();
        for (id, slot) in self.ephemeral(&belongs) {
            let origin = |origin: &Origin| match origin {
                Origin::Session(client, seq) => (client.id, *seq),
                Origin::Local(_) => unreachable!("a node of a cluster is no embedded one"),
            };
            let cell = slot.cell.read().unwrap().image(origin)?;
            let type_name = slot.info.name.to_owned();
            luggage.objects.push(Packed { id, type_name, key: slot.key.to_string(), run: slot.run, cell });
        }
        let clients: Vec<_> = self.sessions.lock().unwrap().values().cloned().collect();
        for client in clients {
            if let Some(part) = client.lock().session.part(&belongs) {
                luggage.sessions.push((client.id, client.run, client.member, client.since, part));
            }
        }
        // After the objects: one of these that is lost meanwhile could not take anything back any more.
        let runs = luggage.objects.iter().map(|packed| packed.run).collect();
        luggage.members = self.members.lock().unwrap().known(&runs);
        let mut bytes = Vec::new();
        codec::encode("objects that move", &luggage, &mut bytes)?;
        Ok(bytes)
    }

    /// Whether something of a run can come here: not when the run has ended. It goes on here from now on.
    fn takes(&self, run: RunId, now: Instant) -> bool {
        let ended = self.ended.lock().unwrap().contains(run);
        if !ended {
            self.runs.lock().unwrap().start(run, (), now);
        }
        !ended
    }

    /// Takes in what another node has packed.
    pub(crate) fn unpack(&self, luggage: &[u8]) -> Result<()> {
        let luggage: Luggage = codec::decode("objects that move", luggage)?;
        let now = Instant::now();
        for (id, run, member, since, part) in luggage.sessions {
            if !self.takes(run, now) {
                continue;
            }
            let mut sessions = self.sessions.lock().unwrap();
            let new = || {
                let client = Client::new(id, run, member, since, self.limits.frame);
                client.lock().lost = Some(now);
                Arc::new(client)
            };
            let client = sessions.entry(id).or_insert_with(new).clone();
            drop(sessions);
            client.lock().session.merge(part);
        }
        for Packed { id, type_name, key, run, cell } in luggage.objects {
            if !self.takes(run, now) {
                continue;
            }
            let info = object::lookup(&type_name)?;
            let key: Arc<str> = key.into();
            let sessions = self.sessions.lock().unwrap();
            let cell = cell.map_origins(|(session, seq)| {
                sessions.get(&session).map(|client| Origin::Session(client.clone(), seq))
            });
            drop(sessions);
            let cell = Cell::restore(info, key.clone(), cell, self.limits.parked)?;
            let slot = Slot::new(info, key, Pace::of(info), Lifetime::Ephemeral, run, cell);
            if self.partition(id).objects.write().unwrap().insert(id, Arc::new(slot)).is_none() {
                self.objects.fetch_add(1, Ordering::Relaxed);
            }
        }
        let lost = self.members.lock().unwrap().learn(luggage.members, now);
        self.overdue.lock().unwrap().members.extend(lost);
        Ok(())
    }

    /// Lets go of the ephemeral objects to which this applies: they are on another node. The calls that wait at them go
    /// there, too.
    pub(crate) fn let_go(&self, belongs: impl Fn(ObjectId) -> bool, elsewhere: &Elsewhere) {
        for (id, slot) in self.ephemeral(&belongs) {
            if self.partition(id).objects.write().unwrap().remove(&id).is_some() {
                self.objects.fetch_sub(1, Ordering::Relaxed);
            }
            let mut released = Vec::new();
            slot.cell.write().unwrap().close(&mut released);
            for (origin, _) in released {
                if let Origin::Session(client, seq) = origin {
                    client.send_elsewhere(seq, elsewhere);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crucial_macros::shared;
    use std::sync::{Mutex, RwLockReadGuard};

    use crucial_runtime::{
        config::Config,
        dso::{BoxFuture, Create, HEADROOM, Head, Operation},
        error::Error,
        holder::{Holder, Lost},
        net::Stream,
        object,
        wire::{Hello, Incoming, Place, Plane},
    };

    use super::*;
    use crate::{
        cell::Step,
        node::{ClusterStatus, Link, TypeStatus, gate::Gate},
    };

    /// What one process at a time has.
    #[shared]
    pub struct Chair {
        sitter: Option<Holder>,
    }

    #[shared]
    impl Chair {
        pub fn new() -> Self {
            Chair { sitter: None }
        }

        #[when(self.sitter.is_none())]
        pub fn sit(&mut self, sitter: Holder) {
            self.sitter = Some(sitter);
        }

        pub fn is_free(&self) -> bool {
            self.sitter.is_none()
        }

        #[lost]
        fn leave(&mut self, lost: &Lost) {
            self.sitter = self.sitter.filter(|sitter| !lost.includes(*sitter));
        }
    }

    const RUN: RunId = RunId(1);
    const SITTER: MemberId = MemberId(10);
    const OTHER: MemberId = MemberId(11);
    const CHAIR: ObjectId = ObjectId(2);

    /// A node on which the run is present. What isn't connected is lost at once.
    fn node() -> Arc<Node> {
        let mut config = Config::default();
        config.lease = Duration::ZERO;
        let node = Node::new(&config);
        node.start_run(RUN, OTHER);
        node
    }

    fn head(operation: Operation, method: &str) -> Head {
        let info = object::lookup(&format!("{}::Chair", module_path!())).unwrap();
        let method = info.methods.iter().position(|m| m.name == method).unwrap_or(0) as u16;
        Head { operation, object: CHAIR, tag: info.tag, method }
    }

    fn call(node: &Node, operation: Operation, method: &str, args: &[u8]) -> Vec<u8> {
        let head = head(operation, method);
        let mut out = Vec::new();
        if operation == Operation::Call {
            let origin = || unreachable!("nothing waits");
            assert_eq!(node.call_local(&head, args, origin, &mut out), Step::Done(Ok(())));
        } else {
            node.administer(&head, RUN, args, &mut out).unwrap();
        }
        out
    }

    fn encode(args: &impl Serialize) -> Vec<u8> {
        let mut bytes = Vec::new();
        codec::encode("arguments", args, &mut bytes).unwrap();
        bytes
    }

    /// A node with a chair on which somebody sits who is not connected to it.
    fn with_sitter() -> Arc<Node> {
        let node = node();
        let type_name = format!("{}::Chair", module_path!());
        let lifetime = Lifetime::Ephemeral;
        let args = encode(&());
        let create =
            Create { type_name: &type_name, key: Some("chair"), lifetime, constructor: 0, args: &args };
        call(&node, Operation::Create, "", &encode(&create));
        let now = Instant::now();
        let mut members = node.members.lock().unwrap();
        members.attach(SITTER, RUN, now);
        members.detach(SITTER, now);
        drop(members);
        call(&node, Operation::Call, "sit", &encode(&(SITTER,)));
        assert!(!is_free(&node));
        node
    }

    fn is_free(node: &Node) -> bool {
        codec::decode("the answer", &call(node, Operation::Call, "is_free", &encode(&()))).unwrap()
    }

    #[test]
    fn who_is_lost_after_the_move_holds_nothing() {
        let (from, to) = (with_sitter(), node());
        to.unpack(&from.pack(|_| true).unwrap()).unwrap();
        assert!(!is_free(&to));
        to.expire();
        assert!(is_free(&to));
    }

    #[test]
    fn who_was_lost_while_the_objects_moved_holds_nothing() {
        let from = with_sitter();
        // As it is when the objects are on their way already: the node can't take it back any more.
        let lost = from.members.lock().unwrap().expire(Instant::now());
        assert_eq!(lost, [SITTER]);
        let to = node();
        to.unpack(&from.pack(|_| true).unwrap()).unwrap();
        to.expire();
        assert!(is_free(&to));
    }

    #[test]
    fn who_was_lost_to_the_new_node_before_holds_nothing() {
        let (from, to) = (with_sitter(), node());
        let now = Instant::now();
        let mut members = to.members.lock().unwrap();
        members.attach(SITTER, RUN, now);
        members.detach(SITTER, now);
        drop(members);
        to.expire();
        to.unpack(&from.pack(|_| true).unwrap()).unwrap();
        to.expire();
        assert!(is_free(&to));
    }

    /// A cluster of which no more is there than whether the objects are.
    #[derive(Default)]
    struct Here(Gate);

    impl Others for Here {
        fn place(&self) -> Place {
            Place { node: 1, map: Default::default() }
        }
        fn enter(&self, _: ObjectId) -> Result<RwLockReadGuard<'_, ()>, Elsewhere> {
            self.0.enter().ok_or_else(Elsewhere::default)
        }
        fn lost(&self, _: ObjectId) -> u64 {
            0
        }
        fn lose(&self, _: &[u8]) {}
        fn serve(&self, _: &Arc<Client>, _: &Incoming<'_>, _: &[u8], _: &mut Vec<u8>) {
            unreachable!("no object is persistent")
        }
        fn status(&self, _: &mut std::collections::BTreeMap<&str, TypeStatus>) -> ClusterStatus {
            unreachable!("nobody asks")
        }
        fn retire(self: Arc<Self>, _: bool) -> BoxFuture<'static, Result<()>> {
            unreachable!("the node goes on")
        }
        fn serve_peer(self: Arc<Self>, _: Stream, _: Plane) -> BoxFuture<'static, ()> {
            unreachable!("there is no other node")
        }
    }

    /// The frames for a client.
    #[derive(Default)]
    struct Inbox(Mutex<Vec<u8>>);

    impl Link for Inbox {
        fn push(&self, frame: &[u8]) {
            self.0.lock().unwrap().extend_from_slice(frame);
        }
        fn flush(&self) {}
        fn close(&self) {}
    }

    /// What the node says at once to a frame.
    fn serve(node: &Node, client: &Arc<Client>, frame: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        node.serve(client, &frame[4..], &mut out).unwrap();
        out
    }

    #[test]
    fn nothing_is_done_to_objects_that_are_on_their_way() {
        let node = with_sitter();
        let here = Arc::new(Here::default());
        here.0.open();
        node.join(here.clone());
        let inbox = Arc::new(Inbox::default());
        let hello = Hello {
            version: wire::VERSION,
            run: RUN,
            member: MemberId(12),
            starts_run: true,
            node: None,
            session: SessionId(1),
            connection: 0,
            since: 0,
        };
        let (client, _) = node.open(&hello, inbox.clone()).unwrap();
        let head = head(Operation::Call, "sit");
        let mut buffer = vec![0; HEADROOM];
        buffer.extend(encode(&(MemberId(12),)));
        assert!(serve(&node, &client, wire::request_frame(&head, 1, 1, &mut buffer)).is_empty(), "it waits");

        here.0.close();
        let objects = || {
            let luggage: Luggage = codec::decode("objects that move", &node.pack(|_| true).unwrap()).unwrap();
            encode(&luggage.objects)
        };
        let packed = objects();
        // Neither the client nor the end of the sitter's lease changes what was packed.
        let answer = serve(&node, &client, &wire::withdraw_frame(&head, 1));
        assert!(wire::parse_answer(&answer[4..]).unwrap().elsewhere().unwrap().is_some());
        node.expire();
        assert_eq!((&*inbox.0.lock().unwrap(), objects()), (&vec![], packed));

        // They stay, after all.
        here.0.open();
        assert!(serve(&node, &client, &wire::withdraw_frame(&head, 1)).is_empty());
        let answer = std::mem::take(&mut *inbox.0.lock().unwrap());
        assert_eq!(wire::parse_answer(&answer[4..]).unwrap().result(), Err(Error::Withdrawn));
        node.expire();
        assert!(is_free(&node));
    }
}
