//! Digests of states, by which replicas find out whether they are equal.
//!
//! Two states that are equal have the same digest, however they came about: what counts is what a value consists of, not
//! in which order it happens to be encoded. A `HashMap` has another order in each process, so its encoded bytes tell
//! nothing.
//!
//! | value | what counts |
//! |---|---|
//! | numbers, strings, bytes | the value; for a float, its bits |
//! | tuples, arrays, structs, enums | the fields in their order, and the variant |
//! | `Vec`, slices, `VecDeque`, `LinkedList`, `BTreeSet` | the elements in their order |
//! | all other sequences: `HashSet`, `BinaryHeap`, those of other crates | the elements, in any order |
//! | maps | the entries, in any order |
//! | encoded values ([`ENCODED`]) | what the MessagePack says, with elements in any order |
//!
//! Where the two can't be told apart, a digest would rather be equal for states that differ than differ for states that
//! are equal: who is told of a difference has to be able to rely on it.
//!
//! Digests are for comparisons between programs of one build, and for no adversary.

use std::{
    any::type_name,
    fmt::{self, Display},
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, SeqAccess, Visitor},
    ser::{
        SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};
use xxhash_rust::xxh3::xxh3_64;

/// The name of a newtype struct around the MessagePack of a value, which methods may encode anew.
pub const ENCODED: &str = "crucial::Encoded";

/// The digest of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Equal for equal values.
    pub hash: u64,
    /// How much had to be looked at: about as many bytes as the encoded value has.
    pub bytes: u64,
}

impl Digest {
    /// The digest of this and a number.
    #[must_use]
    pub fn and(self, number: u64) -> Self {
        Digest { hash: mix(self.hash, number), ..self }
    }
}

/// Why a value has no digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It has more bytes than the limit allows.
    TooLarge,
    /// It can't be encoded.
    Unfit(String),
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::TooLarge => f.write_str("it is too large"),
            Failure::Unfit(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Failure {}

impl serde::ser::Error for Failure {
    fn custom<T: Display>(message: T) -> Self {
        Failure::Unfit(message.to_string())
    }
}

/// The digest of `value`, if that takes no more than `limit` bytes.
///
/// # Errors
/// If it takes more, or the value can't be encoded.
pub fn digest<T: Serialize + ?Sized>(value: &T, limit: u64) -> Result<Digest, Failure> {
    let mut left = limit;
    let hash = value.serialize(Hasher::new(&mut left))?;
    Ok(Digest { hash, bytes: limit - left })
}

/// What a value is, so that values of different kinds differ.
#[derive(Clone, Copy)]
enum Kind {
    Unit = 1,
    Some,
    Bool,
    Natural,
    Negative,
    Wide,
    F32,
    F64,
    Text,
    Bytes,
    Fields,
    Sequence,
    Bag,
    Map,
    Variant,
}

/// Multiplies, and folds the product: each bit of both numbers counts in each bit of the result, and so does their order.
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xd6e8_feb8_6659_fd93);
    product as u64 ^ (product >> 64) as u64
}

fn of(kind: Kind, value: u64) -> u64 {
    mix(kind as u64, value)
}

fn integer(value: i64) -> u64 {
    u64::try_from(value)
        .map_or_else(|_| of(Kind::Negative, value as u64), |natural| of(Kind::Natural, natural))
}

fn block(kind: Kind, bytes: &[u8]) -> u64 {
    of(kind, xxh3_64(bytes))
}

/// The parts of a value.
struct Parts {
    kind: Kind,
    sum: u64,
    count: u64,
}

impl Parts {
    fn new(kind: Kind) -> Self {
        Parts { kind, sum: 0, count: 0 }
    }

    fn add(&mut self, part: u64) {
        self.count += 1;
        self.sum = match self.kind {
            // A sum of well mixed numbers is the same in any order.
            Kind::Bag | Kind::Map => self.sum.wrapping_add(mix(part, 0)),
            _ => mix(self.sum, part),
        };
    }

    fn hash(&self) -> u64 {
        mix(of(self.kind, self.count), self.sum)
    }
}

