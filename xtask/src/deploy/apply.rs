//! The steps of a plan, done one after the other.

use std::{collections::BTreeSet, io::Write, time::Instant};

use super::{
    Args,
    aws::{Aws, wait},
    client::Files,
    compute::Parts,
    network::Network,
    plan::{Action, Desired, Group, Observed, Plan, Resource, Side, Step, Volume, node_file},
    program::Executable,
    roles::For,
    rolling::Cluster,
    servers::Machine,
};
use crate::Error;

/// How long machines may have no address.
const ADDRESSES: std::time::Duration = std::time::Duration::from_secs(120);

/// Says what was done, and how long it took.
#[derive(Debug)]
pub(super) struct Progress {
    start: Instant,
    step: Instant,
}

impl Progress {
    pub(super) fn start() -> Self {
        Progress { start: Instant::now(), step: Instant::now() }
    }

    pub(super) fn begin(&mut self, what: &str) -> Result<(), Error> {
        self.step = Instant::now();
        let mut out = std::io::stdout();
        write!(out, "[{:6.1} s] {what}", self.start.elapsed().as_secs_f64())?;
        Ok(out.flush()?)
    }

    pub(super) fn end(&mut self) -> Result<(), Error> {
        Ok(writeln!(std::io::stdout(), "  {:.1} s", self.step.elapsed().as_secs_f64())?)
    }

    pub(super) fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}

/// Everything there is on AWS of a deployment.
pub(super) async fn observe(aws: &Aws, private: bool) -> Result<Observed, Error> {
    Ok(Observed {
        bucket: aws.bucket().await?,
        function_role: aws.role(For::Function).await?,
        server_role: aws.role(For::Server).await?,
        profile: aws.profile().await?,
        log_group: aws.has_log_group().await?,
        groups: aws.groups().await?,
        elastic: aws.elastic().await?,
        volumes: aws.volumes().await?,
        instances: aws.instances(private).await?,
        function: aws.function().await?,
    })
}

/// A deployment that is being made.
#[derive(Debug)]
pub(super) struct Deploying<'a> {
    pub(super) aws: &'a Aws,
    pub(super) args: &'a Args,
    pub(super) desired: &'a Desired,
    pub(super) network: &'a Network,
    pub(super) server: &'a Executable,
    pub(super) zip: &'a [u8],
    pub(super) files: &'a Files,
    /// What there is by now.
    pub(super) observed: Observed,
}

