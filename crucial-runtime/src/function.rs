//! Cloud functions: what `#[cloud_fn]` registers.

use std::{
    any::{TypeId, type_name},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use crate::{
    dso::BoxFuture,
    error::{Error, Result},
    registry::{Named, Registry},
};

/// The options of `#[cloud_fn(..)]`. What the attribute leaves open, the configuration decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How often a failed attempt (panic, crash, timeout, out of memory) is repeated.
    pub retries: Option<u32>,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// How much memory an attempt may use, in MiB.
    pub memory: Option<u64>,
}

impl Options {
    /// These options, completed by `other` where they are silent.
    #[must_use]
    pub fn or(self, other: Options) -> Options {
        Options {
            retries: self.retries.or(other.retries),
            timeout: self.timeout.or(other.timeout),
            memory: self.memory.or(other.memory),
        }
    }
}

/// The body of a cloud function, from encoded arguments to encoded result.
#[derive(Clone, Copy, Debug)]
pub enum Body {
    /// `fn`
    Sync(fn(&[u8]) -> Result<Vec<u8>>),
    /// `async fn`
    Async(fn(Vec<u8>) -> BoxFuture<'static, Result<Vec<u8>>>),
}

/// A registered cloud function, or an instance of a generic one.
#[derive(Clone, Copy)]
pub struct FunctionInfo {
    /// The function's path.
    pub name: &'static str,
    /// The fingerprint of its signature.
    pub fingerprint: u64,
    /// The attribute's options.
    pub options: Options,
    /// What it does.
    pub body: Body,
}

impl fmt::Debug for FunctionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionInfo").field("name", &self.name).finish_non_exhaustive()
    }
}

inventory::collect!(FunctionInfo);

static FUNCTIONS: Registry<FunctionInfo> = Registry::new();

impl Named for FunctionInfo {
    fn name(&self) -> &'static str {
        self.name
    }
}

/// An instance of a generic cloud function, whether it is registered or not.
#[derive(Debug)]
pub struct InstanceId {
    id: TypeId,
    /// `program::module::function::__run<u64>`
    name: &'static str,
}

impl InstanceId {
    /// That of an instance's `__run`.
    pub fn of<F: 'static>(_run: F) -> Self {
        InstanceId { id: TypeId::of::<F>(), name: type_name::<F>() }
    }

    /// What is registered for this one; `instances` are those of `functions`, in their order.
    pub fn find(
        &self,
        functions: &'static [FunctionInfo],
        instances: &[InstanceId],
    ) -> std::result::Result<&'static FunctionInfo, NoInstance> {
        let index = instances.iter().position(|instance| instance.id == self.id);
        index.map(|index| &functions[index]).ok_or_else(|| {
            let name = self.name.replace("::__run", "");
            let arguments = name.find('<').map_or("", |start| &name[start..]);
            let path = functions[0].name.split('<').next().unwrap_or_default();
            let function = path.rsplit("::").next().unwrap_or_default();
            let error = Error::Registry {
                reason: format!(
                    "cloud function `{path}` is not registered for `{arguments}`: name the instance in its attribute: \
                     `#[cloud_fn(instances({function}{arguments}))]`"
                ),
            };
            NoInstance { other: &functions[0], error: Box::new(error) }
        })
    }
}

/// A generic cloud function was called for types that its attribute doesn't name.
#[derive(Debug)]
pub struct NoInstance {
    /// One that it names.
    pub(crate) other: &'static FunctionInfo,
    pub(crate) error: Box<Error>,
}

/// The function registered under `name`, if it has this fingerprint.
pub fn lookup(name: &str, fingerprint: u64) -> Result<&'static FunctionInfo> {
    let function = FUNCTIONS
        .get(name)
        .ok_or_else(|| Error::UnknownFunction { name: name.to_owned(), known: FUNCTIONS.names() })?;
    if function.fingerprint == fingerprint {
        Ok(function)
    } else {
        Err(Error::FunctionDiffers { name: name.to_owned() })
    }
}

pub(crate) fn check_registry() -> Result<()> {
    FUNCTIONS.double().map_or(Ok(()), |(double, _)| {
        Err(Error::Registry {
            reason: format!("two cloud functions have the name `{}`: rename one of them", double.name),
        })
    })
}

impl FunctionInfo {
    /// Runs the body on this thread. `attempt` counts from 1. A panic becomes an error.
    ///
    /// An `async fn` is driven by the ambient multi-thread runtime, or by one that is made for it.
    pub fn run(&self, args: Vec<u8>, attempt: u32) -> Result<Vec<u8>> {
        catch_unwind(AssertUnwindSafe(|| match self.body {
            Body::Sync(body) => body(&args),
            Body::Async(body) => crate::run::block_on(body(args)),
        }))
        .unwrap_or_else(|panic| {
            Err(Error::FunctionPanicked {
                function: self.name.to_owned(),
                attempt,
                message: panic_message(&*panic),
            })
        })
    }
}

/// The text of a panic's payload.
#[must_use]
pub fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic whose payload is not text".to_owned()
    }
}
