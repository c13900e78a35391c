//! Compressed bodies (kombu.compression): every form is read, and written when a caller or a setting asks for it.

use std::io::{Read, Write};

use crate::serializer::DecodeError;

/// A body that grows beyond this is taken for an attack, in bytes.
pub const MAX_DECOMPRESSED: u64 = 512 * 1024 * 1024;
/// The most memory that a dictionary of xz may ask for, in KiB.
const MAX_DICTIONARY: u32 = 128 * 1024;
/// What stands before a compressed result, with the compression's content type and a zero byte after it
/// (celery.backends.base: COMPRESSED_PAYLOAD_MAGIC).
const RESULT_MAGIC: &[u8] = b"\0celery-compressed\0";

/// A way to compress a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// `gzip`, `zlib`: a zlib stream, not a gzip file.
    Gzip,
    /// `bzip2`, `bzip`.
    Bzip2,
    /// `lzma`, `xz`: an xz container.
    Lzma,
    /// `zstd`, `zstandard`.
    Zstd,
    /// `brotli`.
    Brotli,
}

impl Compression {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Gzip, Self::Bzip2, Self::Lzma, Self::Zstd, Self::Brotli];

    /// By kombu's name, its aliases, or the content type.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "application/x-gzip" | "gzip" | "zlib" => Some(Self::Gzip),
            "application/x-bz2" | "bzip2" | "bzip" => Some(Self::Bzip2),
            "application/x-lzma" | "lzma" | "xz" => Some(Self::Lzma),
            "application/zstd" | "zstd" | "zstandard" => Some(Self::Zstd),
            "application/x-brotli" | "brotli" => Some(Self::Brotli),
            _ => None,
        }
    }

    /// kombu's short name, as a setting holds it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Lzma => "lzma",
            Self::Zstd => "zstd",
            Self::Brotli => "brotli",
        }
    }

    /// What the header `compression` holds.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Gzip => "application/x-gzip",
            Self::Bzip2 => "application/x-bz2",
            Self::Lzma => "application/x-lzma",
            Self::Zstd => "application/zstd",
            Self::Brotli => "application/x-brotli",
        }
    }

    /// Compresses.
    ///
    /// # Errors
    /// Writing to memory does not fail; the encoders' signatures say that it might.
    pub fn compress(self, data: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Gzip => {
                let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
                out.write_all(data)?;
                out.finish()
            }
            Self::Bzip2 => {
                let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
                out.write_all(data)?;
                out.finish()
            }
            Self::Lzma => {
                // The higher presets take tens of megabytes of memory for every message.
                let mut out = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1))?;
                out.write_all(data)?;
                out.finish()
            }
            Self::Zstd => Ok(ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)),
            Self::Brotli => {
                let mut out = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
                out.write_all(data)?;
                Ok(out.into_inner())
            }
        }
    }

    /// Decompresses.
    ///
    /// # Errors
    /// Damaged data, or more than [`MAX_DECOMPRESSED`] bytes.
    pub fn decompress(self, data: &[u8]) -> Result<Vec<u8>, DecodeError> {
        match self {
            Self::Gzip => self.read(flate2::read::ZlibDecoder::new(data)),
            Self::Bzip2 => self.read(bzip2::read::MultiBzDecoder::new(data)),
            Self::Lzma => self.read(lzma_rust2::XzReader::new_mem_limit(data, true, MAX_DICTIONARY)),
            Self::Zstd => self.read(ruzstd::decoding::StreamingDecoder::new(data).map_err(|error| self.bad(&error))?),
            Self::Brotli => self.read(brotli::Decompressor::new(data, 4096)),
        }
    }

    fn read(self, from: impl Read) -> Result<Vec<u8>, DecodeError> {
        let mut out = Vec::new();
        from.take(MAX_DECOMPRESSED + 1).read_to_end(&mut out).map_err(|error| self.bad(&error))?;
        if out.len() as u64 > MAX_DECOMPRESSED {
            return Err(self.bad(&"the body is too large"));
        }
        Ok(out)
    }

    fn bad(self, why: &dyn std::fmt::Display) -> DecodeError {
        DecodeError::Compression(self.content_type().to_owned(), why.to_string())
    }
}

/// Decompresses a body. `name` is the header's value: kombu's content type, or a short name.
///
/// # Errors
/// An unknown name, damaged data, or more than [`MAX_DECOMPRESSED`] bytes.
pub fn decompress(name: &str, data: &[u8]) -> Result<Vec<u8>, DecodeError> {
    match Compression::from_name(name) {
        Some(compression) => compression.decompress(data),
        None => Err(DecodeError::Compression(name.to_owned(), "not known here".to_owned())),
    }
}

/// Compresses a result and says so in front of it.
///
/// # Errors
/// As [`Compression::compress`].
pub fn compress_result(compression: Compression, data: &[u8]) -> std::io::Result<Vec<u8>> {
    Ok([RESULT_MAGIC, compression.content_type().as_bytes(), b"\0", &compression.compress(data)?].concat())
}

/// A stored result without its compression. One that says nothing of any is given back as it is.
///
/// # Errors
/// As [`decompress`].
pub fn decompress_result(data: &[u8]) -> Result<std::borrow::Cow<'_, [u8]>, DecodeError> {
    let Some(rest) = data.strip_prefix(RESULT_MAGIC) else { return Ok(data.into()) };
    let end = rest.iter().position(|byte| *byte == 0);
    let (name, body) = end.map_or((rest, &[][..]), |end| (&rest[..end], &rest[end + 1..]));
    Ok(decompress(&String::from_utf8_lossy(name), body)?.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn damage_and_unknown_names_are_errors() {
        for compression in Compression::ALL {
            assert!(compression.decompress(b"certainly not compressed").is_err(), "{compression:?}");
        }
        assert!(decompress("rot13", b"").is_err());
    }

    #[test]
    fn what_was_compressed_is_smaller_and_comes_back() {
        let text = "Das ist nicht der Rede wert. ".repeat(400);
        for compression in Compression::ALL {
            for data in [text.as_bytes(), b"", b"x"] {
                let packed = compression.compress(data).unwrap();
                assert!(data.len() < 100 || packed.len() < data.len() / 10, "{compression:?}: {}", packed.len());
                assert_eq!(compression.decompress(&packed).unwrap(), data, "{compression:?}");
                let result = compress_result(compression, data).unwrap();
                assert_eq!(decompress_result(&result).unwrap().as_ref(), data);
            }
            assert_eq!(Compression::from_name(compression.name()), Some(compression));
        }
        assert_eq!(decompress_result(b"{}").unwrap().as_ref(), b"{}");
        assert!(decompress_result(b"\0celery-compressed\0").is_err());
    }
}
