//! What there should be, what there is, and the steps from the one to the other. Nothing here talks to AWS.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::Value;

use super::names::Names;

/// What there should be.
#[derive(Clone, Debug)]
pub(super) struct Desired {
    /// The digest of the program, in hexadecimal digits.
    pub(super) binary: String,
    pub(super) function: Function,
    /// What functions may do.
    pub(super) function_policy: Value,
    /// What servers may do.
    pub(super) server_policy: Value,
    /// Who may connect to the servers.
    pub(super) sources: BTreeSet<Source>,
    pub(super) servers: Vec<Server>,
    /// Whether to wait until the servers are a cluster.
    pub(super) wait: bool,
    /// Whether the servers have no public addresses.
    pub(super) private: bool,
}

/// The function's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function {
    /// The digest of its zip, in Base64.
    pub(super) code: String,
    /// MiB.
    pub(super) memory: i32,
    /// Seconds.
    pub(super) timeout: i32,
    pub(super) concurrency: Option<i32>,
    pub(super) subnets: BTreeSet<String>,
}

/// One server's machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) subnet: String,
    pub(super) zone: String,
    pub(super) instance_type: String,
    /// A digest of all that its machine does when it is started for the first time.
    pub(super) setup: String,
    /// GiB.
    pub(super) volume: i32,
}

/// The security groups of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Client,
    Function,
    Server,
}

impl Side {
    pub(super) const ALL: [Side; 3] = [Side::Client, Side::Function, Side::Server];

    pub(super) fn text(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Function => "function",
            Side::Server => "server",
        }
    }
}

/// Who may connect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Group(Side),
    Cidr(String),
    /// Somebody that nobody here has let in: a group with this id.
    Other(String),
}

/// What there is.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    pub(super) bucket: Option<Bucket>,
    pub(super) function_role: Option<Role>,
    pub(super) server_role: Option<Role>,
    /// Whether it has its role.
    pub(super) profile: Option<bool>,
    pub(super) log_group: bool,
    pub(super) groups: BTreeMap<Side, Group>,
    /// The public addresses, by server.
    pub(super) elastic: BTreeMap<usize, Elastic>,
    /// In the order in which they were made.
    pub(super) volumes: Vec<Volume>,
    /// Those that are not about to go, in the order in which they were started.
    pub(super) instances: Vec<Instance>,
    pub(super) function: Option<DeployedFunction>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    /// Whether it has all its settings.
    pub(super) ready: bool,
    /// A digest of the token.
    pub(super) token: Option<String>,
    /// The digests of the programs in it.
    pub(super) binaries: BTreeSet<String>,
    /// What it tells servers to run, by their numbers.
    pub(super) nodes: BTreeMap<usize, String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Role {
    pub(super) policy: Option<Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) id: String,
    pub(super) sources: BTreeSet<Source>,
}

/// A public address that a server keeps whatever machine it is: the nodes of a cluster that stops as a whole find each other
/// by their addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Elastic {
    pub(super) id: String,
    /// The instance that has it.
    pub(super) instance: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Volume {
    pub(super) id: String,
    pub(super) server: usize,
    pub(super) zone: String,
    /// The instance that has it.
    pub(super) instance: Option<String>,
    /// Whether its server was seen in the cluster.
    pub(super) joined: bool,
    /// The private address of its server, which its next machine gets as well.
    pub(super) address: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) id: String,
    pub(super) server: usize,
    pub(super) instance_type: String,
    pub(super) setup: String,
    /// The digest of the program that it was seen to run.
    pub(super) runs: String,
    pub(super) stopped: bool,
    /// Where it can be reached, without the port.
    pub(super) host: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeployedFunction {
    pub(super) is: Function,
    /// A digest of the token that it has.
    pub(super) token: Option<String>,
    /// Its state, and that of its last update.
    pub(super) state: String,
}

impl Observed {
    /// The volume of a server. If a run was interrupted there may be two: the one that is in use is meant, else the older.
    pub(super) fn volume(&self, server: usize) -> Option<&Volume> {
        let volumes = || self.volumes.iter().filter(|volume| volume.server == server);
        volumes().find(|volume| volume.instance.is_some()).or_else(|| volumes().next())
    }

