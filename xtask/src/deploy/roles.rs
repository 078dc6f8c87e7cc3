//! Roles with their policies, the servers' instance profile, and the log group.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_iam::types::Tag;
use serde_json::Value;

use super::{
    aws::{Aws, Failed, ask, insist, unless},
    names::TAG,
    plan::{Resource, Role},
    policy,
};
use crate::Error;

/// What IAM says of what isn't there.
const NONE: &str = "NoSuchEntity";
/// How long a new role may be unknown to the rest of IAM.
const KNOWN: Duration = Duration::from_secs(60);
/// How many days the functions' log is kept.
const LOG_DAYS: i32 = 30;

/// A role of a deployment.
#[derive(Clone, Copy, Debug)]
pub(super) enum For {
    Function,
    Server,
}

impl For {
    fn name(self) -> &'static str {
        match self {
            For::Function => "function",
            For::Server => "server",
        }
    }

    /// Who takes it on.
    fn service(self) -> &'static str {
        match self {
            For::Function => "lambda.amazonaws.com",
            For::Server => "ec2.amazonaws.com",
        }
    }

    /// The role that a step is about, if it is about one.
    pub(super) fn of(resource: &Resource) -> Option<For> {
        match resource {
            Resource::FunctionRole => Some(For::Function),
            Resource::ServerRole => Some(For::Server),
            _ => None,
        }
    }
}

impl Aws {
    /// The tag of what is the deployment's.
    fn iam_tag(&self) -> Result<Tag, Error> {
        let tag = Tag::builder().key(TAG).value(&self.names.deployment).build();
        tag.map_err(|error| Error::Message(error.to_string()))
    }

    fn is_ours(&self, tags: &[Tag]) -> bool {
        tags.iter().any(|tag| tag.key() == TAG && tag.value() == self.names.deployment)
    }

    pub(super) async fn role(&self, of: For) -> Result<Option<Role>, Error> {
        let name = self.names.role(of.name());
        let subject = || format!("the role {name}");
        let get = self.iam.get_role().role_name(&name).send();
        let Some(found) = unless(&[NONE], ask("iam:GetRole", subject(), get).await)? else { return Ok(None) };
        let tags = found.role().map(|role| role.tags()).unwrap_or_default();
        if !self.is_ours(tags) {
            return Err(self.foreign(&subject()));
        }
        let get = self.iam.get_role_policy().role_name(&name).policy_name(policy::POLICY).send();
        let found = unless(&[NONE], ask("iam:GetRolePolicy", subject(), get).await)?;
        let policy = found.and_then(|found| {
            let text = percent_encoding::percent_decode_str(found.policy_document()).decode_utf8().ok()?;
            serde_json::from_str(&text).ok()
        });
        Ok(Some(Role { policy }))
    }

    /// Makes the role if it isn't there, and gives it its policy.
    pub(super) async fn put_role(&self, of: For, allows: &Value) -> Result<(), Error> {
        let name = self.names.role(of.name());
        let subject = || format!("the role {name}");
        let create = self
            .iam
            .create_role()
            .role_name(&name)
            .description(format!(
                "Of the {}s of the deployment {} of crucial",
                of.name(),
                self.names.deployment
            ))
            .assume_role_policy_document(policy::trust(of.service()).to_string())
            .tags(self.iam_tag()?);
        unless(&["EntityAlreadyExists"], ask("iam:CreateRole", subject(), create.send()).await)?;
        // `CreateRole` is not allowed to tag without this permission.
        let put = self.iam.put_role_policy().role_name(&name).policy_name(policy::POLICY);
        let put = put.policy_document(allows.to_string());
        insist(
            KNOWN,
            |failed| failed.is(&[NONE]),
            async || ask("iam:PutRolePolicy", subject(), put.clone().send()).await,
        )
        .await?;
        Ok(())
    }

    pub(super) async fn delete_role(&self, of: For) -> Result<(), Error> {
        let name = self.names.role(of.name());
        let subject = || format!("the role {name}");
        let delete = self.iam.delete_role_policy().role_name(&name).policy_name(policy::POLICY).send();
        unless(&[NONE], ask("iam:DeleteRolePolicy", subject(), delete).await)?;
        let delete = self.iam.delete_role().role_name(&name);
        let conflicts = |failed: &Failed| failed.is(&["DeleteConflict"]);
        let deleted =
            insist(KNOWN, conflicts, async || ask("iam:DeleteRole", subject(), delete.clone().send()).await);
        unless(&[NONE], deleted.await)?;
        Ok(())
    }

    /// The name of the servers' instance profile.
    pub(super) fn profile_name(&self) -> String {
        self.names.role(For::Server.name())
    }

