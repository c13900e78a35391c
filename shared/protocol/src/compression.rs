//! Compressed bodies (kombu.compression). Python compresses when a caller asks for it; every form is read here.

use std::io::Read;

use crate::serializer::DecodeError;

/// A body that grows beyond this is taken for an attack, in bytes.
pub const MAX_DECOMPRESSED: u64 = 512 * 1024 * 1024;

/// Decompresses a body. `name` is the header's value: kombu's content type, or a short name.
///
/// # Errors
/// An unknown name, damaged data, or more than [`MAX_DECOMPRESSED`] bytes.
pub fn decompress(name: &str, data: &[u8]) -> Result<Vec<u8>, DecodeError> {
    match name {
        // kombu's gzip is a zlib stream.
        "application/x-gzip" | "gzip" | "zlib" => read(name, flate2::read::ZlibDecoder::new(data)),
        "application/x-bz2" | "bzip2" | "bzip" => read(name, bzip2::read::BzDecoder::new(data)),
        "application/x-lzma" | "lzma" | "xz" => {
            let mut out = Bounded(Vec::new());
            lzma_rs::xz_decompress(&mut &data[..], &mut out).map_err(|error| bad(name, &error))?;
            Ok(out.0)
        }
        "application/zstd" | "zstd" | "zstandard" => {
            read(name, ruzstd::decoding::StreamingDecoder::new(data).map_err(|error| bad(name, &error))?)
        }
        "application/x-brotli" | "brotli" => read(name, brotli_decompressor::Decompressor::new(data, 4096)),
        unknown => Err(DecodeError::Compression(unknown.to_owned(), "not known here".to_owned())),
    }
}

fn read(name: &str, from: impl Read) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    from.take(MAX_DECOMPRESSED + 1).read_to_end(&mut out).map_err(|error| bad(name, &error))?;
    if out.len() as u64 > MAX_DECOMPRESSED {
        return Err(bad(name, &"the body is too large"));
    }
    Ok(out)
}

fn bad(name: &str, why: &dyn std::fmt::Display) -> DecodeError {
    DecodeError::Compression(name.to_owned(), why.to_string())
}

/// A buffer that refuses to grow without end.
struct Bounded(Vec<u8>);

impl std::io::Write for Bounded {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        if (self.0.len() + data.len()) as u64 > MAX_DECOMPRESSED {
            return Err(std::io::Error::other("the body is too large"));
        }
        self.0.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_and_unknown_names_are_errors() {
        for name in ["gzip", "bzip2", "xz", "zstd", "brotli"] {
            assert!(decompress(name, b"certainly not compressed").is_err(), "{name}");
        }
        assert!(decompress("rot13", b"").is_err());
    }
}
