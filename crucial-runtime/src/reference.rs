//! References to objects: what a handle holds.

use std::{
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Serialize};

use crate::{
    call,
    error::Result,
    id::{self, ObjectId, RunId},
    object::{Methods, SharedType},
};

/// How long an object lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Lifetime {
    /// As long as the run that made it.
    Ephemeral,
    /// Until it is removed; shared by all runs.
    Persistent,
}

/// The constructor call that makes an object on first use.
#[derive(Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The constructor's number.
    pub constructor: u16,
    /// Its encoded arguments.
    pub args: Vec<u8>,
}

/// Identifies an object. Small, cheap to clone, and the same wherever it is sent within a run.
#[derive(Clone, Serialize, Deserialize)]
pub struct ObjectRef {
    base: u128,
    lifetime: Lifetime,
    key: Option<Arc<str>>,
    origin: Option<Arc<Origin>>,
}

// Two references are equal when they mean the same object, however each of them came to be.
impl PartialEq for ObjectRef {
    fn eq(&self, other: &Self) -> bool {
        (self.base, self.lifetime) == (other.base, other.lifetime)
    }
}

impl Eq for ObjectRef {}

impl Hash for ObjectRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.base, self.lifetime).hash(state);
    }
}

impl fmt::Debug for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{key:?}"),
            None => write!(f, "#{:012x}", self.base >> 80),
        }
    }
}

impl ObjectRef {
    /// The object `key` of type `type_name`.
    #[must_use]
    pub fn named(type_name: &str, key: Arc<str>, lifetime: Lifetime) -> Self {
        ObjectRef { base: id::of_key(type_name, &key), lifetime, key: Some(key), origin: None }
    }

    /// A new object without a name.
    #[must_use]
    pub fn anonymous() -> Self {
        ObjectRef { base: id::fresh(), lifetime: Lifetime::Ephemeral, key: None, origin: None }
    }

    /// The same object, made with this constructor call when it is first used.
    #[must_use]
    pub fn made_by(mut self, origin: Origin) -> Self {
        self.origin = Some(Arc::new(origin));
        self
    }

    /// Its identity on the servers.
    #[must_use]
    pub fn id(&self, run: RunId) -> ObjectId {
        match self.lifetime {
            Lifetime::Ephemeral => ObjectId::in_run(self.base, run),
            Lifetime::Persistent => ObjectId::persistent(self.base),
        }
    }

    /// How long it lives.
    #[must_use]
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// Its key, if it has a name.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The constructor call that makes it on first use.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_deref()
    }

    /// The object's name in messages.
    #[must_use]
    pub fn describe(&self, type_name: &str) -> String {
        format!("{type_name} {self:?}")
    }
}

/// What every handle of a shared object can do, whatever its type.
///
/// A type's own method of the same name comes first; write `Shared::remove(&handle)` then.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a shared type",
    label = "not a shared type",
    note = "put `#[shared]` on the struct, or use a type of `crucial::sync` or `crucial::collections`"
)]
pub trait Shared: Clone + Send + Sync + 'static {
    /// The handle that the macros generated for the object.
    #[doc(hidden)]
    type Handle: Methods;

    /// See [`Shared::Handle`].
    #[doc(hidden)]
    fn handle(&self) -> &Self::Handle;

    /// The object's key, if it is named.
    fn key(&self) -> Option<&str> {
        self.handle().object_ref().key()
    }

    /// Removes the object; later calls fail with [`Error::NoSuchObject`](crate::error::Error::NoSuchObject), as do
    /// calls that are parked at it. Returns whether there was one.
    ///
    /// A named object can be made anew by its constructor. An ephemeral object is removed by itself when its run
    /// ends; a persistent one lives until it is removed.
    fn remove(&self) -> Result<bool> {
        call::remove(self.handle())
    }

    /// Whether a method panicked and left the state of the object in doubt.
    fn is_poisoned(&self) -> Result<bool> {
        call::is_poisoned(self.handle())
    }

    /// Accepts the object's state as it is, so that it can be used again after a panic.
    /// Follows [`std::sync::Mutex::clear_poison`].
    fn clear_poison(&self) -> Result<()> {
        call::clear_poison(self.handle())
    }
}

/// The start of a named object: `Barrier::at("name")`, before `.persistent()` and the constructor.
#[derive(Clone, Debug)]
pub struct Named {
    key: Arc<str>,
    lifetime: Lifetime,
    lazy: bool,
}

impl Named {
    /// A named object; ephemeral unless said otherwise.
    pub fn new(key: impl Into<String>, persistent: bool) -> Self {
        let lifetime = if persistent { Lifetime::Persistent } else { Lifetime::Ephemeral };
        Named { key: key.into().into(), lifetime, lazy: false }
    }

    /// Lives until it is removed, and is shared by all runs.
    #[must_use]
    pub fn persistent(mut self) -> Self {
        self.lifetime = Lifetime::Persistent;
        self
    }

    /// Is made when it is first used, as a static is.
    #[must_use]
    pub fn lazy(mut self) -> Self {
        self.lazy = true;
        self
    }

    pub(crate) fn into_object<T: SharedType>(self) -> (ObjectRef, bool) {
        (ObjectRef::named(T::NAME, self.key, self.lifetime), self.lazy)
    }
}

/// A shared static: `#[shared] static X: T = T::new(..)`. Made on its first use, wherever that is.
pub struct Static<T> {
    handle: OnceLock<T>,
    make: fn() -> T,
}

impl<T> fmt::Debug for Static<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Static").finish_non_exhaustive()
    }
}

impl<T: Shared> Static<T> {
    /// `make` gives the handle; it makes no call.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(make: fn() -> T) -> Self {
        Static { handle: OnceLock::new(), make }
    }
}

impl<T: Shared> Deref for Static<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.handle.get_or_init(self.make)
    }
}
