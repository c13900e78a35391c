//! msgpack as kombu uses it: text as str, bytes as bin (kombu.serialization: register_msgpack).

use chrono::DateTime;
use rmpv::Value as Packed;
use serde_json::{Map, Value};

use super::tagged::{self, Tagged};
use super::{DecodeError, MAX_DEPTH, key};

fn bad(why: impl std::fmt::Display) -> DecodeError {
    DecodeError::Body("msgpack", why.to_string())
}

/// Reads one value, and nothing after it.
pub(super) fn decode(bytes: &[u8]) -> Result<Value, DecodeError> {
    let mut rest = bytes;
    let packed = rmpv::decode::read_value_with_max_depth(&mut rest, MAX_DEPTH).map_err(bad)?;
    if !rest.is_empty() {
        return Err(bad(format!("{} bytes are left over", rest.len())));
    }
    unpack(packed)
}

fn unpack(packed: Packed) -> Result<Value, DecodeError> {
    Ok(match packed {
        Packed::Nil => Value::Null,
        Packed::Boolean(is) => is.into(),
        Packed::Integer(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => return Err(bad("a number out of range")),
        },
        Packed::F32(number) => tagged::float(number.into()),
        Packed::F64(number) => tagged::float(number),
        Packed::String(text) => text.into_str().ok_or_else(|| bad("text that is not UTF-8"))?.into(),
        Packed::Binary(bytes) => tagged::bytes(bytes),
        Packed::Array(items) => Value::Array(items.into_iter().map(unpack).collect::<Result<_, _>>()?),
        Packed::Map(entries) => {
            let mut map = Map::with_capacity(entries.len());
            for (name, value) in entries {
                let name = key(unpack(name)?).ok_or_else(|| bad("a key that is a list or a map"))?;
                map.insert(name, unpack(value)?);
            }
            Value::Object(map)
        }
        Packed::Ext(-1, data) => timestamp(&data).ok_or_else(|| bad("a timestamp out of range"))?,
        Packed::Ext(kind, _) => return Err(bad(format!("an extension type, {kind}, that is not known here"))),
    })
}

/// msgpack's own timestamp: seconds, and nanoseconds in the longer forms.
fn timestamp(data: &[u8]) -> Option<Value> {
    let (seconds, nanos) = match *data {
        [_, _, _, _] => (i64::from(u32::from_be_bytes(data.try_into().ok()?)), 0),
        [_, _, _, _, _, _, _, _] => {
            let both = u64::from_be_bytes(data.try_into().ok()?);
            ((both & 0x3_ffff_ffff) as i64, (both >> 34) as u32)
        }
        [a, b, c, d, ref seconds @ ..] => {
            (i64::from_be_bytes(seconds.try_into().ok()?), u32::from_be_bytes([a, b, c, d]))
        }
        _ => return None,
    };
    let time = DateTime::from_timestamp(seconds, nanos)?;
    Some(tagged::datetime(crate::time::format(time)))
}

/// Writes a value.
pub(super) fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    // Writing to memory cannot fail.
    let _ = rmpv::encode::write_value(&mut out, &pack(value));
    out
}

fn pack(value: &Value) -> Packed {
    match value {
        Value::Null => Packed::Nil,
        Value::Bool(is) => (*is).into(),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            // msgpack has no longer integers than 64 bits, and Python refuses them.
            (None, None) if number.as_str().bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') => {
                number.as_str().into()
            }
            (None, None) => tagged::as_float(number).into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => Packed::Array(items.iter().map(pack).collect()),
        Value::Object(map) => match tagged::read(value) {
            Some(Tagged::Bytes(bytes)) => Packed::Binary(bytes),
            Some(Tagged::Time(text)) => text.into(),
            Some(Tagged::Text(text)) => text.into(),
            None => Packed::Map(map.iter().map(|(name, value)| (name.as_str().into(), pack(value))).collect()),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn bytes_are_bin_and_text_is_str() {
        let tagged =
            json!([{"__type__": "bytes", "__value__": "abc"}, {"__type__": "base64", "__value__": "/w=="}, "é"]);
        assert_eq!(encode(&tagged), b"\x93\xc4\x03abc\xc4\x01\xff\xa2\xc3\xa9");
        assert_eq!(decode(&encode(&tagged)).unwrap(), tagged);
    }

    #[test]
    fn timestamps_become_datetimes() {
        let packed = b"\xd6\xff\x00\x00\x00\x00";
        assert_eq!(decode(packed).unwrap()["__value__"], "1970-01-01T00:00:00.000000+00:00");
        assert!(decode(b"\xd4\x05\x00").unwrap_err().to_string().contains("extension type, 5"));
    }

    #[test]
    fn depth_and_left_overs_are_errors() {
        let mut deep = vec![0x91; 5000];
        deep.push(0xc0);
        assert!(decode(&deep).is_err() && decode(b"\xc0\xc0").is_err() && decode(b"").is_err());
        // A length without its content must not be believed.
        assert!(decode(b"\xdd\xff\xff\xff\xff").is_err() && decode(b"\xc6\xff\xff\xff\xff").is_err());
    }

    #[test]
    fn keys_become_text_and_long_integers_too() {
        assert_eq!(decode(b"\x82\x01\x02\xc3\x04").unwrap(), json!({"1": 2, "true": 4}));
        let long = crate::serializer::from_json(b"[123456789012345678901234567890, 1e3, NaN]").unwrap();
        let back = decode(&encode(&long)).unwrap();
        assert_eq!((&back[0], &back[1]), (&json!("123456789012345678901234567890"), &json!(1000.0)));
        assert_eq!(back[2].to_string(), "NaN");
    }
}
