//! The servers: an EC2 instance with a data volume each.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_ec2::types::{
    self as ec2, BlockDeviceMapping, EbsBlockDevice, HttpTokensState, IamInstanceProfileSpecification,
    InstanceMetadataOptionsRequest, InstanceNetworkInterfaceSpecification, InstanceStateName, InstanceType,
    ResourceType, Tag, VolumeState, VolumeType,
};
use base64::{Engine, prelude::BASE64_STANDARD};

use super::{
    archive,
    aws::{Aws, Failed, ask, insist, unless, wait},
    names::{ADDRESS, JOINED, Names, PORT, RUNS, SERVER, SETUP, TAG},
    network::{Subnet, filter, tags},
    plan::{Elastic, Instance, Server, Volume},
};
use crate::Error;

/// How long a machine or a volume may take to be there, or to be gone.
const READY: Duration = Duration::from_secs(300);
/// How long a new instance profile may be unknown to EC2.
const KNOWN: Duration = Duration::from_secs(120);
/// The name of the data volume on the machine, which the Nitro system doesn't use.
const DEVICE: &str = "/dev/sdf";
/// The size of a root volume in GiB: that of the image.
pub(super) const ROOT: i32 = 8;
/// The owner of Amazon's images.
const AMAZON: &str = "amazon";
/// Amazon Linux 2023 for x86-64, not the minimal one: that has no AWS CLI.
const IMAGES: &str = "al2023-ami-2023.*-kernel-6.1-x86_64";

/// What a machine runs when it starts for the first time. The volume's id is not known before it is made.
fn user_data(names: &Names, server: usize, volume: &str) -> String {
    include_str!("user-data.sh")
        .replace("@DEPLOYMENT@", &names.deployment)
        .replace("@REGION@", &names.region)
        .replace("@BUCKET@", &names.bucket())
        .replace("@SERVER@", &server.to_string())
        .replace("@PORT@", &PORT.to_string())
        // Its serial number has no hyphen.
        .replace("@VOLUME@", &volume.replace('-', ""))
}

/// A digest of all that makes a machine what it is, but its type.
pub(super) fn setup(names: &Names, server: usize, private: bool) -> String {
    archive::hex(format!("{private} {}", user_data(names, server, "")).as_bytes())[..16].to_owned()
}

/// Spreads servers over subnets, and so over zones; one that has a volume is where that is.
pub(super) fn place<'a>(subnets: &'a [Subnet], server: usize, volume: Option<&Volume>) -> Option<&'a Subnet> {
    match volume {
        Some(volume) => subnets.iter().find(|subnet| subnet.zone == volume.zone),
        None => subnets.get(server % subnets.len().max(1)),
    }
}

/// What a new machine needs to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine<'a> {
    pub(super) server: usize,
    pub(super) is: &'a Server,
    pub(super) image: &'a str,
    pub(super) volume: &'a Volume,
    pub(super) group: &'a str,
    pub(super) runs: &'a str,
}

fn tag<'a>(tags: &'a [Tag], key: &str) -> Option<&'a str> {
    tags.iter().find(|tag| tag.key() == Some(key)).and_then(|tag| tag.value())
}

fn number(tags: &[Tag]) -> Option<usize> {
    tag(tags, SERVER)?.parse().ok()
}

impl Aws {
    fn ours(&self) -> ec2::Filter {
        filter(&format!("tag:{TAG}"), &self.names.deployment)
    }

    /// The data volumes.
    pub(super) async fn volumes(&self) -> Result<Vec<Volume>, Error> {
        let describe = self.ec2.describe_volumes().filters(self.ours()).send();
        let mut found =
            ask("ec2:DescribeVolumes", "the data volumes", describe).await?.volumes.unwrap_or_default();
        found.sort_by_key(|volume| volume.create_time().map(|time| time.as_nanos()));
        let there = found.iter().filter(|volume| {
            !matches!(volume.state(), Some(VolumeState::Deleting | VolumeState::Deleted | VolumeState::Error))
        });
        let volumes = there.filter_map(|volume| {
            Some(Volume {
                id: volume.volume_id()?.to_owned(),
                // Root volumes have no number.
                server: number(volume.tags())?,
                zone: volume.availability_zone().unwrap_or_default().to_owned(),
                instance: volume.attachments().first().and_then(|a| a.instance_id()).map(str::to_owned),
                joined: tag(volume.tags(), JOINED).is_some(),
                address: tag(volume.tags(), ADDRESS).map(str::to_owned),
            })
        });
        Ok(volumes.collect())
    }