impl Deploying<'_> {
    pub(super) async fn run(&mut self, plan: &Plan, progress: &mut Progress) -> Result<(), Error> {
        for step in plan.0.iter().filter(|step| step.action != Action::Keep) {
            progress.begin(&step.text(&self.aws.names))?;
            self.step(step).await?;
            progress.end()?;
        }
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Result<(), Error> {
        let (aws, desired) = (self.aws, self.desired);
        match (&step.resource, &step.action) {
            (_, Action::Keep) => Ok(()),
            (Resource::Bucket, _) => aws.create_bucket().await,
            (Resource::Token, _) => aws.create_token().await,
            (Resource::Binary(digest), Action::Delete(_)) => aws.delete_binary(digest).await,
            (Resource::Binary(digest), _) => aws.put_binary(digest, &self.server.bytes).await,
            (Resource::FunctionRole, _) => aws.put_role(For::Function, &desired.function_policy).await,
            (Resource::ServerRole, _) => aws.put_role(For::Server, &desired.server_policy).await,
            (Resource::Profile, _) => aws.put_profile().await,
            (Resource::LogGroup, _) => aws.create_log_group().await,
            (Resource::Group(side), _) => self.group(*side).await,
            (Resource::Volume(server), _) => {
                let volume = aws.create_volume(*server, &desired.servers[*server]).await?;
                self.observed.volumes.push(volume);
                Ok(())
            }
            (Resource::Elastic(server), _) => {
                let elastic = aws.create_elastic(*server).await?;
                self.observed.elastic.insert(*server, elastic);
                Ok(())
            }
            (Resource::Server(server), Action::Create) => self.launch(*server).await,
            (Resource::Server(server), Action::Update(_)) => self.mend(*server).await,
            (Resource::Server(server), Action::Restart(_)) => self.restart(*server).await,
            (Resource::Server(server), Action::Replace(_)) => self.replace(*server).await,
            (Resource::Server(server), Action::Delete(_)) => self.dismiss(*server).await,
            (Resource::Instance(id), _) => aws.terminate(std::slice::from_ref(id)).await,
            (Resource::Nodes, _) => self.tell(None).await,
            (Resource::Cluster, _) => self.gather().await,
            (Resource::Function, _) => self.function().await,
        }
    }

    async fn group(&mut self, side: Side) -> Result<(), Error> {
        if !self.observed.groups.contains_key(&side) {
            let id = self.aws.create_group(side, &self.network.vpc).await?;
            self.observed.groups.insert(side, Group { id, sources: BTreeSet::new() });
        }
        let sources = if side == Side::Server { self.desired.sources.clone() } else { BTreeSet::new() };
        self.aws.admit(side, &self.observed.groups, &sources).await
    }

    fn group_id(&self, side: Side) -> &str {
        self.observed.groups.get(&side).map_or("", |group| &group.id)
    }

    /// Starts a server's machine.
    async fn launch(&mut self, server: usize) -> Result<(), Error> {
        let image = match &self.args.image {
            Some(image) => image.clone(),
            None => self.aws.newest_image().await?,
        };
        let volume = self.volume(server)?;
        let machine = Machine {
            server,
            is: &self.desired.servers[server],
            image: &image,
            volume: &volume,
            group: self.group_id(Side::Server),
            runs: &self.desired.binary,
        };
        let instance = self.aws.run_instance(machine).await?;
        self.equip(server, &volume, &instance).await
    }

    fn volume(&self, server: usize) -> Result<Volume, Error> {
        let volume = self.observed.volume(server).cloned();
        volume.ok_or_else(|| Error::Message(format!("server {server} has lost its volume: deploy again")))
    }

    /// Gives a machine its addresses and its volume.
    async fn equip(&mut self, server: usize, volume: &Volume, instance: &str) -> Result<(), Error> {
        self.aws.await_running(instance, volume).await?;
        if !self.desired.private
            && let Some(elastic) = self.observed.elastic.get(&server)
            && elastic.instance.as_deref() != Some(instance)
        {
            self.aws.associate(&elastic.id, instance).await?;
        }
        if volume.instance.as_deref() != Some(instance) {
            self.aws.attach(&volume.id, instance).await?;
        }
        Ok(())
    }

    /// Starts a machine that was stopped, and gives it what it lacks.
    async fn mend(&mut self, server: usize) -> Result<(), Error> {
        let Some(instance) = self.observed.instance(server).cloned() else { return Ok(()) };
        if instance.stopped {
            self.aws.start_instance(&instance.id).await?;
        }
        let volume = self.volume(server)?;
        self.equip(server, &volume, &instance.id).await
    }

    /// The addresses of all servers, as soon as they have some.
    async fn addresses(&mut self) -> Result<Vec<String>, Error> {
        let servers = self.desired.servers.len();
        let private = self.args.private;
        let (aws, observed) = (self.aws, &mut self.observed);
        wait(ADDRESSES, "a server has no address yet", async || {
            observed.volumes = aws.volumes().await?;
            observed.instances = aws.instances(private).await?;
            Ok(observed.addresses(servers))
        })
        .await
    }

    /// Puts into the bucket what each server is to run: as before, but for the one that gets the new program.
    async fn tell(&mut self, new: Option<usize>) -> Result<(), Error> {
        let addresses = self.addresses().await?;
        for server in 0..addresses.len() {
            let runs = match self.observed.instance(server) {
                Some(instance) if new != Some(server) => &instance.runs,
                _ => &self.desired.binary,
            };
            let file = node_file(&addresses, server, runs);
            let told = self.observed.bucket.get_or_insert_default();
            if told.nodes.get(&server) != Some(&file) {
                self.aws.put_node(server, &file).await?;
                told.nodes.insert(server, file);
            }
        }
        Ok(())
    }

    /// Waits until the servers are a cluster, and notes that they are.
    async fn gather(&mut self) -> Result<(), Error> {
        let addresses = self.addresses().await?;
        self.cluster(&addresses).await?.settle().await?;
        let ids = (0..self.desired.servers.len()).filter_map(|server| self.observed.volume(server));
        let ids: Vec<_> = ids.map(|volume| volume.id.clone()).collect();
        self.aws.note_joined(&ids).await
    }

    /// The cluster, as it is seen with the token.
    async fn cluster<'c>(&'c self, addresses: &'c [String]) -> Result<Cluster<'c>, Error> {
        self.files.write_token(&token(self.aws).await?)?;
        Ok(Cluster { program: &self.server.path, token: self.files.token(), addresses })
    }

    /// Has a server run the new program, when the cluster is whole, and waits until it is whole again.
    async fn restart(&mut self, server: usize) -> Result<(), Error> {
        let addresses = self.addresses().await?;
        self.cluster(&addresses).await?.settle().await?;
        self.tell(Some(server)).await?;
        let cluster = self.cluster(&addresses).await?;
        let Some(instance) = self.observed.instance(server) else { return Ok(()) };
        let before = cluster.incarnation(&addresses[server]);
        self.aws.reboot_instance(&instance.id).await?;
        cluster.restarted(&addresses[server], before.as_deref()).await?;
        cluster.settle().await?;
        self.aws.note_runs(&instance.id, &self.desired.binary).await
    }

    /// Gives a server another machine with the same volume, when the cluster is whole.
    async fn replace(&mut self, server: usize) -> Result<(), Error> {
        let addresses = self.addresses().await?;
        // Without its volume it isn't whole.
        if self.observed.volume(server).is_some_and(|volume| volume.joined) {
            self.cluster(&addresses).await?.settle().await?;
        }
        if let Some(instance) = self.observed.instance(server) {
            self.aws.terminate(std::slice::from_ref(&instance.id)).await?;
        }
        self.launch(server).await?;
        self.tell(Some(server)).await?;
        self.gather().await
    }

    /// Takes a server out of the cluster, and its machine away.
    async fn dismiss(&mut self, server: usize) -> Result<(), Error> {
        if let Some(instance) = self.observed.instance(server) {
            let address = format!("{}:{}", instance.host, super::names::PORT);
            self.cluster(&[]).await?.leave(&address)?;
            self.aws.terminate(std::slice::from_ref(&instance.id)).await?;
        }
        if let Some(volume) = self.observed.volume(server) {
            self.aws.delete_volume(&volume.id).await?;
        }
        if let Some(elastic) = self.observed.elastic.get(&server) {
            self.aws.release(&elastic.id).await?;
        }
        self.aws.delete_node(server).await
    }

    async fn function(&mut self) -> Result<(), Error> {
        let token = token(self.aws).await?;
        let parts = Parts { zip: self.zip, token: &token, group: self.group_id(Side::Function) };
        match &self.observed.function {
            Some(is) => self.aws.update_function(is, &self.desired.function, parts).await,
            None => self.aws.create_function(&self.desired.function, parts).await,
        }
    }

    /// Where the servers are and the token, for the clients.
    pub(super) async fn tell_clients(&mut self) -> Result<(), Error> {
        let addresses = self.addresses().await?;
        self.files.write_token(&token(self.aws).await?)?;
        self.files.write_settings(&self.aws.names, &addresses)
    }
}