    /// The instance of a server: likewise.
    pub(super) fn instance(&self, server: usize) -> Option<&Instance> {
        let volume = self.volume(server).and_then(|volume| volume.instance.as_deref());
        let instances = || self.instances.iter().filter(|instance| instance.server == server);
        instances().find(|instance| Some(&*instance.id) == volume).or_else(|| instances().next())
    }

    /// Where the servers are, if all have an address.
    pub(super) fn addresses(&self, servers: usize) -> Option<Vec<String>> {
        let address = |instance: &Instance| format!("{}:{}", instance.host, super::names::PORT);
        (0..servers).map(|server| self.instance(server).filter(|i| !i.host.is_empty()).map(address)).collect()
    }
}

/// The file in the bucket that tells a server what to run, which a shell can read. All have the same list, by which they
/// find out who begins the cluster.
pub(super) fn node_file(addresses: &[String], server: usize, binary: &str) -> String {
    format!("BINARY={binary}\nADVERTISE={}\nJOIN={}\n", addresses[server], addresses.join(","))
}

/// Something on AWS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Resource {
    Bucket,
    Token,
    /// A program, by its digest.
    Binary(String),
    FunctionRole,
    ServerRole,
    Profile,
    LogGroup,
    Group(Side),
    Volume(usize),
    Elastic(usize),
    Server(usize),
    /// An instance that should not be there.
    Instance(String),
    /// What the bucket tells servers.
    Nodes,
    /// What the servers are together.
    Cluster,
    Function,
}

/// What is done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Create,
    Update(String),
    /// Of a server, when the others are well.
    Restart(String),
    Replace(String),
    Keep,
    Delete(String),
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) resource: Resource,
    pub(super) action: Action,
}

/// All that is to be done, in the order in which it can be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan(pub(super) Vec<Step>);

impl Plan {
    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|step| step.action == Action::Keep)
    }

    /// Whether servers are taken away from a cluster that may be at work.
    pub(super) fn is_rolling(&self) -> bool {
        self.0.iter().any(|step| matches!(step.action, Action::Restart(_) | Action::Replace(_)))
    }

    fn push(&mut self, resource: Resource, action: Action) {
        self.0.push(Step { resource, action });
    }
}

fn existing(exists: bool) -> Action {
    if exists { Action::Keep } else { Action::Create }
}

/// Keep what is as it should be; else say what isn't.
fn update(changes: &[(bool, String)]) -> Action {
    let changes: Vec<_> = changes.iter().filter(|(is, _)| *is).map(|(_, what)| &**what).collect();
    if changes.is_empty() { Action::Keep } else { Action::Update(changes.join(", ")) }
}

