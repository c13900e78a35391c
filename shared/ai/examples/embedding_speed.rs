//! How fast the in-process model is on this machine, and how much memory it takes.
//!
//! `cargo run --release -p petiole-ai --example embedding_speed [FILE]`; of a file each line is a text, and all are embedded together.

use std::time::Instant;

use petiole_ai::embedder_from;
use petiole_settings::{AiSettings, Reader};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut reader = Reader::from_env();
    let settings = AiSettings::read(&mut reader);
    reader.finish()?;
    let embedder = embedder_from(&settings)?;

    let begun = Instant::now();
    embedder.embed(&["warm up".to_owned()]).await?;
    println!("load and first text: {} ms", begun.elapsed().as_millis());

    if let Some(file) = std::env::args().nth(1) {
        let texts: Vec<String> = std::fs::read_to_string(file)?.lines().map(str::to_owned).collect();
        let begun = Instant::now();
        embedder.embed(&texts).await?;
        let took = begun.elapsed().as_secs_f64();
        println!("{} texts: {took:.2} s, {:.0} a second", texts.len(), texts.len() as f64 / took);
        return Ok(());
    }

    let short = "Where do I leave my bicycle overnight?".to_owned();
    let long = "The cellar has sixty stands and a compressor for flat tyres. ".repeat(16);
    for (name, text, count) in [("short text", short, 64), ("text of about 200 tokens", long, 32)] {
        let begun = Instant::now();
        for _ in 0..count {
            embedder.embed(std::slice::from_ref(&text)).await?;
        }
        let alone = begun.elapsed().as_secs_f64() * 1e3 / f64::from(count);
        let texts = vec![text; count as usize];
        let begun = Instant::now();
        embedder.embed(&texts).await?;
        let together = begun.elapsed().as_secs_f64() * 1e3 / f64::from(count);
        println!("{name}: {alone:.1} ms alone, {together:.1} ms in a batch of {count}");
    }
    // Linux tells; elsewhere there is no such file.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for line in status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM")) {
        println!("{line}");
    }
    Ok(())
}
