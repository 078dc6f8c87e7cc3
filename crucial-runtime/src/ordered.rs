//! Values to bytes that are ordered as the values are, and back.
//!
//! A server compares the keys of an ordered map as bytes. MessagePack doesn't do for that: it writes a number in as few
//! bytes as it takes, and puts lengths before contents. Here the bytes of two values of one type compare as the values
//! do with a derived [`Ord`]:
//!
//! | value | bytes |
//! |---|---|
//! | `bool`, unsigned integers, `char` | big-endian |
//! | signed integers | big-endian, with the sign bit turned |
//! | floats | as [`f64::total_cmp`] orders them: big-endian; the sign bit turned, or all bits of a negative number |
//! | strings, bytes | the bytes, with 0 written as 0 255; then 0 0 |
//! | `Option` | 0, or 1 and the value |
//! | tuples, arrays, structs | their fields |
//! | enums | the variant's number, big-endian, and its fields |
//! | sequences, maps | 1 and the element, for each; then 0 |
//!
//! Serde doesn't tell what [`Ord`] a type has, so types with an order of their own are for the caller to notice; what
//! leaves out fields is refused.

use std::fmt::{self, Display};

use serde::{
    Deserialize, Serialize,
    de::{self, IntoDeserializer, Visitor, value::U32Deserializer},
    ser,
};

use crate::error::{Error, Result};

/// Encodes a value. `what` names it in the error.
pub fn encode<T: Serialize + ?Sized>(what: &str, value: &T) -> Result<Vec<u8>> {
    let mut encoder = Encoder(Vec::new());
    value
        .serialize(&mut encoder)
        .map_err(|e| Error::Encode { what: what.to_owned(), reason: e.to_string() })?;
    Ok(encoder.0)
}

/// Decodes a value. `what` names it in the error.
pub fn decode<'a, T: Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> Result<T> {
    let mut decoder = Decoder(bytes);
    let value = T::deserialize(&mut decoder).and_then(|value| match decoder.0.len() {
        0 => Ok(value),
        left => Err(Failure(format!("{left} bytes are left"))),
    });
    value.map_err(|e| Error::Decode { what: what.to_owned(), reason: e.to_string() })
}

#[derive(Debug)]
struct Failure(String);

type Outcome<T> = std::result::Result<T, Failure>;

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl ser::Error for Failure {
    fn custom<T: Display>(message: T) -> Self {
        Failure(message.to_string())
    }
}

impl de::Error for Failure {
    fn custom<T: Display>(message: T) -> Self {
        Failure(message.to_string())
    }
}

struct Encoder(Vec<u8>);

impl Encoder {
    fn put<const N: usize>(&mut self, bytes: [u8; N]) -> Outcome<()> {
        self.0.extend_from_slice(&bytes);
        Ok(())
    }
}

macro_rules! put {
    ($($method:ident: $type:ty, $value:ident => $ordered:expr;)*) => {$(
        fn $method(self, $value: $type) -> Outcome<()> {
            self.put(($ordered).to_be_bytes())
        }
    )*};
}

impl ser::Serializer for &mut Encoder {
    type Ok = ();
    type Error = Failure;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fn is_human_readable(&self) -> bool {
        false
    }

    put! {
        serialize_bool: bool, v => u8::from(v);
        serialize_u8: u8, v => v;
        serialize_u16: u16, v => v;
        serialize_u32: u32, v => v;
        serialize_u64: u64, v => v;
        serialize_u128: u128, v => v;
        serialize_i8: i8, v => v ^ i8::MIN;
        serialize_i16: i16, v => v ^ i16::MIN;
        serialize_i32: i32, v => v ^ i32::MIN;
        serialize_i64: i64, v => v ^ i64::MIN;
        serialize_i128: i128, v => v ^ i128::MIN;
        serialize_char: char, v => u32::from(v);
        serialize_f32: f32, v => if v.is_sign_negative() { !v.to_bits() } else { v.to_bits() ^ (1 << 31) };
        serialize_f64: f64, v => if v.is_sign_negative() { !v.to_bits() } else { v.to_bits() ^ (1 << 63) };
    }

    fn serialize_str(self, v: &str) -> Outcome<()> {
        self.serialize_bytes(v.as_bytes())
    }

    fn serialize_bytes(self, v: &[u8]) -> Outcome<()> {
        for part in v.split_inclusive(|byte| *byte == 0) {
            self.0.extend_from_slice(part);
            if part.ends_with(&[0]) {
                self.0.push(255);
            }
        }
        self.put([0, 0])
    }

