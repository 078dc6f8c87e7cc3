//! The network, and the security groups that say who may connect to the servers.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_sdk_ec2::types::{
    Filter, IpPermission, IpRange, Ipv6Range, ResourceType, SecurityGroup, Tag, TagSpecification,
    UserIdGroupPair,
};

use super::{
    Args,
    aws::{Aws, Failed, ask, insist, unless},
    names::{PORT, TAG},
    plan::{Group, Side, Source},
};
use crate::Error;

/// How long a group that was made may be unknown.
const KNOWN: Duration = Duration::from_secs(60);
/// How long something may hold on to a group: Lambda takes up to 40 minutes to take its interfaces away from a network.
const HELD: Duration = Duration::from_secs(45 * 60);

/// Where servers and functions are.
#[derive(Clone, Debug)]
pub(super) struct Network {
    pub(super) vpc: String,
    pub(super) subnets: Vec<Subnet>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subnet {
    pub(super) id: String,
    pub(super) zone: String,
}

/// A filter of EC2.
pub(super) fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}

/// The tags of something that is to be made.
pub(super) fn tags(kind: ResourceType, tags: &[(&str, &str)]) -> TagSpecification {
    let tags = tags.iter().map(|(key, value)| Tag::builder().key(*key).value(*value).build()).collect();
    TagSpecification::builder().resource_type(kind).set_tags(Some(tags)).build()
}

impl Aws {
    /// Those that were asked for, or the default ones.
    pub(super) async fn network(&self, args: &Args) -> Result<Network, Error> {
        let vpc = match &args.vpc {
            Some(vpc) => vpc.clone(),
            None => self.default_vpc().await?,
        };
        let describe = self.ec2.describe_subnets().filters(filter("vpc-id", &vpc));
        let found = ask("ec2:DescribeSubnets", format!("the subnets of {vpc}"), describe.send()).await?;
        let mut subnets: Vec<_> = found
            .subnets()
            .iter()
            .filter(|subnet| match &args.subnets[..] {
                [] => subnet.default_for_az() == Some(true),
                chosen => chosen.iter().any(|id| subnet.subnet_id() == Some(id)),
            })
            .map(|subnet| Subnet {
                id: subnet.subnet_id().unwrap_or_default().to_owned(),
                zone: subnet.availability_zone().unwrap_or_default().to_owned(),
            })
            .collect();
        if subnets.is_empty() || subnets.len() < args.subnets.len() {
            let ids: Vec<_> = found.subnets().iter().filter_map(|subnet| subnet.subnet_id()).collect();
            return Err(Error::Message(format!(
                "the network {vpc} has not all of these subnets, or none by default: choose from {} with --vpc and --subnets",
                ids.join(", ")
            )));
        }
        subnets.sort_by(|a, b| (&a.zone, &a.id).cmp(&(&b.zone, &b.id)));
        // One for each zone: a server comes back to the subnet of its address, which its volume's zone tells.
        subnets.dedup_by(|a, b| a.zone == b.zone);
        Ok(Network { vpc, subnets })
    }

    async fn default_vpc(&self) -> Result<String, Error> {
        let describe = self.ec2.describe_vpcs().filters(filter("is-default", "true")).send();
        let found = ask("ec2:DescribeVpcs", "the default VPC", describe).await?;
        found.vpcs().first().and_then(|vpc| vpc.vpc_id()).map(str::to_owned).ok_or_else(|| {
            Error::Message(format!(
                "there is no default VPC in {}: make one (`aws ec2 create-default-vpc`), or choose a network with --vpc and \
                 --subnets",
                self.names.region
            ))
        })
    }

    async fn described_groups(&self) -> Result<Vec<SecurityGroup>, Failed> {
        let of = format!("tag:{TAG}");
        let describe = self.ec2.describe_security_groups().filters(filter(&of, &self.names.deployment));
        let found = ask("ec2:DescribeSecurityGroups", "the security groups", describe.send()).await?;
        Ok(found.security_groups.unwrap_or_default())
    }

    /// The groups of the deployment, and who may connect to their members.
    pub(super) async fn groups(&self) -> Result<BTreeMap<Side, Group>, Error> {
        let found = self.described_groups().await?;
        let id = |group: &SecurityGroup| group.group_id().unwrap_or_default().to_owned();
        let side = |group: &SecurityGroup| {
            Side::ALL.into_iter().find(|side| group.group_name() == Some(&self.names.group(side.text())))
        };
        let sides: BTreeMap<String, Side> =
            found.iter().filter_map(|group| Some((id(group), side(group)?))).collect();
        let groups = found.iter().filter_map(|group| {
            let sources =
                group.ip_permissions().iter().flat_map(|permission| sources(permission, &sides)).collect();
            Some((side(group)?, Group { id: id(group), sources }))
        });
        Ok(groups.collect())
    }