/// Whether the elements of this type have an order. By its name, which is all that serde lets a serializer know of it;
/// under other names, it would have none.
fn has_order<T>() -> bool {
    const ORDERED: [&str; 5] = [
        "&[",
        "&alloc::vec::Vec<",
        "&alloc::collections::vec_deque::VecDeque<",
        "&alloc::collections::linked_list::LinkedList<",
        "&alloc::collections::btree::set::BTreeSet<",
    ];
    ORDERED.iter().any(|prefix| type_name::<T>().starts_with(prefix))
}

/// Gives the hash of a value, and counts down the bytes that it takes.
struct Hasher<'a> {
    left: &'a mut u64,
    /// Whether bytes are an encoded value.
    encoded: bool,
}

impl<'a> Hasher<'a> {
    fn new(left: &'a mut u64) -> Self {
        Hasher { left, encoded: false }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Failure> {
        *self.left = self.left.checked_sub(bytes as u64).ok_or(Failure::TooLarge)?;
        Ok(())
    }

    fn leaf(mut self, hash: u64) -> Result<u64, Failure> {
        self.spend(8)?;
        Ok(hash)
    }
}

/// Gives the hash of a value that consists of others.
struct Compound<'a> {
    left: &'a mut u64,
    parts: Parts,
    /// The variant, if it is one of an enum.
    variant: Option<u32>,
    key: u64,
}

impl<'a> Compound<'a> {
    fn new(mut hasher: Hasher<'a>, kind: Kind) -> Result<Self, Failure> {
        hasher.spend(1)?;
        Ok(Compound { left: hasher.left, parts: Parts::new(kind), variant: None, key: 0 })
    }

    fn variant(hasher: Hasher<'a>, variant: u32) -> Result<Self, Failure> {
        Ok(Compound { variant: Some(variant), ..Compound::new(hasher, Kind::Fields)? })
    }

    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        let hash = value.serialize(Hasher::new(self.left))?;
        self.parts.add(hash);
        Ok(())
    }

    fn hash(self) -> u64 {
        let hash = self.parts.hash();
        self.variant.map_or(hash, |variant| mix(of(Kind::Variant, variant.into()), hash))
    }
}