async fn token(aws: &Aws) -> Result<String, Error> {
    aws.token().await?.ok_or_else(|| Error::Message("the bucket has no token: deploy again".to_owned()))
}

/// Removes what a plan says.
pub(super) async fn destroy(
    aws: &Aws,
    observed: &Observed,
    plan: &Plan,
    progress: &mut Progress,
) -> Result<(), Error> {
    // All at once: each takes as long as all together.
    let machines: Vec<_> = observed.instances.iter().map(|instance| instance.id.clone()).collect();
    let mut ended = false;
    for step in plan.0.iter().filter(|step| step.action != Action::Keep) {
        progress.begin(&step.text(&aws.names))?;
        match &step.resource {
            Resource::Function => aws.delete_function().await?,
            Resource::Instance(_) => {
                if !std::mem::replace(&mut ended, true) {
                    aws.terminate(&machines).await?;
                }
            }
            Resource::Volume(server) => {
                for volume in observed.volumes.iter().filter(|volume| volume.server == *server) {
                    aws.delete_volume(&volume.id).await?;
                }
            }
            Resource::Elastic(server) => aws.release(&observed.elastic[server].id).await?,
            Resource::Group(side) => aws.delete_group(*side, &observed.groups[side].id).await?,
            Resource::LogGroup => aws.delete_log_group().await?,
            Resource::Profile => aws.delete_profile().await?,
            Resource::Bucket => aws.delete_bucket().await?,
            resource => {
                if let Some(role) = For::of(resource) {
                    aws.delete_role(role).await?;
                }
            }
        }
        progress.end()?;
    }
    Ok(())
}
