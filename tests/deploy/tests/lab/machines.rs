//! What moto lacks of EC2: machines that start.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex},
};

use base64::{Engine, prelude::BASE64_STANDARD};

/// Where machines run.
pub trait Host: Debug + Send + Sync {
    /// Turns a machine on.
    fn start(&self, machine: &Spec) -> Box<dyn Power>;
}

/// A machine that is on, until this is dropped.
pub trait Power: Debug + Send + Sync {
    /// Restarts it in good order.
    fn reboot(&self);
}

/// What a machine was made with.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    pub id: String,
    pub address: String,
    pub user_data: String,
    /// Empty as long as there is none.
    pub volume: String,
}

#[derive(Debug, Default)]
struct Machine {
    spec: Spec,
    power: Option<Box<dyn Power>>,
}

/// All machines.
#[derive(Clone, Debug)]
pub struct Machines {
    /// None: they never start.
    host: Option<Arc<dyn Host>>,
    all: Arc<Mutex<BTreeMap<String, Machine>>>,
}

/// What stands between two texts.
pub fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split_once(end).map(|(part, _)| part)
}

impl Machines {
    pub fn new(host: Option<Arc<dyn Host>>) -> Machines {
        Machines { host, all: Arc::default() }
    }

    /// Sees what moto was told, and does it.
    pub fn look(&self, action: &str, form: &[(String, String)], answer: &str) {
        let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let ids = || form.iter().filter(|(key, _)| key.starts_with("InstanceId")).map(|(_, id)| id.clone());
        let mut all = self.all.lock().unwrap();
        match action {
            "ec2:RunInstances" => {
                let said = |name: &str| between(answer, &format!("<{name}>"), &format!("</{name}>"));
                let id = said("instanceId").unwrap().to_owned();
                let address = said("privateIpAddress").unwrap().to_owned();
                let user_data = BASE64_STANDARD.decode(field("UserData").unwrap()).unwrap();
                let user_data = String::from_utf8(user_data).unwrap();
                let spec = Spec { id: id.clone(), address, user_data, volume: String::new() };
                all.insert(id, Machine { spec, power: None });
            }
            "ec2:AttachVolume" => {
                let machine = all.get_mut(&field("InstanceId").unwrap()).unwrap();
                machine.spec.volume = field("VolumeId").unwrap();
                self.boot(machine);
            }
            "ec2:RebootInstances" => {
                for id in ids() {
                    let machine = all.get_mut(&id).unwrap();
                    match &machine.power {
                        Some(power) => power.reboot(),
                        None => self.boot(machine),
                    }
                }
            }
            "ec2:TerminateInstances" => {
                for id in ids() {
                    all.remove(&id);
                }
            }
            _ => {}
        }
    }

    /// A machine loses its power.
    pub fn kill(&self, server: usize) {
        self.with(server, |machine| machine.power = None);
    }

    /// A machine has its power again.
    pub fn revive(&self, server: usize) {
        self.with(server, |machine| self.boot(machine));
    }

    fn with(&self, server: usize, then: impl FnOnce(&mut Machine)) {
        let mut all = self.all.lock().unwrap();
        let text = format!("nodes/{server} ");
        then(all.values_mut().find(|machine| machine.spec.user_data.contains(&text)).unwrap());
    }

    /// Starts a machine, or starts it again.
    fn boot(&self, machine: &mut Machine) {
        machine.power = None;
        let Some(host) = &self.host else { return };
        let Spec { user_data, volume, .. } = &machine.spec;
        // The user data names the volume that it waits for.
        assert!(user_data.contains(&volume.replace('-', "")), "{user_data}");
        machine.power = Some(host.start(&machine.spec));
    }
}