/// The steps that make it so.
pub(super) fn deploy(desired: &Desired, observed: &Observed) -> Plan {
    let mut plan = Plan(Vec::new());
    let bucket = observed.bucket.clone().unwrap_or_default();
    plan.push(
        Resource::Bucket,
        match &observed.bucket {
            Some(bucket) => update(&[(!bucket.ready, "finish its settings".to_owned())]),
            None => Action::Create,
        },
    );
    plan.push(Resource::Token, existing(bucket.token.is_some()));
    plan.push(Resource::Binary(desired.binary.clone()), existing(bucket.binaries.contains(&desired.binary)));
    for (resource, role, policy) in [
        (Resource::FunctionRole, &observed.function_role, &desired.function_policy),
        (Resource::ServerRole, &observed.server_role, &desired.server_policy),
    ] {
        let action = role.as_ref().map_or(Action::Create, |role| {
            update(&[(role.policy.as_ref() != Some(policy), "what it allows".to_owned())])
        });
        plan.push(resource, action);
    }
    let profile = observed.profile.map_or(Action::Create, |has| update(&[(!has, "its role".to_owned())]));
    plan.push(Resource::Profile, profile);
    plan.push(Resource::LogGroup, existing(observed.log_group));
    for side in Side::ALL {
        let none = BTreeSet::new();
        let sources = if side == Side::Server { &desired.sources } else { &none };
        let action = observed.groups.get(&side).map_or(Action::Create, |group| {
            update(&[(group.sources != *sources, "who may connect".to_owned())])
        });
        plan.push(Resource::Group(side), action);
    }
    for server in 0..desired.servers.len() {
        plan.push(Resource::Volume(server), existing(observed.volume(server).is_some()));
    }
    if !desired.private {
        for server in 0..desired.servers.len() {
            plan.push(Resource::Elastic(server), existing(observed.elastic.contains_key(&server)));
        }
    }
    let mut restarts = Vec::new();
    for (server, should) in desired.servers.iter().enumerate() {
        let action = machine(should, desired, observed, server);
        match action {
            Action::Restart(_) | Action::Replace(_) => restarts.push((server, action)),
            _ => plan.push(Resource::Server(server), action),
        }
    }
    plan.push(Resource::Nodes, nodes(desired, observed));
    if desired.wait {
        let is_outside = |server: &usize| {
            observed.volume(*server).is_none_or(|volume| !volume.joined)
                || observed.instance(*server).is_none_or(|instance| instance.stopped)
        };
        let outside: Vec<_> =
            (0..desired.servers.len()).filter(is_outside).map(|server| server.to_string()).collect();
        let action = if outside.len() == desired.servers.len() {
            Action::Create
        } else {
            update(&[(!outside.is_empty(), format!("server {} joins", outside.join(", ")))])
        };
        plan.push(Resource::Cluster, action);
    }
    let function = observed.function.as_ref().map_or(Action::Create, |function| {
        let (is, should) = (&function.is, &desired.function);
        update(&[
            (is.code != should.code, "its program".to_owned()),
            (is.memory != should.memory, format!("memory {} → {} MiB", is.memory, should.memory)),
            (is.timeout != should.timeout, format!("timeout {} → {} s", is.timeout, should.timeout)),
            (is.concurrency != should.concurrency, "how many run at once".to_owned()),
            (is.subnets != should.subnets, "its network".to_owned()),
            (function.token.is_none() || function.token != bucket.token, "its token".to_owned()),
        ])
    });
    plan.push(Resource::Function, function);
    for (server, action) in restarts {
        plan.push(Resource::Server(server), action);
    }
    // The highest number first, so that an interrupted run leaves servers 0 to N.
    let surplus: BTreeSet<_> =
        observed.instances.iter().map(|i| i.server).filter(|s| *s >= desired.servers.len()).collect();
    for server in surplus.into_iter().rev() {
        plan.push(Resource::Server(server), Action::Delete("there are to be fewer servers".to_owned()));
    }
    for instance in &observed.instances {
        if observed.instance(instance.server).is_some_and(|meant| meant.id != instance.id) {
            let why = format!("a second server {}, of a run that was interrupted", instance.server);
            plan.push(Resource::Instance(instance.id.clone()), Action::Delete(why));
        }
    }
    for binary in bucket.binaries.iter().filter(|binary| **binary != desired.binary) {
        plan.push(Resource::Binary(binary.clone()), Action::Delete("no server runs it".to_owned()));
    }
    plan
}

fn machine(should: &Server, desired: &Desired, observed: &Observed, server: usize) -> Action {
    let Some(is) = observed.instance(server) else { return Action::Create };
    if is.instance_type != should.instance_type {
        return Action::Replace(format!("{} → {}", is.instance_type, should.instance_type));
    }
    if is.setup != should.setup {
        return Action::Replace("what it does when it starts".to_owned());
    }
    if observed.volume(server).is_none() {
        return Action::Replace("its volume is gone".to_owned());
    }
    if is.stopped {
        return Action::Update("it is stopped".to_owned());
    }
    if is.runs != desired.binary {
        return Action::Restart("its program".to_owned());
    }
    // A run was interrupted before it had all.
    let has_volume = observed.volume(server).is_some_and(|volume| volume.instance.is_some());
    let has_address =
        observed.elastic.get(&server).is_some_and(|elastic| elastic.instance.as_ref() == Some(&is.id));
    update(&[
        (!has_volume, "attach its volume".to_owned()),
        (!has_address && !desired.private, "its public address".to_owned()),
    ])
}

