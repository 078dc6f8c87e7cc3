//! AWS: its clients, what their errors mean to a person, and patience.

use std::{
    fmt::{self, Debug},
    time::{Duration, Instant},
};

use aws_config::{Region, SdkConfig, retry::RetryConfig};
use aws_sdk_lambda::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};

use super::names::{Names, TAG};
use crate::Error;

/// How often the SDK sends a request that is throttled or gets no answer, with growing pauses.
const ATTEMPTS: u32 = 8;
/// The pause between two looks at something that takes time: at first ...
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// ... and at last.
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// The services, with the names of one deployment.
#[derive(Clone, Debug)]
pub(super) struct Aws {
    pub(super) names: Names,
    pub(super) ec2: aws_sdk_ec2::Client,
    pub(super) iam: aws_sdk_iam::Client,
    pub(super) lambda: aws_sdk_lambda::Client,
    pub(super) logs: aws_sdk_cloudwatchlogs::Client,
    pub(super) s3: aws_sdk_s3::Client,
}

impl Aws {
    /// Connects with the settings that every AWS tool has.
    pub(super) async fn connect(deployment: &str) -> Result<Aws, Error> {
        Names::check(deployment)?;
        let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let retries = RetryConfig::standard().with_max_attempts(ATTEMPTS);
        let settings = aws_config::from_env().http_client(http).retry_config(retries).load().await;
        let region = settings.region().map(Region::to_string).ok_or_else(|| {
            Error::Message(
                "AWS_REGION is not set: set it, or `region` in the profile that AWS_PROFILE names, to the region where the \
                 program is to run"
                    .to_owned(),
            )
        })?;
        let identity = aws_sdk_sts::Client::new(&settings);
        let identity =
            ask("sts:GetCallerIdentity", "who you are", identity.get_caller_identity().send()).await?;
        let account = identity.account().unwrap_or_default().to_owned();
        let names = Names { deployment: deployment.to_owned(), region, account };
        Ok(Aws {
            names,
            ec2: aws_sdk_ec2::Client::new(&settings),
            iam: aws_sdk_iam::Client::new(&settings),
            lambda: aws_sdk_lambda::Client::new(&settings),
            logs: aws_sdk_cloudwatchlogs::Client::new(&settings),
            s3: s3(&settings),
        })
    }

    /// Something has a name that it should not have.
    pub(super) fn foreign(&self, what: &str) -> Error {
        Error::Message(format!(
            "{what} is there, but it has no tag `{TAG}` with the value `{}`, so it is somebody else's: choose another \
             --name, or remove it",
            self.names.deployment
        ))
    }
}

fn s3(settings: &SdkConfig) -> aws_sdk_s3::Client {
    // Emulators have no name for each bucket.
    let path_style = settings.endpoint_url().is_some() || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some();
    let config = aws_sdk_s3::config::Builder::from(settings).force_path_style(path_style);
    aws_sdk_s3::Client::from_conf(config.build())
}

/// A request that AWS did not do.
#[derive(Debug)]
pub(super) struct Failed {
    action: &'static str,
    subject: String,
    /// None if it never got there.
    code: Option<String>,
    message: String,
}

impl Failed {
    /// Whether the service gave one of these errors.
    pub(super) fn is(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }

    /// Whether its message has this text.
    pub(super) fn says(&self, text: &str) -> bool {
        self.message.contains(text)
    }

    fn hint(&self) -> String {
        let Some(code) = self.code.as_deref() else { return String::new() };
        if ["AccessDenied", "UnauthorizedOperation", "NotAuthorized"]
            .iter()
            .any(|denied| code.starts_with(denied))
        {
            return format!(
                ". Whoever deploys needs the permission {}: docs/aws-deploy-policy.json has all of them",
                self.action
            );
        }
        if code.contains("Expired") {
            return ". Your credentials have expired: log in again".to_owned();
        }
        if ["InvalidClientTokenId", "AuthFailure", "SignatureDoesNotMatch", "UnrecognizedClientException"]
            .contains(&code)
        {
            return ". AWS doesn't accept your credentials: are AWS_PROFILE, or AWS_ACCESS_KEY_ID and \
                    AWS_SECRET_ACCESS_KEY, right?"
                .to_owned();
        }
        if code.contains("LimitExceeded") || code.contains("Quota") {
            return ". A quota of the account is used up: the Service Quotas of the AWS console raise it"
                .to_owned();
        }
        if code == "OptInRequired" {
            return ". The account has to be opted in to this region or service, in the AWS console"
                .to_owned();
        }
        String::new()
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): ", self.subject, self.action)?;
        match &self.code {
            Some(code) => write!(f, "{code}: {}{}", self.message, self.hint()),
            None => write!(f, "{}", self.message),
        }
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        Error::Message(failed.to_string())
    }
}

