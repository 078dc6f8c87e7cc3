//! Shared types as the server sees them: the object trait and the registry.

use std::{collections::HashMap, fmt, marker::PhantomData, sync::OnceLock};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    codec,
    context::Context,
    digest::{self, Digest},
    error::{Error, Result},
    id,
    reference::ObjectRef,
    registry::{Named, Registry},
};

/// Whether a method changes its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `&self`: may run beside other reads, and is not remembered for retries.
    Read,
    /// `&mut self`: runs alone, exactly once.
    Write,
}

/// What the server has to know of a method before it calls it.
#[derive(Clone, Copy, Debug)]
pub struct MethodInfo {
    /// The method's name.
    pub name: &'static str,
    /// Read or write.
    pub access: Access,
    /// Whether it has a guard (`#[when]`), so that calls may be parked.
    pub guarded: bool,
    /// Whether its guard looks at the arguments.
    pub guard_takes_args: bool,
    /// The method that continues with this one's value (`#[then]`), as an index.
    pub then: Option<u16>,
}

/// What `#[shared]` on a struct generates for its handle.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a shared type",
    label = "not a shared type",
    note = "put `#[shared]` on the struct, or use a type of `crucial::sync` or `crucial::collections`; an instance \
            of a generic shared struct has to be named: `#[shared(instances({Self}))]`"
)]
pub trait SharedType: Clone + Send + Sync + Sized + 'static {
    /// The type's name in every program: its path, with its type arguments.
    const NAME: &'static str;
    /// The key that the attribute on the struct gives.
    const KEY: Option<&'static str>;
    /// Whether the attribute on the struct makes its objects persistent.
    const PERSISTENT: bool;
    /// The fingerprint of the fields.
    const FIELDS: u64;
    /// The fields, which live on the server.
    type State: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// The handle of an object.
    fn from_object(object: ObjectRef) -> Self;
    /// The object that this handle stands for.
    fn object_ref(&self) -> &ObjectRef;
}

/// What `#[shared]` on an impl block generates.
#[diagnostic::on_unimplemented(
    message = "the methods of `{Self}` are not shared",
    label = "this struct is shared, but its impl block is not",
    note = "put `#[shared]` on `impl {Self} {{ .. }}` too, so that its methods become calls"
)]
pub trait Methods: SharedType {
    /// The methods that can be called, in the order of their numbers.
    const METHODS: &'static [MethodInfo];
    /// The names of the constructors, in the order of their numbers.
    const CONSTRUCTORS: &'static [&'static str];
    /// The method that is told of lost holders (`#[lost]`), as an index.
    const LOST: Option<u16>;
    /// The fingerprint of all signatures.
    const SIGNATURES: u64;
    /// Runs constructor `constructor`.
    fn construct(constructor: u16, args: &[u8], cx: &mut Context) -> Result<Self::State>;
    /// Runs a `&self` method; its encoded result is appended to `out`.
    fn read(state: &Self::State, method: u16, args: &[u8], cx: &mut Context, out: &mut Vec<u8>)
    -> Result<()>;
    /// Runs a `&mut self` method. With [`MethodInfo::then`], `out` gets the arguments of the continuation.
    fn write(
        state: &mut Self::State,
        method: u16,
        args: &[u8],
        cx: &mut Context,
        out: &mut Vec<u8>,
    ) -> Result<()>;
    /// Whether the guard of a method holds for these arguments; true for a method without a guard.
    fn guard(state: &Self::State, method: u16, args: &[u8]) -> Result<bool>;
}

/// An object on a server, without its type.
pub trait Object: Send + Sync {
    /// The object's type.
    fn info(&self) -> &'static TypeInfo;
    /// See [`Methods::read`].
    fn read(&self, method: u16, args: &[u8], cx: &mut Context, out: &mut Vec<u8>) -> Result<()>;
    /// See [`Methods::write`].
    fn write(&mut self, method: u16, args: &[u8], cx: &mut Context, out: &mut Vec<u8>) -> Result<()>;
    /// See [`Methods::guard`].
    fn guard(&self, method: u16, args: &[u8]) -> Result<bool>;
    /// Appends the encoded state.
    fn snapshot(&self, out: &mut Vec<u8>) -> Result<()>;
    /// The digest of the state: see [`digest::digest`].
    fn digest(&self, limit: u64) -> Result<Digest, digest::Failure>;
}

/// Makes an object: constructor, encoded arguments, surroundings.
pub type Construct = fn(u16, &[u8], &mut Context) -> Result<Box<dyn Object>>;