fn nodes(desired: &Desired, observed: &Observed) -> Action {
    let told = observed.bucket.as_ref().map(|bucket| &bucket.nodes);
    if told.is_none_or(|told| told.is_empty()) {
        return Action::Create;
    }
    let Some(addresses) = observed.addresses(desired.servers.len()) else {
        return Action::Update("where the servers are".to_owned());
    };
    let is_as_told = |server: usize| {
        let runs = observed.instance(server).map_or(&*desired.binary, |instance| &*instance.runs);
        let file = node_file(&addresses, server, runs);
        told.and_then(|told| told.get(&server)) == Some(&file)
    };
    update(&[(!(0..addresses.len()).all(is_as_told), "where the servers are".to_owned())])
}

/// The steps that remove all of it, or all but the volumes.
pub(super) fn destroy(observed: &Observed, keep_data: bool) -> Plan {
    let mut plan = Plan(Vec::new());
    let gone = || Action::Delete(String::new());
    if observed.function.is_some() {
        plan.push(Resource::Function, gone());
    }
    for instance in &observed.instances {
        plan.push(Resource::Instance(instance.id.clone()), gone());
    }
    let data = || if keep_data { Action::Keep } else { gone() };
    let volumes: BTreeSet<_> = observed.volumes.iter().map(|volume| volume.server).collect();
    for server in volumes {
        plan.push(Resource::Volume(server), data());
    }
    for server in observed.elastic.keys() {
        plan.push(Resource::Elastic(*server), data());
    }
    // The servers' group names the others, so it goes first.
    for side in observed.groups.keys().rev() {
        plan.push(Resource::Group(*side), gone());
    }
    if observed.log_group {
        plan.push(Resource::LogGroup, gone());
    }
    if observed.profile.is_some() {
        plan.push(Resource::Profile, gone());
    }
    if observed.server_role.is_some() {
        plan.push(Resource::ServerRole, gone());
    }
    if observed.function_role.is_some() {
        plan.push(Resource::FunctionRole, gone());
    }
    if observed.bucket.is_some() {
        plan.push(Resource::Bucket, gone());
    }
    plan
}

impl Resource {
    fn text(&self, names: &Names) -> String {
        match self {
            Resource::Bucket => format!("bucket {}", names.bucket()),
            Resource::Token => "token of the cluster".to_owned(),
            Resource::Binary(digest) => format!("program {}", &digest[..digest.len().min(12)]),
            Resource::FunctionRole => format!("role {}", names.role("function")),
            Resource::ServerRole => format!("role {}", names.role("server")),
            Resource::Profile => format!("instance profile {}", names.role("server")),
            Resource::LogGroup => format!("log group {}", names.log_group()),
            Resource::Group(side) => format!("security group {}", names.group(side.text())),
            Resource::Volume(server) => format!("volume of server {server}"),
            Resource::Elastic(server) => format!("public address of server {server}"),
            Resource::Server(server) => format!("server {server}"),
            Resource::Instance(id) => format!("instance {id}"),
            Resource::Nodes => "addresses of the servers".to_owned(),
            Resource::Cluster => "cluster of the servers".to_owned(),
            Resource::Function => format!("function {}", names.function()),
        }
    }
}

impl Step {
    /// The step as a line for people.
    pub(super) fn text(&self, names: &Names) -> String {
        let resource = self.resource.text(names);
        let (verb, why) = match &self.action {
            Action::Create => ("create", ""),
            Action::Update(why) => ("update", &**why),
            Action::Restart(why) => ("restart", &**why),
            Action::Replace(why) => ("replace", &**why),
            Action::Keep => ("keep", ""),
            Action::Delete(why) => ("delete", &**why),
        };
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        format!("{verb:8}{resource}{why}")
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

#[cfg(test)]
mod tests;