/// Sends a request; `action` is what IAM calls it.
pub(super) async fn ask<T, E, R>(
    action: &'static str,
    subject: impl Into<String>,
    sent: impl Future<Output = Result<T, SdkError<E, R>>>,
) -> Result<T, Failed>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: Debug + 'static,
{
    sent.await.map_err(|error| {
        let failed = |code: Option<&str>, message: String| Failed {
            action,
            subject: subject.into(),
            code: code.map(str::to_owned),
            message,
        };
        match error {
            SdkError::ServiceError(error) => {
                let meta = error.err().meta();
                failed(
                    meta.code().or(Some("an error without a name")),
                    meta.message().unwrap_or("no message").to_owned(),
                )
            }
            error => {
                let causes = chain(&error);
                let message = if causes.contains("credential") {
                    format!("no request could be made: {causes}. {CREDENTIALS}")
                } else {
                    format!("no answer from AWS: {causes}. {NETWORK}")
                };
                failed(None, message)
            }
        }
    })
}

const NETWORK: &str =
    "Is the network there, and are region and endpoint right (AWS_REGION, AWS_ENDPOINT_URL)?";
const CREDENTIALS: &str = "Are there credentials? Log in with `aws sso login` or `aws configure`, or set AWS_PROFILE, or \
                           AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";

/// An error and what caused it.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        next = error.source();
    }
    texts.join(": ")
}

/// What a request gave, or none if the service says with one of these codes that it isn't there, or is there already.
pub(super) fn unless<T>(codes: &[&str], result: Result<T, Failed>) -> Result<Option<T>, Failed> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(failed) if failed.is(codes) => Ok(None),
        Err(failed) => Err(failed),
    }
}

/// Pauses that grow.
#[derive(Debug)]
pub(super) struct Pauses {
    start: Instant,
    next: Duration,
    last: Duration,
    limit: Duration,
}

impl Pauses {
    pub(super) fn up_to(limit: Duration) -> Self {
        Pauses { start: Instant::now(), next: FIRST_PAUSE, last: LAST_PAUSE, limit }
    }

    /// Pauses that don't grow: for what is not AWS, which bears to be asked often.
    pub(super) fn short(limit: Duration) -> Self {
        Pauses { last: FIRST_PAUSE, ..Pauses::up_to(limit) }
    }

    /// Waits a little longer than before; false if the time is up.
    pub(super) async fn pause(&mut self) -> bool {
        if self.start.elapsed() >= self.limit {
            return false;
        }
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(self.last);
        true
    }
}

/// Repeats a request as long as it fails in this way, which passes by itself.
pub(super) async fn insist<T>(
    limit: Duration,
    passes: impl Fn(&Failed) -> bool,
    mut request: impl AsyncFnMut() -> Result<T, Failed>,
) -> Result<T, Failed> {
    let mut pauses = Pauses::up_to(limit);
    loop {
        match request().await {
            Err(failed) if passes(&failed) && pauses.pause().await => {}
            result => return result,
        }
    }
}

/// Looks again and again, until there is what is waited for.
pub(super) async fn wait<T>(
    limit: Duration,
    what: &str,
    look: impl AsyncFnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    wait_with(Pauses::up_to(limit), what, look).await
}

/// Likewise, with these pauses.
pub(super) async fn wait_with<T>(
    mut pauses: Pauses,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if !pauses.pause().await {
            return Err(Error::Message(format!(
                "waited {} s: {what}. Give the same command again to go on",
                pauses.limit.as_secs()
            )));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        let failed = |code: &str| {
            let failed = Failed {
                action: "iam:CreateRole",
                subject: "the role x".to_owned(),
                code: Some(code.to_owned()),
                message: "m".to_owned(),
            };
            failed.to_string()
        };
        for (code, part) in [
            ("AccessDenied", "needs the permission iam:CreateRole: docs/aws-deploy-policy.json"),
            ("AccessDeniedException", "the permission iam:CreateRole"),
            ("UnauthorizedOperation", "the permission iam:CreateRole"),
            ("ExpiredTokenException", "log in again"),
            ("InvalidClientTokenId", "AWS_PROFILE"),
            ("VcpuLimitExceeded", "Service Quotas"),
        ] {
            let text = failed(code);
            assert!(text.contains(part) && text.contains("the role x"), "{text}");
        }
    }
}
