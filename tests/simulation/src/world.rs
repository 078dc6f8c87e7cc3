//! One simulation: a cluster and its clients from the first node's start to the verdict.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    panic,
    rc::Rc,
    sync::Mutex,
    time::Duration,
};

use crucial::Config;
use crucial_server::cluster::log::Store;
use tests_faults::{
    checker::{Verdict, check, evidence},
    history::{History, Outcome, Recorder},
    models::{Counter, List, Lock, Model, Register},
    workload::{counted_once, pushed_once},
};
use tokio::sync::Notify;
use turmoil::Sim;

use crate::{
    client::{self, Shared},
    determinism,
    node::{self, Machine},
    plan::{Fault, Host, LASTS, Patience, Plan, Planned},
};

/// For how long a host runs before it is another's turn. Messages are delivered between the turns.
const TICK: Duration = Duration::from_millis(2);
/// How long the cluster may take to be there.
const ASSEMBLY: Duration = Duration::from_secs(10);
/// How long after the last fault everything must work again.
const RECOVERY: Duration = Duration::from_secs(40);
/// How long a message takes on a slow link, at most.
const SLOW: Duration = Duration::from_millis(400);
const PORT: u16 = 7878;
/// The client that comes when all is over.
const OBSERVER: &str = "observer";

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What a simulation showed.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// How many calls were begun.
    pub operations: usize,
    /// How many of them have an unknown outcome.
    pub unknown: usize,
    /// The failures that clients saw.
    pub errors: BTreeMap<String, usize>,
    /// What is wrong; empty if all is well.
    pub violations: Vec<String>,
    /// The history of an object that isn't linearizable, as far as needed.
    pub evidence: Option<String>,
    /// A digest of all that clients saw and when.
    pub trace: u64,
    /// How long it was, in simulated time.
    pub lasted: Duration,
}

/// Simulates what the plan says. The process must have [begun](crate::determinism::begin).
#[must_use]
pub fn simulate(seed: u64, plan: &Plan) -> Findings {
    // Some tasks are nobody's concern when they panic, but a defect all the same.
    panic::set_hook(Box::new(|panic| PANICS.lock().unwrap().push(panic.to_string())));
    let mut world = World::new(seed, plan);
    let result = world.live();
    let mut findings = judge(&world.shared);
    findings.violations.extend(result.err());
    findings.violations.append(&mut PANICS.lock().unwrap());
    findings.lasted = world.sim.elapsed();
    findings
}

struct World<'a> {
    sim: Sim<'a>,
    plan: Plan,
    seed: u64,
    machines: Vec<Rc<Machine>>,
    shared: Rc<Shared>,
    /// Whether the clients may begin.
    begun: Rc<Cell<bool>>,
    /// How many faults hold up a link.
    held: BTreeMap<(Host, Host), usize>,
    /// What ends at which time.
    ends: Vec<(Duration, Fault)>,
}