impl<'a> Serializer for Hasher<'a> {
    type Ok = u64;
    type Error = Failure;
    type SerializeSeq = Compound<'a>;
    type SerializeTuple = Compound<'a>;
    type SerializeTupleStruct = Compound<'a>;
    type SerializeTupleVariant = Compound<'a>;
    type SerializeMap = Compound<'a>;
    type SerializeStruct = Compound<'a>;
    type SerializeStructVariant = Compound<'a>;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_bool(self, v: bool) -> Result<u64, Failure> {
        self.leaf(of(Kind::Bool, v.into()))
    }

    // Integers count by their values, as they are encoded: a state that was restored may have another type for them.
    fn serialize_i8(self, v: i8) -> Result<u64, Failure> {
        self.serialize_i64(v.into())
    }
    fn serialize_i16(self, v: i16) -> Result<u64, Failure> {
        self.serialize_i64(v.into())
    }
    fn serialize_i32(self, v: i32) -> Result<u64, Failure> {
        self.serialize_i64(v.into())
    }
    fn serialize_i64(self, v: i64) -> Result<u64, Failure> {
        self.leaf(integer(v))
    }
    fn serialize_i128(self, v: i128) -> Result<u64, Failure> {
        self.leaf(mix(of(Kind::Wide, v as u64), (v >> 64) as u64))
    }
    fn serialize_u8(self, v: u8) -> Result<u64, Failure> {
        self.serialize_u64(v.into())
    }
    fn serialize_u16(self, v: u16) -> Result<u64, Failure> {
        self.serialize_u64(v.into())
    }
    fn serialize_u32(self, v: u32) -> Result<u64, Failure> {
        self.serialize_u64(v.into())
    }
    fn serialize_u64(self, v: u64) -> Result<u64, Failure> {
        self.leaf(of(Kind::Natural, v))
    }
    fn serialize_u128(self, v: u128) -> Result<u64, Failure> {
        self.serialize_i128(v as i128)
    }
    fn serialize_f32(self, v: f32) -> Result<u64, Failure> {
        self.leaf(of(Kind::F32, v.to_bits().into()))
    }
    fn serialize_f64(self, v: f64) -> Result<u64, Failure> {
        self.leaf(of(Kind::F64, v.to_bits()))
    }

    fn serialize_char(self, v: char) -> Result<u64, Failure> {
        self.serialize_str(v.encode_utf8(&mut [0; 4]))
    }
    fn serialize_str(mut self, v: &str) -> Result<u64, Failure> {
        self.spend(v.len())?;
        self.leaf(block(Kind::Text, v.as_bytes()))
    }
    fn serialize_bytes(mut self, v: &[u8]) -> Result<u64, Failure> {
        self.spend(v.len())?;
        let hash = if self.encoded { encoded(v) } else { block(Kind::Bytes, v) };
        self.leaf(hash)
    }

    fn serialize_none(self) -> Result<u64, Failure> {
        self.serialize_unit()
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<u64, Failure> {
        Ok(of(Kind::Some, value.serialize(self)?))
    }
    fn serialize_unit(self) -> Result<u64, Failure> {
        self.leaf(of(Kind::Unit, 0))
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<u64, Failure> {
        self.serialize_unit()
    }
    fn serialize_unit_variant(self, _: &'static str, i: u32, _: &'static str) -> Result<u64, Failure> {
        self.leaf(of(Kind::Variant, i.into()))
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<u64, Failure> {
        value.serialize(Hasher { encoded: name == ENCODED, ..self })
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        i: u32,
        _: &'static str,
        value: &T,
    ) -> Result<u64, Failure> {
        Ok(mix(of(Kind::Variant, i.into()), value.serialize(self)?))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Compound<'a>, Failure> {
        Compound::new(self, Kind::Bag)
    }
    fn serialize_tuple(self, _: usize) -> Result<Compound<'a>, Failure> {
        Compound::new(self, Kind::Fields)
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Compound<'a>, Failure> {
        Compound::new(self, Kind::Fields)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        i: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Compound<'a>, Failure> {
        Compound::variant(self, i)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Compound<'a>, Failure> {
        Compound::new(self, Kind::Map)
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Compound<'a>, Failure> {
        Compound::new(self, Kind::Fields)
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        i: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Compound<'a>, Failure> {
        Compound::variant(self, i)
    }

    /// The types of std serialize themselves with this.
    fn collect_seq<I>(self, elements: I) -> Result<u64, Failure>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        let kind = if has_order::<I>() { Kind::Sequence } else { Kind::Bag };
        let mut compound = Compound::new(self, kind)?;
        elements.into_iter().try_for_each(|element| compound.part(&element))?;
        Ok(compound.hash())
    }
}

macro_rules! compound {
    ($($Trait:ident $method:ident($($name:ident)?);)*) => {$(
        impl $Trait for Compound<'_> {
            type Ok = u64;
            type Error = Failure;
            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($name: &'static str,)?
                value: &T,
            ) -> Result<(), Failure> {
                self.part(value)
            }
            fn end(self) -> Result<u64, Failure> {
                Ok(self.hash())
            }
        }
    )*};
}

compound! {
    SerializeSeq serialize_element();
    SerializeTuple serialize_element();
    SerializeTupleStruct serialize_field();
    SerializeTupleVariant serialize_field();
    SerializeStruct serialize_field(_name);
    SerializeStructVariant serialize_field(_name);
}

impl SerializeMap for Compound<'_> {
    type Ok = u64;
    type Error = Failure;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Failure> {
        self.key = key.serialize(Hasher::new(self.left))?;
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        let value = value.serialize(Hasher::new(self.left))?;
        self.parts.add(mix(self.key, value));
        Ok(())
    }
    fn end(self) -> Result<u64, Failure> {
        Ok(self.hash())
    }
}

// ---- encoded values

/// The hash of the value that bytes encode; of the bytes themselves, if they are no MessagePack.
fn encoded(mut bytes: &[u8]) -> u64 {
    let whole = bytes;
    match Value::deserialize(&mut rmp_serde::Deserializer::new(&mut bytes)) {
        Ok(Value(hash)) if bytes.is_empty() => hash,
        _ => block(Kind::Bytes, whole),
    }
}

