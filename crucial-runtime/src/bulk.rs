//! Numeric slices as one block of bytes.
//!
//! Serde writes a `Vec<f64>` element by element. [`Bulk`] writes it as MessagePack binary: little-endian, moved at
//! the speed of memory. The macros use it for arguments and results of the forms `Vec<P>`, `Box<[P]>`, `[P; N]`
//! and `&[P]` with `P` a number; for a field of your own type write `#[serde(with = "crucial::bulk")]`.

use std::{fmt, marker::PhantomData, sync::Arc};

use bytemuck::Pod;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};

#[cfg(target_endian = "big")]
compile_error!("numeric blocks are little-endian on the wire, and this target is big-endian");

/// A numeric slice or vector that travels as one block of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bulk<T>(pub T);

/// What can travel as a block: contiguous numbers.
pub trait Block {
    /// The element: a number of fixed size.
    type Element: Pod;
    /// The elements.
    fn elements(&self) -> &[Self::Element];
}

/// What can be rebuilt from a block.
pub trait FromBlock: Sized {
    /// Takes the bytes of whole elements. The error says why they don't fit.
    fn from_block(bytes: &[u8]) -> Result<Self, String>;
}

impl<P: Pod> Block for Vec<P> {
    type Element = P;
    fn elements(&self) -> &[P] {
        self
    }
}

impl<P: Pod> Block for Box<[P]> {
    type Element = P;
    fn elements(&self) -> &[P] {
        self
    }
}

impl<P: Pod> Block for Arc<[P]> {
    type Element = P;
    fn elements(&self) -> &[P] {
        self
    }
}

impl<P: Pod> Block for [P] {
    type Element = P;
    fn elements(&self) -> &[P] {
        self
    }
}

impl<P: Pod, const N: usize> Block for [P; N] {
    type Element = P;
    fn elements(&self) -> &[P] {
        self
    }
}

impl<B: Block + ?Sized> Block for &B {
    type Element = B::Element;
    fn elements(&self) -> &[B::Element] {
        B::elements(self)
    }
}

impl<P: Pod> FromBlock for Vec<P> {
    fn from_block(bytes: &[u8]) -> Result<Self, String> {
        let size = size_of::<P>();
        if !bytes.len().is_multiple_of(size) {
            return Err(format!("{} bytes are no whole number of {size}-byte elements", bytes.len()));
        }
        // The bytes may stand at any address: copy them as bytes into a vector that is aligned for P.
        let mut elements = vec![P::zeroed(); bytes.len() / size];
        bytemuck::cast_slice_mut(&mut elements).copy_from_slice(bytes);
        Ok(elements)
    }
}

impl<P: Pod> FromBlock for Box<[P]> {
    fn from_block(bytes: &[u8]) -> Result<Self, String> {
        Vec::from_block(bytes).map(Vec::into_boxed_slice)
    }
}

impl<P: Pod> FromBlock for Arc<[P]> {
    fn from_block(bytes: &[u8]) -> Result<Self, String> {
        Vec::from_block(bytes).map(Into::into)
    }
}

impl<P: Pod, const N: usize> FromBlock for [P; N] {
    fn from_block(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() != size_of::<Self>() {
            return Err(format!("{} bytes, but the array has {}", bytes.len(), size_of::<Self>()));
        }
        let mut elements = [P::zeroed(); N];
        bytemuck::cast_slice_mut(&mut elements[..]).copy_from_slice(bytes);
        Ok(elements)
    }
}

impl<T: Block> Serialize for Bulk<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0, serializer)
    }
}

impl<'de, T: FromBlock> Deserialize<'de> for Bulk<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer).map(Bulk)
    }
}

/// The `serialize` half of `#[serde(with = "crucial::bulk")]`.
pub fn serialize<T: Block + ?Sized, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytemuck::cast_slice(value.elements()))
}

/// The `deserialize` half of `#[serde(with = "crucial::bulk")]`.
pub fn deserialize<'de, T: FromBlock, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Bytes<T>(PhantomData<T>);
    impl<T: FromBlock> Visitor<'_> for Bytes<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a block of numbers")
        }
        fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<T, E> {
            T::from_block(bytes).map_err(E::custom)
        }
    }
    deserializer.deserialize_bytes(Bytes(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_its_bytes_and_five_more() {
        let numbers: Vec<f64> = (0..20_000).map(f64::from).collect();
        let bytes = rmp_serde::to_vec(&Bulk(&numbers)).unwrap();
        assert_eq!(bytes.len(), 20_000 * 8 + 5);
        assert_eq!(rmp_serde::from_slice::<Bulk<Vec<f64>>>(&bytes).unwrap().0, numbers);
    }

    #[test]
    fn a_block_of_another_length_is_refused() {
        let bytes = rmp_serde::to_vec(&Bulk([1u8, 2, 3])).unwrap();
        let error = rmp_serde::from_slice::<Bulk<Vec<u16>>>(&bytes).unwrap_err().to_string();
        assert!(error.contains("no whole number of 2-byte elements"), "{error}");
        assert!(rmp_serde::from_slice::<Bulk<[u8; 2]>>(&bytes).is_err());
    }
}