    fn serialize_none(self) -> Outcome<()> {
        self.put([0])
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Outcome<()> {
        self.0.push(1);
        value.serialize(self)
    }

    fn serialize_unit(self) -> Outcome<()> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Outcome<()> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Outcome<()> {
        self.put(index.to_be_bytes())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Outcome<()> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Outcome<()> {
        self.put(index.to_be_bytes())?;
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Outcome<Self> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Outcome<Self> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Outcome<Self> {
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Outcome<Self> {
        self.put(index.to_be_bytes())?;
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Outcome<Self> {
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Outcome<Self> {
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Outcome<Self> {
        self.put(index.to_be_bytes())?;
        Ok(self)
    }
}

impl ser::SerializeSeq for &mut Encoder {
    type Ok = ();
    type Error = Failure;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Outcome<()> {
        self.0.push(1);
        value.serialize(&mut **self)
    }
    fn end(self) -> Outcome<()> {
        self.put([0])
    }
}

impl ser::SerializeMap for &mut Encoder {
    type Ok = ();
    type Error = Failure;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Outcome<()> {
        self.0.push(1);
        key.serialize(&mut **self)
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Outcome<()> {
        value.serialize(&mut **self)
    }
    fn end(self) -> Outcome<()> {
        self.put([0])
    }
}

/// Fields, one after the other: their number is that of the type.
macro_rules! fields {
    ($($trait:ident $method:ident $(($name:ident))?;)*) => {$(
        impl ser::$trait for &mut Encoder {
            type Ok = ();
            type Error = Failure;
            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($name: &'static str,)?
                value: &T,
            ) -> Outcome<()> {
                $(let _ = $name;)?
                value.serialize(&mut **self)
            }
            $(
                fn skip_field(&mut self, $name: &'static str) -> Outcome<()> {
                    Err(Failure(format!(
                        "a key of an ordered collection has all of its fields: remove `skip_serializing_if` from `{}`",
                        $name
                    )))
                }
            )?
            fn end(self) -> Outcome<()> {
                Ok(())
            }
        }
    )*};
}

fields! {
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
    SerializeStruct serialize_field(name);
    SerializeStructVariant serialize_field(name);
}

struct Decoder<'de>(&'de [u8]);

impl<'de> Decoder<'de> {
    fn take<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        let (taken, rest) =
            self.0.split_first_chunk().ok_or_else(|| Failure("the bytes end too early".to_owned()))?;
        self.0 = rest;
        Ok(*taken)
    }

    /// The mark before an optional value or an element.
    fn is_there(&mut self) -> Outcome<bool> {
        match self.take()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(Failure(format!("there is a {other} where a 0 or a 1 should be"))),
        }
    }

    fn bytes(&mut self) -> Outcome<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            match self.take()? {
                [0] => match self.take()? {
                    [0] => return Ok(bytes),
                    [255] => bytes.push(0),
                    [other] => return Err(Failure(format!("there is a {other} after a 0"))),
                },
                [byte] => bytes.push(byte),
            }
        }
    }
}

macro_rules! take {
    ($($method:ident $visit:ident $type:ty, $value:ident => $original:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
            let $value = <$type>::from_be_bytes(self.take()?);
            visitor.$visit($original)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for &mut Decoder<'de> {
    type Error = Failure;

    fn is_human_readable(&self) -> bool {
        false
    }

    take! {
        deserialize_u8 visit_u8 u8, v => v;
        deserialize_u16 visit_u16 u16, v => v;
        deserialize_u32 visit_u32 u32, v => v;
        deserialize_u64 visit_u64 u64, v => v;
        deserialize_u128 visit_u128 u128, v => v;
        deserialize_i8 visit_i8 i8, v => v ^ i8::MIN;
        deserialize_i16 visit_i16 i16, v => v ^ i16::MIN;
        deserialize_i32 visit_i32 i32, v => v ^ i32::MIN;
        deserialize_i64 visit_i64 i64, v => v ^ i64::MIN;
        deserialize_i128 visit_i128 i128, v => v ^ i128::MIN;
        deserialize_f32 visit_f32 u32, v => f32::from_bits(if v >> 31 == 0 { !v } else { v ^ (1 << 31) });
        deserialize_f64 visit_f64 u64, v => f64::from_bits(if v >> 63 == 0 { !v } else { v ^ (1 << 63) });
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        visitor.visit_bool(self.is_there()?)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        let number = u32::from_be_bytes(self.take()?);
        let c = char::from_u32(number).ok_or_else(|| Failure(format!("{number} is no `char`")))?;
        visitor.visit_char(c)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        visitor.visit_string(String::from_utf8(self.bytes()?).map_err(|e| Failure(e.to_string()))?)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.deserialize_byte_buf(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        visitor.visit_byte_buf(self.bytes()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        if self.is_there()? { visitor.visit_some(self) } else { visitor.visit_none() }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Outcome<V::Value> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Outcome<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        let mut elements = Elements { decoder: self, left: None };
        let value = visitor.visit_seq(&mut elements)?;
        elements.end().map(|()| value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Outcome<V::Value> {
        visitor.visit_seq(&mut Elements { decoder: self, left: Some(len) })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Outcome<V::Value> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        let mut elements = Elements { decoder: self, left: None };
        let value = visitor.visit_map(&mut elements)?;
        elements.end().map(|()| value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Outcome<V::Value> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Outcome<V::Value> {
        visitor.visit_enum(self)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.deserialize_u32(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Outcome<V::Value> {
        Err(Failure(
            "a key of an ordered collection is decoded by its type alone: enums can't be `untagged` or have a `tag`, \
             and fields can't be `flatten`ed"
                .to_owned(),
        ))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.deserialize_any(visitor)
    }
}

/// Elements of a known number, or each with a mark before it.
struct Elements<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    /// The number that is left; `None` for marks.
    left: Option<usize>,
}

impl Elements<'_, '_> {
    fn next(&mut self) -> Outcome<bool> {
        match &mut self.left {
            None => {
                let more = self.decoder.is_there()?;
                if !more {
                    self.left = Some(0);
                }
                Ok(more)
            }
            Some(0) => Ok(false),
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
        }
    }

    /// A visitor may know the number of its elements, and stop before the mark at the end.
    fn end(&mut self) -> Outcome<()> {
        match self.next()? {
            false => Ok(()),
            true => Err(Failure("there are more elements than the type has".to_owned())),
        }
    }
}

impl<'de> de::SeqAccess<'de> for &mut Elements<'_, 'de> {
    type Error = Failure;
    fn next_element_seed<S: de::DeserializeSeed<'de>>(&mut self, seed: S) -> Outcome<Option<S::Value>> {
        if self.next()? { seed.deserialize(&mut *self.decoder).map(Some) } else { Ok(None) }
    }
    fn size_hint(&self) -> Option<usize> {
        self.left
    }
}

impl<'de> de::MapAccess<'de> for &mut Elements<'_, 'de> {
    type Error = Failure;
    fn next_key_seed<S: de::DeserializeSeed<'de>>(&mut self, seed: S) -> Outcome<Option<S::Value>> {
        if self.next()? { seed.deserialize(&mut *self.decoder).map(Some) } else { Ok(None) }
    }
    fn next_value_seed<S: de::DeserializeSeed<'de>>(&mut self, seed: S) -> Outcome<S::Value> {
        seed.deserialize(&mut *self.decoder)
    }
}

impl<'de> de::EnumAccess<'de> for &mut Decoder<'de> {
    type Error = Failure;
    type Variant = Self;
    fn variant_seed<S: de::DeserializeSeed<'de>>(self, seed: S) -> Outcome<(S::Value, Self)> {
        let number: U32Deserializer<Failure> = u32::from_be_bytes(self.take()?).into_deserializer();
        Ok((seed.deserialize(number)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for &mut Decoder<'de> {
    type Error = Failure;
    fn unit_variant(self) -> Outcome<()> {
        Ok(())
    }
    fn newtype_variant_seed<S: de::DeserializeSeed<'de>>(self, seed: S) -> Outcome<S::Value> {
        seed.deserialize(self)
    }
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Outcome<V::Value> {
        de::Deserializer::deserialize_tuple(self, len, visitor)
    }
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Outcome<V::Value> {
        de::Deserializer::deserialize_tuple(self, fields.len(), visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fmt::Debug, time::Duration};

    use serde::de::DeserializeOwned;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    enum Shape {
        Point,
        Circle(u32),
        Line(i8, i8),
        Box { name: String, sides: Option<Vec<i64>> },
    }

    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    struct Unit;

    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    struct Newtype(String);

    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    struct Record {
        name: Newtype,
        unit: Unit,
        shapes: Vec<Shape>,
        map: BTreeMap<u8, (bool, char)>,
    }

    #[track_caller]
    fn check<T: Ord + Debug + Serialize + DeserializeOwned>(values: &[T]) {
        for a in values {
            let bytes = encode("a value", a).unwrap();
            assert_eq!(&decode::<T>("a value", &bytes).unwrap(), a);
            for b in values {
                assert_eq!(bytes.cmp(&encode("a value", b).unwrap()), a.cmp(b), "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn bytes_are_ordered_as_their_values() {
        check(&[u64::MIN, 1, 127, 128, 255, 256, 65_536, u64::MAX]);
        check(&[i32::MIN, -65_536, -256, -1, 0, 1, 255, 256, i32::MAX]);
        check(&[i128::MIN, -1, 0, 1, i128::MAX]);
        check(&[u128::MIN, 1, u128::MAX]);
        check(&[i8::MIN, -1, 0, 1, i8::MAX]);
        check(&[false, true]);
        check(&['\0', 'a', 'ß', '\u{10_ffff}']);
        check(
            &["", "\0", "\0\0", "\0a", "\u{1}", "a", "a\0", "a\0b", "a\u{1}", "aa", "b", "ä"]
                .map(String::from),
        );
        check(&[None, Some(String::new()), Some("\0".to_owned()), Some("a".to_owned())]);
        check(&[None, Some(None), Some(Some(-1)), Some(Some(1))]);
        check(&[
            vec![],
            vec![vec![]],
            vec![vec![0]],
            vec![vec![0], vec![]],
            vec![vec![0, 0]],
            vec![vec![1u8]],
        ]);
        check(&[vec![(); 0], vec![(); 1], vec![(); 2]]);
        check(&[("a".to_owned(), 1), ("a".to_owned(), 2), ("a\0".to_owned(), 0), ("b".to_owned(), 0)]);
        check(&[[0u16, 1], [0, 256], [1, 0]]);
        check(&[Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(1), Duration::MAX]);
        check(&[
            Shape::Point,
            Shape::Circle(0),
            Shape::Circle(256),
            Shape::Line(-1, 1),
            Shape::Line(1, -1),
            Shape::Box { name: "a".into(), sides: None },
            Shape::Box { name: "a".into(), sides: Some(vec![]) },
            Shape::Box { name: "a".into(), sides: Some(vec![-1]) },
            Shape::Box { name: String::new(), sides: Some(vec![-1, 1]) },
        ]);
        let record = |name: &str, shapes: &[Shape], map: &[(u8, (bool, char))]| Record {
            name: Newtype(name.to_owned()),
            unit: Unit,
            shapes: shapes.to_vec(),
            map: map.iter().copied().collect(),
        };
        check(&[
            record("", &[], &[]),
            record("", &[], &[(1, (false, 'a'))]),
            record("", &[], &[(1, (false, 'a')), (2, (true, 'b'))]),
            record("", &[], &[(1, (true, 'a'))]),
            record("", &[Shape::Point], &[]),
            record("", &[Shape::Point, Shape::Point], &[]),
            record("b", &[Shape::Circle(7)], &[(0, (true, 'z'))]),
        ]);
    }

    #[test]
    fn floats_are_totally_ordered() {
        let values = [
            -f64::NAN,
            f64::NEG_INFINITY,
            -1.5,
            -f64::MIN_POSITIVE,
            -0.0,
            0.0,
            1e-300,
            1.5,
            f64::INFINITY,
            f64::NAN,
        ];
        for a in values {
            let bytes = encode("a value", &a).unwrap();
            assert_eq!(decode::<f64>("a value", &bytes).unwrap().to_bits(), a.to_bits());
            for b in values {
                assert_eq!(bytes.cmp(&encode("a value", &b).unwrap()), a.total_cmp(&b), "{a} and {b}");
                let (a, b) = (a as f32, b as f32);
                let order = encode("a value", &a).unwrap().cmp(&encode("a value", &b).unwrap());
                assert_eq!(order, a.total_cmp(&b), "{a} and {b}");
            }
        }
    }

    #[test]
    fn what_has_no_such_order_is_refused() {
        #[derive(Serialize)]
        struct Skips {
            #[serde(skip_serializing_if = "Option::is_none")]
            maybe: Option<u8>,
        }
        let error = encode("a key", &Skips { maybe: None }).unwrap_err().to_string();
        assert!(error.contains("`skip_serializing_if` from `maybe`"), "{error}");
        encode("a key", &Skips { maybe: Some(1) }).unwrap();

        #[derive(Debug, Serialize, Deserialize)]
        #[serde(untagged)]
        enum Untagged {
            Number(u8),
        }
        let bytes = encode("a key", &Untagged::Number(1)).unwrap();
        let error = decode::<Untagged>("a key", &bytes).unwrap_err().to_string();
        assert!(error.contains("can't be `untagged`"), "{error}");
    }

    #[test]
    fn other_bytes_are_refused() {
        for bytes in [&[][..], &[2], &[1], &[1, 65, 0], &[1, 65, 0, 1], &[1, 255, 0, 0], &[0, 0]] {
            assert!(decode::<Option<String>>("a key", bytes).is_err(), "{bytes:?}");
        }
        assert!(decode::<char>("a key", &[255; 4]).is_err());
        assert!(decode::<Shape>("a key", &[0, 0, 0, 9]).is_err());
    }
}
