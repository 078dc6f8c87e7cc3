//! Generic handles over objects that hold encoded bytes.
//!
//! A server knows the types that a program registers, and it can't know every `K` and `V` that a program puts into a
//! `HashMap<K, V>`. So the object on the server holds [`Blob`]s, and the handle of the program knows the types.

use crucial_runtime::{
    codec, ordered,
    shared_fn::{Format, Invocation, Update},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// An encoded value: an element of a collection, the content of a mutex, a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
// See `crucial_runtime::digest::ENCODED`.
#[serde(rename = "crucial::Encoded")]
#[doc(hidden)]
pub struct Blob(#[serde(with = "crate::bulk")] Vec<u8>);

impl Blob {
    #[track_caller]
    pub(crate) fn of<T: Serialize + ?Sized>(value: &T) -> Self {
        done(Blob::try_of(value))
    }

    pub(crate) fn try_of<T: Serialize + ?Sized>(value: &T) -> crate::Result<Self> {
        let mut bytes = Vec::new();
        codec::encode("an element", value, &mut bytes)?;
        Ok(Blob(bytes))
    }

    #[track_caller]
    pub(crate) fn to<T: DeserializeOwned>(&self) -> T {
        self.to_in(Format::Plain)
    }

    /// The key of a collection that encodes its keys in this way.
    #[track_caller]
    pub(crate) fn key<T: Serialize + ?Sized>(format: Format, key: &T) -> Self {
        match format {
            Format::Plain => Blob::of(key),
            Format::Ordered => Blob(ordered::encode("a key", key).unwrap_or_else(|error| panic!("{error}"))),
        }
    }

    #[track_caller]
    pub(crate) fn to_in<T: DeserializeOwned>(&self, format: Format) -> T {
        format.decode("an element", &self.0).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Blob(bytes)
    }
}

/// The result of a call that may fail on the server without a panic there.
#[track_caller]
pub(crate) fn done<T>(result: crate::Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

/// A function and its argument, encoded for a server.
#[track_caller]
pub(crate) fn invocation<T, F: Update<T>>(f: F, arg: &F::Arg) -> Invocation {
    done(Invocation::new(f, arg))
}

/// Defines the handle `$name<..>` over the handle `$raw` of an object that holds [`Blob`]s, and `$named`, with which
/// the chain `$name::at(key)` starts. The constructors at both are for the caller to write, with `over` and `build`.
/// `$cache` is a field of each handle of its own, which starts with its default.
macro_rules! typed {
    (
        $(#[$meta:meta])*
        pub struct $name:ident<$($param:ident),+>($raw:ident $(, $cache:ident: $cached:ty)?), at $named:ident($raw_at:ident);
    ) => {
        $(#[$meta])*
        pub struct $name<$($param),+> {
            raw: $raw,
            types: ::std::marker::PhantomData<fn() -> ($($param,)+)>,
            $($cache: $cached,)?
        }

        impl<$($param),+> Clone for $name<$($param),+> {
            fn clone(&self) -> Self {
                $name::over(self.raw.clone())
            }
        }

        impl<$($param),+> ::std::fmt::Debug for $name<$($param),+> {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                self.raw.fmt(f)
            }
        }

        impl<$($param),+> PartialEq for $name<$($param),+> {
            /// Whether both are the same object.
            fn eq(&self, other: &Self) -> bool {
                self.raw == other.raw
            }
        }

        impl<$($param),+> Eq for $name<$($param),+> {}

        impl<$($param),+> ::serde::Serialize for $name<$($param),+> {
            fn serialize<Serializer_: ::serde::Serializer>(
                &self,
                serializer: Serializer_,
            ) -> Result<Serializer_::Ok, Serializer_::Error> {
                self.raw.serialize(serializer)
            }
        }

        impl<'de, $($param),+> ::serde::Deserialize<'de> for $name<$($param),+> {
            fn deserialize<Deserializer_: ::serde::Deserializer<'de>>(
                deserializer: Deserializer_,
            ) -> Result<Self, Deserializer_::Error> {
                <$raw as ::serde::Deserialize>::deserialize(deserializer).map($name::over)
            }
        }

        impl<$($param: Send + Sync + 'static),+> $crate::Shared for $name<$($param),+> {
            type Handle = $raw;
            fn handle(&self) -> &$raw {
                &self.raw
            }
        }

        impl<$($param),+> $name<$($param),+> {
            fn over(raw: $raw) -> Self {
                $name { raw, types: ::std::marker::PhantomData $(, $cache: Default::default())? }
            }

            /// The object with this key; the constructor follows: `at("key").new(..)`.
            pub fn at(key: impl Into<String>) -> $named<$($param),+> {
                $named { named: $raw::at(key), types: ::std::marker::PhantomData }
            }
        }

        #[doc = concat!("The start of a named object: see [`", stringify!($name), "::at`].")]
        #[derive(Debug)]
        pub struct $named<$($param),+> {
            named: $raw_at,
            types: ::std::marker::PhantomData<fn() -> ($($param,)+)>,
        }

        impl<$($param),+> $named<$($param),+> {
            /// Lives until it is removed, and is shared by all runs.
            #[must_use]
            pub fn persistent(self) -> Self {
                $named { named: self.named.persistent(), ..self }
            }

            #[doc(hidden)]
            #[must_use]
            pub fn __lazy(self) -> Self {
                $named { named: self.named.__lazy(), ..self }
            }

            #[track_caller]
            fn build(self, construct: impl FnOnce($raw_at) -> $raw) -> $name<$($param),+> {
                $name::over(construct(self.named))
            }
        }
    };
}
pub(crate) use typed;
