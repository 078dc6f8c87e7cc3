//! A server without a network: objects driven through the registry.

use crucial::{Context, Error, Result};
use crucial_runtime::object::{Access, Object, TypeInfo, lookup};
use serde::{Serialize, de::DeserializeOwned};

/// An object, made by its constructor.
pub struct Driven {
    pub info: &'static TypeInfo,
    object: Box<dyn Object>,
}

pub fn encode(value: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec(value).unwrap()
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> T {
    rmp_serde::from_slice(bytes).unwrap()
}

/// The registered type whose path ends like this.
pub fn info(name: &str) -> &'static TypeInfo {
    lookup(&format!("expand::{name}")).unwrap()
}

pub fn context() -> Context {
    Context::new(1_000_000, 7)
}

impl Driven {
    pub fn new(name: &str, constructor: &str, args: &impl Serialize) -> Self {
        let info = info(name);
        let number = info.constructors.iter().position(|name| *name == constructor).unwrap();
        let number = u16::try_from(number).unwrap();
        Driven { info, object: (info.construct)(number, &encode(args), &mut context()).unwrap() }
    }

    fn number(&self, method: &str) -> u16 {
        let number = self.info.methods.iter().position(|info| info.name == method);
        u16::try_from(number.unwrap_or_else(|| panic!("`{method}` is not registered"))).unwrap()
    }

    /// Calls the method as a server does once its guard holds: with its continuations.
    pub fn call<R: DeserializeOwned>(&mut self, method: &str, args: &impl Serialize) -> R {
        decode(&self.raw(method, encode(args)).unwrap())
    }

    pub fn raw(&mut self, method: &str, mut args: Vec<u8>) -> Result<Vec<u8>> {
        let mut number = self.number(method);
        loop {
            let info = &self.info.methods[usize::from(number)];
            let mut out = Vec::new();
            match info.access {
                Access::Read => self.object.read(number, &args, &mut context(), &mut out)?,
                Access::Write => self.object.write(number, &args, &mut context(), &mut out)?,
            }
            match info.then {
                None => return Ok(out),
                Some(next) => {
                    args = out;
                    number = next;
                }
            }
        }
    }

    pub fn guard(&self, method: &str, args: &impl Serialize) -> bool {
        self.object.guard(self.number(method), &encode(args)).unwrap()
    }

    /// A copy by way of a snapshot.
    pub fn restored(&self) -> Self {
        let mut bytes = Vec::new();
        self.object.snapshot(&mut bytes).unwrap();
        Driven { info: self.info, object: (self.info.restore)(&bytes).unwrap() }
    }

    /// A call of a number that the type doesn't have.
    pub fn beyond(&mut self) -> [Error; 2] {
        let mut out = Vec::new();
        [
            self.object.read(999, &[], &mut context(), &mut out).unwrap_err(),
            self.object.write(999, &[], &mut context(), &mut out).unwrap_err(),
        ]
    }
}