    /// The ARN of the functions' role.
    pub(super) fn function_role_arn(&self) -> String {
        let name = self.names.role(For::Function.name());
        format!("arn:{}:iam::{}:role/{name}", self.names.partition(), self.names.account)
    }

    /// Whether the profile has its role, if there is one.
    pub(super) async fn profile(&self) -> Result<Option<bool>, Error> {
        let name = self.profile_name();
        let subject = format!("the instance profile {name}");
        let get = self.iam.get_instance_profile().instance_profile_name(&name).send();
        let found = unless(&[NONE], ask("iam:GetInstanceProfile", &*subject, get).await)?;
        let Some(profile) = found.and_then(|found| found.instance_profile) else { return Ok(None) };
        if !self.is_ours(profile.tags()) {
            return Err(self.foreign(&subject));
        }
        Ok(Some(profile.roles().iter().any(|role| role.role_name() == name)))
    }

    /// Makes the profile if it isn't there, and gives it its role.
    pub(super) async fn put_profile(&self) -> Result<(), Error> {
        let name = self.profile_name();
        let subject = || format!("the instance profile {name}");
        let create = self.iam.create_instance_profile().instance_profile_name(&name).tags(self.iam_tag()?);
        unless(&["EntityAlreadyExists"], ask("iam:CreateInstanceProfile", subject(), create.send()).await)?;
        let add = self.iam.add_role_to_instance_profile().instance_profile_name(&name).role_name(&name);
        let added = insist(
            KNOWN,
            |failed| failed.is(&[NONE]),
            async || ask("iam:AddRoleToInstanceProfile", subject(), add.clone().send()).await,
        );
        // A profile has one role: it is there.
        unless(&["LimitExceeded"], added.await)?;
        Ok(())
    }

    pub(super) async fn delete_profile(&self) -> Result<(), Error> {
        let name = self.profile_name();
        let subject = || format!("the instance profile {name}");
        let remove =
            self.iam.remove_role_from_instance_profile().instance_profile_name(&name).role_name(&name);
        unless(&[NONE], ask("iam:RemoveRoleFromInstanceProfile", subject(), remove.send()).await)?;
        let delete = self.iam.delete_instance_profile().instance_profile_name(&name).send();
        unless(&[NONE], ask("iam:DeleteInstanceProfile", subject(), delete).await)?;
        Ok(())
    }

    pub(super) async fn has_log_group(&self) -> Result<bool, Error> {
        let name = self.names.log_group();
        let describe = self.logs.describe_log_groups().log_group_name_prefix(&name).send();
        let found = ask("logs:DescribeLogGroups", format!("the log group {name}"), describe).await?;
        Ok(found.log_groups().iter().any(|group| group.log_group_name() == Some(&name)))
    }

    /// Lambda would make it by itself, to be kept for ever, and nobody would remove it.
    pub(super) async fn create_log_group(&self) -> Result<(), Error> {
        let name = self.names.log_group();
        let subject = || format!("the log group {name}");
        let create = self.logs.create_log_group().log_group_name(&name).tags(TAG, &self.names.deployment);
        unless(
            &["ResourceAlreadyExistsException"],
            ask("logs:CreateLogGroup", subject(), create.send()).await,
        )?;
        let keep = self.logs.put_retention_policy().log_group_name(&name).retention_in_days(LOG_DAYS);
        ask("logs:PutRetentionPolicy", subject(), keep.send()).await?;
        Ok(())
    }

    pub(super) async fn delete_log_group(&self) -> Result<(), Error> {
        let name = self.names.log_group();
        let delete = self.logs.delete_log_group().log_group_name(&name).send();
        let deleted = ask("logs:DeleteLogGroup", format!("the log group {name}"), delete).await;
        unless(&["ResourceNotFoundException"], deleted)?;
        Ok(())
    }

    /// Gives each line that was logged since then to `show`, with its time in milliseconds since 1970.
    pub(super) async fn log(
        &self,
        since: SystemTime,
        with: Option<&str>,
        mut show: impl FnMut(i64, &str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let since = since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let name = self.names.log_group();
        let mut next = None;
        loop {
            let filter = self.logs.filter_log_events().log_group_name(&name);
            let filter = filter.start_time(i64::try_from(since).unwrap_or(0)).set_next_token(next);
            // In quotes it is a text, not a pattern.
            let filter =
                filter.set_filter_pattern(with.map(|text| format!("\"{}\"", text.replace('"', "\\\""))));
            let page = ask("logs:FilterLogEvents", format!("the log group {name}"), filter.send()).await?;
            for event in page.events() {
                show(event.timestamp().unwrap_or(0), event.message().unwrap_or_default())?;
            }
            next = page.next_token;
            if next.is_none() {
                return Ok(());
            }
        }
    }
}
