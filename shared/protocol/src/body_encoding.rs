//! Base64, in which bodies travel (kombu.transport.virtual.base: Base64).

use std::sync::LazyLock;

use base64::engine::general_purpose::PAD;
use base64::engine::{Engine as _, Simd};

/// Finds out once what the processor can do.
static BASE64: LazyLock<Simd> = LazyLock::new(|| Simd::standard(PAD));

/// The bytes of a body.
pub(crate) fn decode(text: impl AsRef<[u8]>) -> Result<Vec<u8>, base64::DecodeError> {
    BASE64.decode(text)
}

/// A body as it travels.
pub(crate) fn encode(body: &[u8]) -> String {
    BASE64.encode(body)
}

/// Writes a body as it travels.
pub(crate) fn encode_to(body: &[u8], to: &mut String) {
    BASE64.encode_string(body, to);
}

/// How long a body is as it travels, in bytes.
pub(crate) fn length(body: &[u8]) -> usize {
    body.len().div_ceil(3) * 4
}