    /// The machines, but those that are about to end.
    pub(super) async fn instances(&self, private: bool) -> Result<Vec<Instance>, Error> {
        let mut found = self.described_instances().await?;
        found.sort_by_key(|instance| instance.launch_time().map(|time| time.as_nanos()));
        let instances = found.iter().filter_map(|instance| {
            let state = instance.state().and_then(|state| state.name())?;
            if matches!(state, InstanceStateName::Terminated | InstanceStateName::ShuttingDown) {
                return None;
            }
            let tags = instance.tags();
            let public = instance.public_dns_name().filter(|name| !name.is_empty() && !private);
            Some(Instance {
                id: instance.instance_id()?.to_owned(),
                server: number(tags)?,
                instance_type: instance
                    .instance_type()
                    .map(|kind| kind.as_str().to_owned())
                    .unwrap_or_default(),
                setup: tag(tags, SETUP).unwrap_or_default().to_owned(),
                runs: tag(tags, RUNS).unwrap_or_default().to_owned(),
                stopped: matches!(state, InstanceStateName::Stopped | InstanceStateName::Stopping),
                // Inside the network, the public name means the private address.
                host: public.or(instance.private_ip_address()).unwrap_or_default().to_owned(),
            })
        });
        Ok(instances.collect())
    }

    async fn described_instances(&self) -> Result<Vec<ec2::Instance>, Failed> {
        let mut instances = Vec::new();
        let mut next = None;
        loop {
            let describe = self.ec2.describe_instances().filters(self.ours()).set_next_token(next);
            let page = ask("ec2:DescribeInstances", "the servers", describe.send()).await?;
            let found = page.reservations.unwrap_or_default().into_iter();
            instances.extend(found.flat_map(|reservation| reservation.instances.unwrap_or_default()));
            next = page.next_token;
            if next.is_none() {
                return Ok(instances);
            }
        }
    }

    async fn instance_state(&self, id: &str) -> Result<Option<InstanceStateName>, Failed> {
        let found = self.described_instances().await?;
        let found = found.iter().find(|instance| instance.instance_id() == Some(id));
        Ok(found.and_then(|instance| instance.state()?.name().cloned()))
    }

    /// The newest image of Amazon Linux 2023.
    pub(super) async fn newest_image(&self) -> Result<String, Error> {
        let describe = self.ec2.describe_images().owners(AMAZON);
        let describe = describe.filters(filter("name", IMAGES)).filters(filter("state", "available"));
        let found = ask("ec2:DescribeImages", "the images of Amazon Linux 2023", describe.send()).await?;
        let newest = found.images().iter().max_by_key(|image| (image.creation_date(), image.name()));
        newest.and_then(|image| image.image_id()).map(str::to_owned).ok_or_else(|| {
            Error::Message(format!(
                "there is no image {IMAGES} of Amazon in {}: give one with --image",
                self.names.region
            ))
        })
    }

    pub(super) async fn create_volume(&self, server: usize, is: &Server) -> Result<Volume, Error> {
        let name = self.names.server(server);
        let number = server.to_string();
        let create = self
            .ec2
            .create_volume()
            .availability_zone(&is.zone)
            .size(is.volume)
            .volume_type(VolumeType::Gp3)
            .encrypted(true)
            .tag_specifications(tags(
                ResourceType::Volume,
                &[(TAG, &self.names.deployment), (SERVER, &number), ("Name", &name)],
            ));
        let made = ask("ec2:CreateVolume", format!("the volume of server {server}"), create.send()).await?;
        Ok(Volume {
            id: made.volume_id.unwrap_or_default(),
            server,
            zone: is.zone.clone(),
            instance: None,
            joined: false,
            address: None,
        })
    }

    pub(super) async fn delete_volume(&self, id: &str) -> Result<(), Error> {
        let delete = self.ec2.delete_volume().volume_id(id);
        // Its machine has ended, but may still hold it.
        let deleted = insist(
            READY,
            |failed| failed.is(&["VolumeInUse"]),
            async || ask("ec2:DeleteVolume", format!("the volume {id}"), delete.clone().send()).await,
        );
        unless(&["InvalidVolume.NotFound"], deleted.await)?;
        Ok(())
    }