/// The hash of a value that tells itself what it is. A struct is an array there, as is a set, so arrays have no order.
struct Value(u64);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Value)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_bool<E: de::Error>(self, v: bool) -> Result<u64, E> {
        Ok(of(Kind::Bool, v.into()))
    }
    fn visit_i64<E: de::Error>(self, v: i64) -> Result<u64, E> {
        Ok(integer(v))
    }
    fn visit_u64<E: de::Error>(self, v: u64) -> Result<u64, E> {
        Ok(of(Kind::Natural, v))
    }
    fn visit_f32<E: de::Error>(self, v: f32) -> Result<u64, E> {
        Ok(of(Kind::F32, v.to_bits().into()))
    }
    fn visit_f64<E: de::Error>(self, v: f64) -> Result<u64, E> {
        Ok(of(Kind::F64, v.to_bits()))
    }
    fn visit_str<E: de::Error>(self, v: &str) -> Result<u64, E> {
        Ok(block(Kind::Text, v.as_bytes()))
    }
    fn visit_bytes<E: de::Error>(self, v: &[u8]) -> Result<u64, E> {
        Ok(block(Kind::Bytes, v))
    }
    fn visit_unit<E: de::Error>(self) -> Result<u64, E> {
        Ok(of(Kind::Unit, 0))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<u64, A::Error> {
        let mut parts = Parts::new(Kind::Bag);
        while let Some(Value(element)) = elements.next_element()? {
            parts.add(element);
        }
        Ok(parts.hash())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<u64, A::Error> {
        let mut parts = Parts::new(Kind::Map);
        while let Some((Value(key), Value(value))) = entries.next_entry()? {
            parts.add(mix(key, value));
        }
        Ok(parts.hash())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque},
        sync::Arc,
    };

    use super::*;
    use crate::{bulk::Bulk, codec};

    fn hash<T: Serialize + ?Sized>(value: &T) -> u64 {
        digest(value, u64::MAX).unwrap().hash
    }

    #[test]
    fn maps_and_sets_have_no_order() {
        // Each of these has a hasher of its own.
        let map =
            |keys: &mut dyn Iterator<Item = u64>| keys.map(|k| (k, k.to_string())).collect::<HashMap<_, _>>();
        let (there, back) = (map(&mut (0..1000)), map(&mut (0..1000).rev()));
        assert!(!there.iter().eq(back.iter()), "they should differ in order");
        assert_eq!(hash(&there), hash(&back));
        assert_eq!(hash(&there), hash(&there.iter().collect::<BTreeMap<_, _>>()));
        let set = |keys: &mut dyn Iterator<Item = u64>| keys.collect::<HashSet<_>>();
        assert_eq!(hash(&set(&mut (0..1000))), hash(&set(&mut (0..1000).rev())));
        let nested = |map: &HashMap<u64, String>| vec![Some((map.clone(), 1)), None];
        assert_eq!(hash(&nested(&there)), hash(&nested(&back)));
        // What differs, differs.
        let mut other = there.clone();
        other.insert(7, "8".to_owned());
        assert_ne!(hash(&there), hash(&other));
        assert_ne!(hash(&HashMap::from([(1, 2), (3, 4)])), hash(&HashMap::from([(1, 4), (3, 2)])));
        assert_ne!(hash(&HashMap::from([(1, 2)])), hash(&HashMap::from([(2, 1)])));
        assert_ne!(hash(&HashSet::from([1, 2])), hash(&HashSet::from([1, 2, 3])));
        // A heap that was restored has its elements in other places.
        let mut heap = BinaryHeap::new();
        [1, 3, 5, 7, 9].into_iter().for_each(|n| heap.push(n));
        let restored: BinaryHeap<_> = [1, 3, 5, 7, 9].into_iter().collect();
        assert!(!heap.iter().eq(restored.iter()), "they should differ in order");
        assert_eq!(hash(&heap), hash(&restored));
    }

    /// Fails if a library or compiler names its types otherwise: then more would count as without order.
    #[test]
    fn sequences_have_an_order() {
        let (a, b) = ([1, 2, 3], [3, 2, 1]);
        assert_ne!(hash(&a[..]), hash(&b[..]));
        assert_ne!(hash(&a), hash(&b));
        assert_ne!(hash(&Vec::from(a)), hash(&Vec::from(b)));
        assert_ne!(hash(&Arc::<[i32]>::from(a)), hash(&Arc::<[i32]>::from(b)));
        assert_ne!(hash(&VecDeque::from(a)), hash(&VecDeque::from(b)));
        assert_ne!(hash(&LinkedList::from(a)), hash(&LinkedList::from(b)));
        assert_eq!(hash(&BTreeSet::from(a)), hash(&BTreeSet::from(b)));
        let reversed = [3, 1].map(std::cmp::Reverse);
        assert_ne!(hash(&BTreeSet::from(reversed)), hash(&BTreeSet::from([1, 3])));
    }

    #[derive(Serialize)]
    enum Any {
        Unit,
        Other,
        One(u8),
        Two(u8, u8),
        Named { a: u8, b: u8 },
    }

    #[test]
    fn values_that_differ_have_different_digests() {
        let hashes = [
            hash(&()),
            hash(&true),
            hash(&false),
            hash(&0),
            hash(&1),
            hash(&-1),
            hash(&u64::MAX),
            hash(&u128::MAX),
            hash(&0.0),
            hash(&-0.0),
            hash(&0.0f32),
            hash(&f64::NAN),
            hash(""),
            hash("a"),
            hash(&Bulk([0u8; 0])),
            hash(&Bulk([97u8])),
            hash(&Some(())),
            hash(&Some(1)),
            hash(&(1, 2)),
            hash(&(2, 1)),
            hash(&((1, 2), 3)),
            hash(&(1, (2, 3))),
            hash(&[(); 0][..]),
            hash(&vec![vec![1], vec![]]),
            hash(&vec![vec![], vec![1]]),
            hash(&HashMap::<u8, u8>::new()),
            hash(&HashSet::<u8>::new()),
            hash(&Any::Unit),
            hash(&Any::Other),
            hash(&Any::One(1)),
            hash(&Any::Two(1, 2)),
            hash(&Any::Named { a: 1, b: 2 }),
            hash(&Any::Named { a: 2, b: 1 }),
        ];
        assert_eq!(HashSet::from(hashes).len(), hashes.len());
        assert_eq!((hash(&1u8), hash(&-1i8)), (hash(&1i64), hash(&-1i64)), "the width isn't kept");
    }

    #[derive(Serialize)]
    #[serde(rename = "crucial::Encoded")]
    struct Blob(#[serde(with = "crate::bulk")] Vec<u8>);

    #[test]
    fn an_encoded_value_may_have_been_encoded_anew() {
        let blob = |value: &dyn Fn() -> HashMap<u64, HashSet<String>>| {
            let mut bytes = Vec::new();
            codec::encode("a value", &value(), &mut bytes).unwrap();
            Blob(bytes)
        };
        let value = || (0..100).map(|i| (i, (0..5).map(|j| format!("{i}-{j}")).collect())).collect();
        let (one, other) = (blob(&value), blob(&value));
        assert_ne!(one.0, other.0, "they should differ in order");
        assert_eq!(hash(&one), hash(&other));
        assert_ne!(hash(&Bulk(&one.0)), hash(&Bulk(&other.0)), "other bytes are what they are");
        assert_ne!(hash(&blob(&HashMap::new)), hash(&one));
        // What is no MessagePack, or has more behind it, counts as it is.
        assert_ne!(hash(&Blob(vec![1, 2])), hash(&Blob(vec![1, 3])));
        assert_ne!(hash(&Blob(vec![0xc1])), hash(&Blob(vec![0xdd, 255, 255, 255, 255])));
    }

    #[test]
    fn no_more_is_looked_at_than_the_limit_allows() {
        let value = (vec![1u64; 1000], "x".repeat(1000), Bulk(vec![0u8; 1000]));
        let Digest { bytes, .. } = digest(&value, u64::MAX).unwrap();
        assert!((10_000..10_100).contains(&bytes), "{bytes}");
        assert!(digest(&value, bytes).is_ok());
        assert_eq!(digest(&value, bytes - 1), Err(Failure::TooLarge));
        struct Unfit;
        impl Serialize for Unfit {
            fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("it is not for others"))
            }
        }
        assert_eq!(digest(&Unfit, 10), Err(Failure::Unfit("it is not for others".to_owned())));
    }
}
