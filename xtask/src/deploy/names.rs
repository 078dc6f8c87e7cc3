//! What things are called on AWS.

use crate::Error;

/// The tag that everything of a deployment has; its value is the deployment's name.
pub(super) const TAG: &str = "crucial:deployment";
/// The tag of a server's instance and volume with the server's number.
pub(super) const SERVER: &str = "crucial:server";
/// The tag of an instance with a digest of what it was started with.
pub(super) const SETUP: &str = "crucial:setup";
/// The tag of an instance with the digest of the file that says what it runs.
pub(super) const RUNS: &str = "crucial:runs";
/// The tag of a volume whose server was seen in the cluster.
pub(super) const JOINED: &str = "crucial:joined";
/// The tag of a volume with the private address of its server.
pub(super) const ADDRESS: &str = "crucial:address";
/// The port of the servers.
pub(super) const PORT: u16 = 7878;

/// The names of one deployment in one region of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) deployment: String,
    pub(super) region: String,
    pub(super) account: String,
}

impl Names {
    /// Bucket names are the narrowest: 63 characters with account and region, none in upper case.
    pub(super) fn check(deployment: &str) -> Result<(), Error> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if deployment.is_empty()
            || deployment.len() > 20
            || !deployment.bytes().all(fits)
            || deployment.starts_with('-')
            || deployment.ends_with('-')
        {
            return Err(Error::Message(format!(
                "a deployment can't be called `{deployment}`: choose with --name at most 20 lower-case letters, digits, and \
                 hyphens between them"
            )));
        }
        Ok(())
    }

    pub(super) fn function(&self) -> String {
        format!("crucial-{}", self.deployment)
    }

    pub(super) fn function_arn(&self) -> String {
        format!(
            "arn:{}:lambda:{}:{}:function:{}",
            self.partition(),
            self.region,
            self.account,
            self.function()
        )
    }

    pub(super) fn log_group(&self) -> String {
        format!("/aws/lambda/{}", self.function())
    }

    pub(super) fn log_group_arn(&self) -> String {
        format!(
            "arn:{}:logs:{}:{}:log-group:{}",
            self.partition(),
            self.region,
            self.account,
            self.log_group()
        )
    }

    /// Bucket names are those of the whole world.
    pub(super) fn bucket(&self) -> String {
        format!("crucial-{}-{}-{}", self.deployment, self.account, self.region)
    }

    pub(super) fn bucket_arn(&self) -> String {
        format!("arn:{}:s3:::{}", self.partition(), self.bucket())
    }

    /// Roles have no region.
    pub(super) fn role(&self, of: &str) -> String {
        format!("crucial-{}-{}-{of}", self.deployment, self.region)
    }

    pub(super) fn group(&self, of: &str) -> String {
        format!("crucial-{}-{of}", self.deployment)
    }

    /// What the console shows of a server and of what it has.
    pub(super) fn server(&self, server: usize) -> String {
        format!("{} {server}", self.group("server"))
    }

    pub(super) fn partition(&self) -> &'static str {
        match &self.region {
            region if region.starts_with("cn-") => "aws-cn",
            region if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_names_fit() {
        let names = Names {
            deployment: "x".repeat(20),
            region: "ap-southeast-1".to_owned(),
            account: "123456789012".to_owned(),
        };
        assert!(Names::check(&names.deployment).is_ok());
        assert!(names.bucket().len() <= 63);
        assert!(names.role("function").len() <= 64);
        assert!(names.function().len() <= 64);
        for bad in ["", "Prod", "a_b", "-a", "a-", &"x".repeat(21)] {
            assert!(Names::check(bad).unwrap_err().to_string().contains("--name"));
        }
    }
}
