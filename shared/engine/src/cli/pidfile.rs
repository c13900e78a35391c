//! `--pidfile` (celery.platforms: Pidfile).

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

/// A file with this process' id; removed when dropped.
pub(crate) struct Pidfile(PathBuf);

impl Pidfile {
    /// Writes the file. One of a process that is gone is replaced.
    ///
    /// # Errors
    /// It names a process that lives, or cannot be written.
    pub(crate) fn write(path: &Path) -> std::io::Result<Self> {
        let other = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u32>().ok());
        if let Some(other) = other.filter(|other| *other != std::process::id())
            && Path::new(&format!("/proc/{other}")).exists()
        {
            let text = format!("pidfile {} says that process {other} runs already", path.display());
            return Err(Error::new(ErrorKind::AlreadyExists, text));
        }
        std::fs::write(path, format!("{}\n", std::process::id()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_process_a_file() {
        let path = std::env::temp_dir().join(format!("petiole-pidfile-{}", std::process::id()));
        std::fs::write(&path, "1\n").unwrap();
        assert!(Pidfile::write(&path).is_err_and(|error| error.to_string().contains("process 1 runs")));
        std::fs::write(&path, "4000000\n").unwrap();
        drop(Pidfile::write(&path).unwrap());
        assert!(!path.exists());
    }
}