    /// Starts a machine, and returns its id.
    pub(super) async fn run_instance(&self, machine: Machine<'_>) -> Result<String, Error> {
        let Machine { server, is, .. } = machine;
        let name = self.names.server(server);
        let number = server.to_string();
        let interface = InstanceNetworkInterfaceSpecification::builder()
            .device_index(0)
            .subnet_id(&is.subnet)
            .groups(machine.group)
            // A public address of its own comes later.
            .associate_public_ip_address(false)
            .set_private_ip_address(machine.volume.address.clone())
            .delete_on_termination(true);
        let root = EbsBlockDevice::builder()
            .volume_size(ROOT)
            .encrypted(true)
            .volume_type(VolumeType::Gp3)
            .delete_on_termination(true);
        let run = self
            .ec2
            .run_instances()
            .min_count(1)
            .max_count(1)
            .image_id(machine.image)
            .instance_type(InstanceType::from(&*is.instance_type))
            .iam_instance_profile(
                IamInstanceProfileSpecification::builder().name(self.profile_name()).build(),
            )
            .network_interfaces(interface.build())
            .block_device_mappings(
                BlockDeviceMapping::builder().device_name("/dev/xvda").ebs(root.build()).build(),
            )
            .metadata_options(
                InstanceMetadataOptionsRequest::builder().http_tokens(HttpTokensState::Required).build(),
            )
            .user_data(BASE64_STANDARD.encode(user_data(&self.names, server, &machine.volume.id)))
            .tag_specifications(tags(
                ResourceType::Instance,
                &[
                    (TAG, &self.names.deployment),
                    (SERVER, &number),
                    (SETUP, &is.setup),
                    (RUNS, machine.runs),
                    ("Name", &name),
                ],
            ))
            // The root volume; without a number, it isn't taken for data.
            .tag_specifications(tags(
                ResourceType::Volume,
                &[(TAG, &self.names.deployment), ("Name", &name)],
            ));
        // A new instance profile is not known at once.
        let unknown =
            |failed: &Failed| failed.is(&["InvalidParameterValue"]) && failed.says("Instance Profile");
        let unknown = |failed: &Failed| {
            unknown(failed) || failed.is(&["InvalidGroup.NotFound", "InvalidGroupId.NotFound"])
        };
        let made = insist(KNOWN, unknown, async || {
            ask("ec2:RunInstances", format!("server {server}"), run.clone().send()).await
        })
        .await?;
        let instance = made.instances().first().and_then(|instance| instance.instance_id());
        instance
            .map(str::to_owned)
            .ok_or_else(|| Error::Message(format!("server {server}: AWS has started nothing")))
    }

    /// The public addresses.
    pub(super) async fn elastic(&self) -> Result<BTreeMap<usize, Elastic>, Error> {
        let describe = self.ec2.describe_addresses().filters(self.ours()).send();
        let found = ask("ec2:DescribeAddresses", "the public addresses", describe).await?;
        let addresses = found.addresses().iter().filter_map(|address| {
            let instance = address.instance_id().filter(|id| !id.is_empty()).map(str::to_owned);
            Some((number(address.tags())?, Elastic { id: address.allocation_id()?.to_owned(), instance }))
        });
        Ok(addresses.collect())
    }

    pub(super) async fn create_elastic(&self, server: usize) -> Result<Elastic, Error> {
        let number = server.to_string();
        let name = self.names.server(server);
        let allocate = self.ec2.allocate_address().domain(ec2::DomainType::Vpc).tag_specifications(tags(
            ResourceType::ElasticIp,
            &[(TAG, &self.names.deployment), (SERVER, &number), ("Name", &name)],
        ));
        let subject = format!("the public address of server {server}");
        let made = ask("ec2:AllocateAddress", subject, allocate.send()).await?;
        Ok(Elastic { id: made.allocation_id.unwrap_or_default(), instance: None })
    }

    pub(super) async fn associate(&self, elastic: &str, instance: &str) -> Result<(), Error> {
        let associate = self.ec2.associate_address().allocation_id(elastic).instance_id(instance);
        let associate = associate.allow_reassociation(true).send();
        ask("ec2:AssociateAddress", format!("the public address of {instance}"), associate).await?;
        Ok(())
    }

    pub(super) async fn release(&self, elastic: &str) -> Result<(), Error> {
        let release = self.ec2.release_address().allocation_id(elastic);
        // Its machine has ended, but may still have it.
        let released = insist(
            READY,
            |failed| failed.is(&["InvalidIPAddress.InUse"]),
            async || {
                ask("ec2:ReleaseAddress", format!("the public address {elastic}"), release.clone().send())
                    .await
            },
        );
        unless(&["InvalidAllocationID.NotFound"], released.await)?;
        Ok(())
    }

    /// Waits until a machine runs, and notes the private address that its server has from now on.
    pub(super) async fn await_running(&self, instance: &str, volume: &Volume) -> Result<(), Error> {
        self.await_state(instance, InstanceStateName::Running).await?;
        let found = self.described_instances().await?;
        let found = found.iter().find(|found| found.instance_id() == Some(instance));
        match found.and_then(|found| found.private_ip_address()) {
            Some(address) if volume.address.as_deref() != Some(address) => {
                self.tag(std::slice::from_ref(&volume.id), ADDRESS, address).await
            }
            _ => Ok(()),
        }
    }

