//! The function.

use std::time::Duration;

use aws_sdk_lambda::{
    primitives::Blob,
    types::{Architecture, Environment, FunctionCode, LastUpdateStatus, Runtime, State, VpcConfig},
};

use super::{
    archive,
    aws::{Aws, Failed, ask, insist, unless, wait},
    names::TAG,
    plan::{DeployedFunction, Function},
    storage,
};
use crate::Error;

/// How long Lambda may take until it may take on a new role.
const KNOWN: Duration = Duration::from_secs(120);
/// How long a function or an update may be pending: connecting it to a network takes minutes.
const PENDING: Duration = Duration::from_secs(600);
/// The most that a request takes: a larger zip goes through S3.
const DIRECT: usize = 50 << 20;
const TOKEN: &str = "CRUCIAL_TOKEN";
const NONE: &[&str] = &["ResourceNotFoundException"];

/// What a function is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a> {
    pub(super) zip: &'a [u8],
    pub(super) token: &'a str,
    pub(super) group: &'a str,
}

fn environment(token: &str) -> Environment {
    Environment::builder().variables(TOKEN, token).build()
}

fn network(function: &Function, group: &str) -> VpcConfig {
    let subnets = function.subnets.iter().cloned().collect();
    VpcConfig::builder().set_subnet_ids(Some(subnets)).security_group_ids(group).build()
}

/// It can't be done now, but soon.
fn is_busy(failed: &Failed) -> bool {
    failed.is(&["ResourceConflictException"])
}

impl Aws {
    fn function_subject(&self) -> String {
        format!("the function {}", self.names.function())
    }

    pub(super) async fn function(&self) -> Result<Option<DeployedFunction>, Error> {
        let subject = self.function_subject();
        let get = self.lambda.get_function().function_name(self.names.function()).send();
        let Some(found) = unless(NONE, ask("lambda:GetFunction", &*subject, get).await)? else {
            return Ok(None);
        };
        if found.tags().and_then(|tags| tags.get(TAG)) != Some(&self.names.deployment) {
            return Err(self.foreign(&subject));
        }
        let concurrency = found.concurrency().and_then(|c| c.reserved_concurrent_executions());
        let Some(is) = found.configuration() else { return Ok(None) };
        let token = is.environment().and_then(|e| e.variables()).and_then(|variables| variables.get(TOKEN));
        let state = is.state().map_or("Active", State::as_str);
        let update = is.last_update_status().map_or("Successful", LastUpdateStatus::as_str);
        Ok(Some(DeployedFunction {
            is: Function {
                code: is.code_sha256().unwrap_or_default().to_owned(),
                memory: is.memory_size().unwrap_or_default(),
                timeout: is.timeout().unwrap_or_default(),
                concurrency,
                subnets: is
                    .vpc_config()
                    .map(|vpc| vpc.subnet_ids().iter().cloned().collect())
                    .unwrap_or_default(),
            },
            token: token.map(|token| archive::hex(token.as_bytes())),
            state: match (state, update) {
                ("Active", "Successful") => state.to_owned(),
                ("Active", update) => format!("update {update}"),
                _ => format!("{state}: {}", is.state_reason().unwrap_or("no reason is given")),
            },
        }))
    }

    /// Waits until the function does what it was told last.
    async fn await_function(&self) -> Result<(), Error> {
        wait(PENDING, &format!("{} is not ready yet", self.function_subject()), async || {
            let get = self.lambda.get_function_configuration().function_name(self.names.function()).send();
            let is = ask("lambda:GetFunctionConfiguration", self.function_subject(), get).await?;
            match (is.state(), is.last_update_status()) {
                (Some(State::Failed), _) => Err(Error::Message(format!(
                    "{} can't be made: {}",
                    self.function_subject(),
                    is.state_reason().unwrap_or("Lambda gives no reason")
                ))),
                (_, Some(LastUpdateStatus::Failed)) => Err(Error::Message(format!(
                    "{} can't be updated: {}",
                    self.function_subject(),
                    is.last_update_status_reason().unwrap_or("Lambda gives no reason")
                ))),
                (Some(State::Pending), _) | (_, Some(LastUpdateStatus::InProgress)) => Ok(None),
                _ => Ok(Some(())),
            }
        })
        .await
    }