    pub(super) async fn create_group(&self, side: Side, vpc: &str) -> Result<String, Error> {
        let name = self.names.group(side.text());
        let subject = format!("the security group {name}");
        let description = match side {
            Side::Client => "Machines that may connect to the servers of a deployment of crucial",
            Side::Function => "Functions of a deployment of crucial",
            Side::Server => "Servers of a deployment of crucial",
        };
        let create = self
            .ec2
            .create_security_group()
            .group_name(&name)
            .description(description)
            .vpc_id(vpc)
            .tag_specifications(tags(
                ResourceType::SecurityGroup,
                &[(TAG, &self.names.deployment), ("Name", &name)],
            ));
        match ask("ec2:CreateSecurityGroup", &*subject, create.send()).await {
            Ok(created) => Ok(created.group_id.unwrap_or_default()),
            Err(failed) if failed.is(&["InvalidGroup.Duplicate"]) => Err(self.foreign(&subject)),
            Err(failed) => Err(failed.into()),
        }
    }

    /// Lets these connect to the members of a group, and nobody else.
    pub(super) async fn admit(
        &self,
        side: Side,
        groups: &BTreeMap<Side, Group>,
        sources: &BTreeSet<Source>,
    ) -> Result<(), Error> {
        let Some(group) = groups.get(&side) else { return Ok(()) };
        let subject = || format!("the security group {}", self.names.group(side.text()));
        if !group.sources.is_subset(sources) {
            let found = self.described_groups().await?;
            let old = found.into_iter().find(|found| found.group_id() == Some(&group.id));
            let revoke = self.ec2.revoke_security_group_ingress().group_id(&group.id);
            let revoke = revoke.set_ip_permissions(old.and_then(|old| old.ip_permissions));
            ask("ec2:RevokeSecurityGroupIngress", subject(), revoke.send()).await?;
        }
        for source in sources {
            let rule = IpPermission::builder().ip_protocol("tcp").from_port(PORT.into()).to_port(PORT.into());
            let rule = match source {
                Source::Group(side) => {
                    let id = groups.get(side).map(|group| group.id.clone());
                    rule.user_id_group_pairs(UserIdGroupPair::builder().set_group_id(id).build())
                }
                Source::Cidr(cidr) if cidr.contains(':') => {
                    rule.ipv6_ranges(Ipv6Range::builder().cidr_ipv6(cidr).build())
                }
                Source::Cidr(cidr) => rule.ip_ranges(IpRange::builder().cidr_ip(cidr).build()),
                Source::Other(_) => continue,
            };
            let admit =
                self.ec2.authorize_security_group_ingress().group_id(&group.id).ip_permissions(rule.build());
            let admitted = insist(
                KNOWN,
                |failed| failed.is(&["InvalidGroup.NotFound", "InvalidGroupId.NotFound"]),
                async || ask("ec2:AuthorizeSecurityGroupIngress", subject(), admit.clone().send()).await,
            );
            unless(&["InvalidPermission.Duplicate"], admitted.await)?;
        }
        Ok(())
    }

    /// Removes a group, as soon as nothing has it any more.
    pub(super) async fn delete_group(&self, side: Side, id: &str) -> Result<(), Error> {
        let delete = self.ec2.delete_security_group().group_id(id);
        let deleted = insist(
            HELD,
            |failed| failed.is(&["DependencyViolation"]),
            async || {
                let subject = format!("the security group {}", self.names.group(side.text()));
                ask("ec2:DeleteSecurityGroup", subject, delete.clone().send()).await
            },
        );
        unless(&["InvalidGroup.NotFound", "InvalidGroupId.NotFound"], deleted.await)?;
        Ok(())
    }
}

/// Whom a rule lets in.
fn sources(rule: &IpPermission, sides: &BTreeMap<String, Side>) -> Vec<Source> {
    let port = Some(i32::from(PORT));
    if rule.ip_protocol() != Some("tcp") || rule.from_port() != port || rule.to_port() != port {
        return vec![Source::Other(format!("{rule:?}"))];
    }
    let groups = rule.user_id_group_pairs().iter().map(|pair| {
        let id = pair.group_id().unwrap_or_default();
        sides.get(id).map_or_else(|| Source::Other(id.to_owned()), |side| Source::Group(*side))
    });
    let ranges =
        rule.ip_ranges().iter().map(|range| Source::Cidr(range.cidr_ip().unwrap_or_default().to_owned()));
    let six =
        rule.ipv6_ranges().iter().map(|range| Source::Cidr(range.cidr_ipv6().unwrap_or_default().to_owned()));
    groups.chain(ranges).chain(six).collect()
}