/// A registered shared type.
pub struct TypeInfo {
    /// The type's stable name.
    pub name: &'static str,
    /// Identifies name, fields and signatures: equal only in programs that agree on the type.
    pub tag: u64,
    /// Its methods, by number.
    pub methods: &'static [MethodInfo],
    /// The method that is told of [`Lost`](crate::holder::Lost) holders.
    pub lost: Option<u16>,
    /// Its constructors, by number.
    pub constructors: &'static [&'static str],
    /// Makes an object.
    pub construct: Construct,
    /// Makes an object from a snapshot.
    pub restore: fn(&[u8]) -> Result<Box<dyn Object>>,
}

impl fmt::Debug for TypeInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypeInfo").field("name", &self.name).field("tag", &self.tag).finish_non_exhaustive()
    }
}

inventory::collect!(TypeInfo);

static TYPES: Registry<TypeInfo> = Registry::new();

impl Named for TypeInfo {
    fn name(&self) -> &'static str {
        self.name
    }
}

impl TypeInfo {
    /// The registration of a shared type.
    #[must_use]
    pub const fn of<T: Methods>() -> Self {
        TypeInfo {
            name: T::NAME,
            tag: tag::<T>(),
            methods: T::METHODS,
            lost: T::LOST,
            constructors: T::CONSTRUCTORS,
            construct: |constructor, args, cx| {
                Ok(Box::new(Stateful::<T>(T::construct(constructor, args, cx)?, PhantomData)))
            },
            restore: |bytes| Ok(Box::new(Stateful::<T>(codec::decode(T::NAME, bytes)?, PhantomData))),
        }
    }
}

/// The tag of a type: a call that carries another one comes from a different definition.
#[must_use]
pub const fn tag<T: Methods>() -> u64 {
    id::combine(id::combine(id::fingerprint(T::NAME), T::FIELDS), T::SIGNATURES)
}

fn registered<T: Methods>() -> &'static TypeInfo {
    lookup(T::NAME).expect("an object's type is registered")
}

struct Stateful<T: Methods>(T::State, PhantomData<fn() -> T>);

impl<T: Methods> Object for Stateful<T> {
    fn info(&self) -> &'static TypeInfo {
        registered::<T>()
    }
    fn read(&self, method: u16, args: &[u8], cx: &mut Context, out: &mut Vec<u8>) -> Result<()> {
        T::read(&self.0, method, args, cx, out)
    }
    fn write(&mut self, method: u16, args: &[u8], cx: &mut Context, out: &mut Vec<u8>) -> Result<()> {
        T::write(&mut self.0, method, args, cx, out)
    }
    fn guard(&self, method: u16, args: &[u8]) -> Result<bool> {
        T::guard(&self.0, method, args)
    }
    fn snapshot(&self, out: &mut Vec<u8>) -> Result<()> {
        codec::encode(T::NAME, &self.0, out)
    }
    fn digest(&self, limit: u64) -> Result<Digest, digest::Failure> {
        digest::digest(&self.0, limit)
    }
}

/// The type registered under `name`.
pub fn lookup(name: &str) -> Result<&'static TypeInfo> {
    TYPES.get(name).ok_or_else(|| Error::UnknownType { name: name.to_owned(), known: TYPES.names() })
}

/// Whether a call of this method of the type with this tag changes nothing for certain. Of a type that isn't registered,
/// nobody knows.
pub fn is_read(tag: u64, method: u16) -> bool {
    static BY_TAG: OnceLock<HashMap<u64, &'static TypeInfo>> = OnceLock::new();
    let types = BY_TAG.get_or_init(|| inventory::iter::<TypeInfo>.into_iter().map(|t| (t.tag, t)).collect());
    let method = types.get(&tag).and_then(|info| info.methods.get(usize::from(method)));
    method.is_some_and(|method| method.access == Access::Read)
}

/// A static that `#[shared]` registered.
#[derive(Debug)]
pub struct StaticInfo {
    /// Its key.
    pub key: &'static str,
    /// The name of its type.
    pub type_name: fn() -> &'static str,
    /// Where it is defined: `file:line`.
    pub place: &'static str,
}

inventory::collect!(StaticInfo);

/// Checks that no name was registered twice, which a program does when it starts.
pub fn check_registry() -> Result<()> {
    if let Some((double, _)) = TYPES.double() {
        return Err(Error::Registry {
            reason: format!("two shared types have the name `{}`: rename one of them", double.name),
        });
    }
    let mut statics = HashMap::new();
    for info in inventory::iter::<StaticInfo> {
        if let Some(other) = statics.insert(((info.type_name)(), info.key), info.place) {
            return Err(Error::Registry {
                reason: format!(
                    "two shared statics of type `{}` have the key \"{}\" ({other} and {}): they would be one \
                     object. Give one of them another key, or use one static in both places",
                    (info.type_name)(),
                    info.key,
                    info.place
                ),
            });
        }
    }
    crate::shared_fn::check_registry()?;
    crate::function::check_registry()
}