    /// Gives a machine its volume, as soon as that is there.
    pub(super) async fn attach(&self, volume: &str, instance: &str) -> Result<(), Error> {
        let attach = self.ec2.attach_volume().volume_id(volume).instance_id(instance).device(DEVICE);
        // Until it is made, or another machine that has ended gives it back.
        let busy = |failed: &Failed| failed.is(&["IncorrectState", "VolumeInUse", "InvalidVolume.NotFound"]);
        insist(READY, busy, async || {
            ask("ec2:AttachVolume", format!("the volume {volume}"), attach.clone().send()).await
        })
        .await?;
        Ok(())
    }

    async fn await_state(&self, instance: &str, state: InstanceStateName) -> Result<(), Error> {
        wait(READY, &format!("the instance {instance} is not yet {state}"), async || {
            let is = self.instance_state(instance).await?;
            // What has ended is not shown for ever.
            let gone = is.is_none() && state == InstanceStateName::Terminated;
            if is == Some(InstanceStateName::Terminated) && state != InstanceStateName::Terminated {
                return Err(Error::Message(format!(
                    "the instance {instance} has ended by itself: the EC2 console says why, under its state"
                )));
            }
            Ok((gone || is.as_ref() == Some(&state)).then_some(()))
        })
        .await
    }

    /// Starts a machine that was stopped.
    pub(super) async fn start_instance(&self, id: &str) -> Result<(), Error> {
        self.await_state(id, InstanceStateName::Stopped).await?;
        let start = self.ec2.start_instances().instance_ids(id).send();
        ask("ec2:StartInstances", format!("the instance {id}"), start).await?;
        self.await_state(id, InstanceStateName::Running).await
    }

    pub(super) async fn reboot_instance(&self, id: &str) -> Result<(), Error> {
        let reboot = self.ec2.reboot_instances().instance_ids(id).send();
        ask("ec2:RebootInstances", format!("the instance {id}"), reboot).await?;
        Ok(())
    }

    /// Ends machines, and waits until they have ended.
    pub(super) async fn terminate(&self, ids: &[String]) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let terminate = self.ec2.terminate_instances().set_instance_ids(Some(ids.to_vec())).send();
        unless(
            &["InvalidInstanceID.NotFound"],
            ask("ec2:TerminateInstances", "the servers", terminate).await,
        )?;
        for id in ids {
            self.await_state(id, InstanceStateName::Terminated).await?;
        }
        Ok(())
    }

    /// Notes which program a machine runs.
    pub(super) async fn note_runs(&self, instance: &str, binary: &str) -> Result<(), Error> {
        self.tag(&[instance.to_owned()], RUNS, binary).await
    }

    /// Notes that the servers with these volumes were seen in the cluster.
    pub(super) async fn note_joined(&self, volumes: &[String]) -> Result<(), Error> {
        self.tag(volumes, JOINED, "yes").await
    }

    async fn tag(&self, ids: &[String], key: &str, value: &str) -> Result<(), Error> {
        let tag = Tag::builder().key(key).value(value).build();
        let create = self.ec2.create_tags().set_resources(Some(ids.to_vec())).tags(tag).send();
        ask("ec2:CreateTags", ids.join(", "), create).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn names() -> Names {
        Names {
            deployment: "prod".to_owned(),
            region: "eu-west-1".to_owned(),
            account: "123456789012".to_owned(),
        }
    }

    #[test]
    fn user_data_is_a_script_with_nothing_left_to_fill_in() {
        let script = user_data(&names(), 2, "vol-0123");
        assert!(!script.contains("@VOL") && !script.contains("@S") && !script.contains("@B"), "{script}");
        assert!(script.contains("Elastic_Block_Store_vol0123") && script.contains("nodes/2"), "{script}");
        // EC2 takes 16 KiB.
        assert!(script.len() < 16 << 10);
        let check = Command::new("bash").args(["-n", "-c", &script]).status().unwrap();
        assert!(check.success());
        // Another volume is no other setup; another server is.
        assert_ne!(setup(&names(), 1, false), setup(&names(), 2, false));
        assert_ne!(setup(&names(), 1, false), setup(&names(), 1, true));
    }

    #[test]
    fn servers_are_spread_over_zones_and_stay_with_their_volumes() {
        let subnets =
            ["a", "b", "c"].map(|zone| Subnet { id: format!("subnet-{zone}"), zone: zone.to_owned() });
        let zones: Vec<_> = (0..4).map(|server| &*place(&subnets, server, None).unwrap().zone).collect();
        assert_eq!(zones, ["a", "b", "c", "a"]);
        let volume = Volume {
            id: "vol-0".to_owned(),
            server: 0,
            zone: "c".to_owned(),
            instance: None,
            joined: true,
            address: None,
        };
        assert_eq!(place(&subnets, 0, Some(&volume)).unwrap().zone, "c");
        assert_eq!(place(&subnets[..2], 0, Some(&volume)), None);
    }
}