    async fn code(&self, zip: &[u8]) -> Result<FunctionCode, Error> {
        let code = FunctionCode::builder();
        if zip.len() <= DIRECT {
            return Ok(code.zip_file(Blob::new(zip)).build());
        }
        self.put_code(zip).await?;
        Ok(code.s3_bucket(self.names.bucket()).s3_key(storage::CODE).build())
    }

    pub(super) async fn create_function(&self, function: &Function, parts: Parts<'_>) -> Result<(), Error> {
        let create = self
            .lambda
            .create_function()
            .function_name(self.names.function())
            .description(format!("Cloud threads of the deployment {} of crucial", self.names.deployment))
            .runtime(Runtime::Providedal2023)
            .architectures(Architecture::X8664)
            // It is the program that counts, not its handler's name.
            .handler("bootstrap")
            .role(self.function_role_arn())
            .code(self.code(parts.zip).await?)
            .memory_size(function.memory)
            .timeout(function.timeout)
            .environment(environment(parts.token))
            .vpc_config(network(function, parts.group))
            .tags(TAG, &self.names.deployment);
        // A role that was made just now can't be taken on yet, or has no permission yet.
        let unknown = |failed: &Failed| {
            failed.is(&["InvalidParameterValueException"])
                && (failed.says("assumed") || failed.says("permissions") || failed.says("role"))
        };
        insist(KNOWN, unknown, async || {
            ask("lambda:CreateFunction", self.function_subject(), create.clone().send()).await
        })
        .await?;
        self.await_function().await?;
        if function.concurrency.is_some() {
            self.reserve(function.concurrency).await?;
        }
        Ok(())
    }

    /// Makes the function what it should be.
    pub(super) async fn update_function(
        &self,
        is: &DeployedFunction,
        should: &Function,
        parts: Parts<'_>,
    ) -> Result<(), Error> {
        let name = self.names.function();
        // One that was interrupted may be under way.
        self.await_function().await?;
        let settings = |function: &Function| (function.memory, function.timeout, function.subnets.clone());
        if settings(&is.is) != settings(should)
            || is.token.as_deref() != Some(&archive::hex(parts.token.as_bytes()))
        {
            let update = self
                .lambda
                .update_function_configuration()
                .function_name(&name)
                .memory_size(should.memory)
                .timeout(should.timeout)
                .environment(environment(parts.token))
                .vpc_config(network(should, parts.group));
            insist(KNOWN, is_busy, async || {
                ask("lambda:UpdateFunctionConfiguration", self.function_subject(), update.clone().send())
                    .await
            })
            .await?;
            self.await_function().await?;
        }
        if is.is.code != should.code {
            let code = self.code(parts.zip).await?;
            let update = self
                .lambda
                .update_function_code()
                .function_name(&name)
                .set_zip_file(code.zip_file)
                .set_s3_bucket(code.s3_bucket)
                .set_s3_key(code.s3_key);
            insist(KNOWN, is_busy, async || {
                ask("lambda:UpdateFunctionCode", self.function_subject(), update.clone().send()).await
            })
            .await?;
            self.await_function().await?;
        }
        if is.is.concurrency != should.concurrency {
            self.reserve(should.concurrency).await?;
        }
        Ok(())
    }

    async fn reserve(&self, concurrency: Option<i32>) -> Result<(), Error> {
        let name = self.names.function();
        if let Some(most) = concurrency {
            let put = self
                .lambda
                .put_function_concurrency()
                .function_name(name)
                .reserved_concurrent_executions(most);
            ask("lambda:PutFunctionConcurrency", self.function_subject(), put.send()).await?;
        } else {
            let delete = self.lambda.delete_function_concurrency().function_name(name).send();
            ask("lambda:DeleteFunctionConcurrency", self.function_subject(), delete).await?;
        }
        Ok(())
    }

    pub(super) async fn delete_function(&self) -> Result<(), Error> {
        let delete = self.lambda.delete_function().function_name(self.names.function());
        let deleted = insist(KNOWN, is_busy, async || {
            ask("lambda:DeleteFunction", self.function_subject(), delete.clone().send()).await
        });
        unless(NONE, deleted.await)?;
        Ok(())
    }
}