impl World<'_> {
    fn new(seed: u64, plan: &Plan) -> Self {
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(3600))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(plan.latency)
            .tcp_capacity(4096)
            .enable_random_order()
            .build();
        let addresses: Vec<_> = (0..plan.nodes)
            .map(|n| format!("{}:{PORT}", sim.lookup(Host::Node(n).to_string().as_str())))
            .collect();
        let mut config = Config::default();
        config.lease = match plan.patience {
            Patience::Long => Duration::from_secs(60),
            Patience::Short => Duration::from_secs(3),
        };
        let mut machines = Vec::new();
        for n in 0..plan.nodes {
            let machine = Rc::new(Machine {
                address: addresses[n].clone(),
                all: addresses.clone(),
                partitions: plan.partitions,
                config: config.clone(),
                joined: Cell::new(false),
                node: RefCell::default(),
                store: RefCell::new(Store::memory()),
                end: Notify::new(),
                leaves: Cell::new(false),
                stops: Cell::new(false),
            });
            machines.push(machine.clone());
            sim.host(Host::Node(n).to_string(), move || node::run(machine.clone()));
        }
        let shared = Shared::new(addresses, plan.patience, plan.clients);
        let begun = Rc::new(Cell::new(false));
        for n in 0..plan.clients {
            let (shared, begun) = (shared.clone(), begun.clone());
            sim.host(Host::Client(n).to_string(), move || {
                let (shared, begun) = (shared.clone(), begun.clone());
                async move {
                    while !begun.get() {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    client::run(shared, seed).await
                }
            });
        }
        let (held, ends) = (BTreeMap::new(), Vec::new());
        World { sim, plan: plan.clone(), seed, machines, shared, begun, held, ends }
    }

    fn live(&mut self) -> Result<(), String> {
        while !self.machines.iter().any(|machine| machine.joined.get()) {
            self.step()?;
            if self.sim.elapsed() > ASSEMBLY {
                return Err(format!("no cluster after {ASSEMBLY:?}"));
            }
        }
        let start = self.sim.elapsed();
        self.begun.set(true);
        let mut faults = self.plan.faults.clone().into_iter().peekable();
        while self.sim.elapsed() < start + LASTS || !self.ends.is_empty() {
            let now = self.sim.elapsed();
            while let Some(planned) = faults.next_if(|planned| start + planned.at <= now) {
                tracing::info!("begins: {planned}");
                self.begin(&planned);
            }
            for (_, fault) in self.ends.extract_if(.., |(end, _)| *end <= now).collect::<Vec<_>>() {
                tracing::info!("ends: {fault:?}");
                self.end(fault);
            }
            self.step()?;
        }
        tracing::info!("the load ends");
        self.shared.stop();
        self.wait("after the last fault")?;
        let (shared, seed) = (self.shared.clone(), self.seed);
        self.sim.host(OBSERVER, move || client::look(shared.clone(), seed));
        self.step()?;
        self.wait("of one who looks once more")?;
        self.settle()
    }

    /// Waits until each group has a leader, and its members don't change any more.
    fn settle(&mut self) -> Result<(), String> {
        let start = self.sim.elapsed();
        while let Some(restless) = self.restless() {
            self.step()?;
            if self.sim.elapsed() > start + RECOVERY {
                return Err(format!("{RECOVERY:?} after the last call, {restless}"));
            }
        }
        Ok(())
    }

    fn restless(&self) -> Option<String> {
        self.machines.iter().find_map(|machine| {
            let status = machine.node.borrow().upgrade()?.status().cluster?;
            let partition = status.partitions.iter().find(|p| p.leader.is_none() || p.changing)?;
            Some(format!("at node {}: {partition:?}", status.node))
        })
    }

    /// Waits until the clients have their answers.
    fn wait(&mut self, when: &str) -> Result<(), String> {
        let start = self.sim.elapsed();
        while self.shared.busy.get() > 0 {
            self.step()?;
            if self.sim.elapsed() > start + RECOVERY {
                let running = self.shared.running();
                return Err(format!(
                    "{} tasks wait still {RECOVERY:?} {when}:\n  {}",
                    self.shared.busy.get(),
                    running.join("\n  ")
                ));
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        let stepped = self.sim.step().map(drop).map_err(|error| format!("a host failed: {error}"));
        determinism::reach(self.sim.elapsed());
        stepped
    }

    fn begin(&mut self, planned: &Planned) {
        let end = self.sim.elapsed() + planned.lasts;
        let fault = planned.fault.clone();
        match &fault {
            Fault::Crash { host, silent } => {
                if !self.crash(*host, *silent) {
                    return;
                }
            }
            Fault::CrashAll => (0..self.plan.nodes).for_each(|n| {
                self.crash(Host::Node(n), true);
            }),
            Fault::LoseDisk(n) => {
                if !self.crash(Host::Node(*n), true) {
                    return;
                }
                self.machines[*n].wipe();
            }
            Fault::Stop(n) | Fault::Leave(n) => {
                if !self.is_running(Host::Node(*n)) {
                    return;
                }
                self.machines[*n].leaves.set(matches!(fault, Fault::Leave(_)));
                self.machines[*n].stops.set(true);
                self.machines[*n].end.notify_one();
            }
            Fault::CutOff(side) => self.between(side).into_iter().for_each(|(a, b)| self.hold(a, b)),
            Fault::CutLink(a, b) => self.hold(*a, *b),
            Fault::Reset(a, b) => return self.reset(*a, *b),
            Fault::Slow(a, b) => {
                self.sim.set_link_max_message_latency(a.to_string(), b.to_string(), SLOW);
            }
        }
        self.ends.push((end, fault));
    }

    fn end(&mut self, fault: Fault) {
        match fault {
            Fault::Crash { host, .. } => self.restart(host),
            Fault::CrashAll => (0..self.plan.nodes).for_each(|n| self.restart(Host::Node(n))),
            Fault::LoseDisk(n) => self.restart(Host::Node(n)),
            Fault::Stop(n) | Fault::Leave(n) => {
                // It stops as long as it takes, unless it was started again meanwhile.
                if self.is_running(Host::Node(n)) {
                    if !self.machines[n].stops.get() {
                        return;
                    }
                    let again = self.sim.elapsed() + Duration::from_millis(500);
                    if again < ASSEMBLY + LASTS + RECOVERY {
                        self.ends.push((again, fault));
                    }
                } else {
                    self.restart(Host::Node(n));
                }
            }
            Fault::CutOff(side) => self.between(&side).into_iter().for_each(|(a, b)| self.release(a, b)),
            Fault::CutLink(a, b) => self.release(a, b),
            Fault::Slow(a, b) => {
                self.sim.set_link_max_message_latency(a.to_string(), b.to_string(), self.plan.latency);
            }
            Fault::Reset(..) => {}
        }
    }

    fn is_running(&mut self, host: Host) -> bool {
        self.sim.is_host_running(host.to_string())
    }

    /// Returns whether it ran.
    fn crash(&mut self, host: Host, silent: bool) -> bool {
        if !self.is_running(host) {
            return false;
        }
        if silent {
            // What it would say at last isn't heard.
            for other in self.others(host) {
                self.sim.partition(host.to_string(), other.to_string());
            }
        }
        self.sim.crash(host.to_string());
        true
    }

    fn restart(&mut self, host: Host) {
        if self.is_running(host) {
            return;
        }
        // Whoever still believes in a connection to what ran here before is told.
        for other in self.others(host) {
            self.reset(host, other);
        }
        if let Host::Node(n) = host {
            // What it was told before it died, it knows no more.
            self.machines[n].leaves.set(false);
            self.machines[n].stops.set(false);
        }
        self.sim.bounce(host.to_string());
    }

    fn others(&self, host: Host) -> Vec<Host> {
        self.plan.hosts().into_iter().filter(|other| *other != host).collect()
    }

    /// Breaks the connections between two hosts.
    fn reset(&mut self, a: Host, b: Host) {
        let address = |host: Host| -> IpAddr { self.sim.lookup(host.to_string()) };
        crucial_runtime::net::reset(address(a), address(b));
        self.sim.partition(a.to_string(), b.to_string());
        self.sim.repair(a.to_string(), b.to_string());
        if self.held.contains_key(&(a.min(b), a.max(b))) {
            self.sim.hold(a.to_string(), b.to_string());
        }
    }

    /// The links between these hosts and the others.
    fn between(&self, side: &[Host]) -> Vec<(Host, Host)> {
        let hosts = self.plan.hosts();
        let others: Vec<_> = hosts.into_iter().filter(|host| !side.contains(host)).collect();
        side.iter().flat_map(|a| others.iter().map(|b| (*a, *b))).collect()
    }

    fn hold(&mut self, a: Host, b: Host) {
        *self.held.entry((a.min(b), a.max(b))).or_default() += 1;
        self.sim.hold(a.to_string(), b.to_string());
    }

    fn release(&mut self, a: Host, b: Host) {
        let link = (a.min(b), a.max(b));
        let count = self.held.get_mut(&link).expect("it is held");
        *count -= 1;
        if *count == 0 {
            self.held.remove(&link);
            self.sim.release(a.to_string(), b.to_string());
        }
    }
}

fn judge(shared: &Shared) -> Findings {
    shared.check_meetings();
    let mut judge = Judge { findings: Findings::default(), trace: DefaultHasher::new() };
    for counter in &shared.counters {
        let history = judge.check(&Counter, &counter.recorder);
        judge.complain(&counter.recorder, counted_once(&history));
    }
    for register in &shared.registers {
        judge.check(&Register, &register.recorder);
    }
    for journal in &shared.journals {
        let history = judge.check(&List, &journal.recorder);
        judge.complain(&journal.recorder, pushed_once(&history));
    }
    judge.check(&Lock, &shared.lock.recorder);
    for own in &*shared.own.borrow() {
        judge.check(&List, &own.journal.recorder);
        judge.check(&Lock, &own.lock.recorder);
    }
    format!("{:?}", shared.meetings.borrow()).hash(&mut judge.trace);
    let mut findings = judge.findings;
    findings.errors = shared.errors.borrow().clone();
    findings.violations.extend(shared.complaints.borrow().iter().cloned());
    findings.trace = judge.trace.finish();
    findings
}

struct Judge {
    findings: Findings,
    trace: DefaultHasher,
}

impl Judge {
    fn check<M: Model>(&mut self, model: &M, recorder: &Recorder<M>) -> History<M> {
        let history = recorder.history();
        history.iter().for_each(|operation| operation.to_string().hash(&mut self.trace));
        let findings = &mut self.findings;
        findings.operations += history.len();
        findings.unknown += history.iter().filter(|o| o.outcome == Outcome::Unknown).count();
        let verdict = check(model, &history);
        if verdict != Verdict::Linearizable {
            findings.violations.push(format!("{}: {verdict:?}", recorder.name));
        }
        if verdict == Verdict::Violated && findings.evidence.is_none() {
            let evidence = evidence(model, &history);
            findings.evidence =
                Some(format!("{}, up to the answer that nothing explains:\n{evidence}", recorder.name));
        }
        history
    }

    fn complain<M: Model>(&mut self, recorder: &Recorder<M>, what: Option<String>) {
        self.findings.violations.extend(what.map(|what| format!("{}: {what}", recorder.name)));
    }
}
