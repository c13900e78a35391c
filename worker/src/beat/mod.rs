//! Beat with this application's schedules: those of its code, of the settings and of the database.

mod database;

use petiole_beat::cli::{self, BeatArgs, Embedded, signalled};
use petiole_beat::{Beat, BeatConfig};
use petiole_settings::Settings;
use petiole_storage::Storage;
use secrecy::ExposeSecret;

pub use database::Database;

/// How many connections to the database a beat needs: one to read, one to note runs.
const CONNECTIONS: u32 = 2;

/// A beat that runs beside a worker.
///
/// # Errors
/// As [`run`].
pub async fn embedded(settings: &Settings) -> anyhow::Result<Embedded> {
    Ok(Embedded::start(beat(cli::config()?, settings).await?)?)
}

/// A beat, ready to run.
///
/// # Errors
/// A schedule of the code that is none, or an address that cannot be read.
async fn beat(config: BeatConfig, settings: &Settings) -> anyhow::Result<Beat> {
    let storage = Storage::connect(settings.database_url.expose_secret(), CONNECTIONS).await?;
    let beat = Beat::new(config, settings.broker_url.expose_secret())?;
    Ok(beat.entries(crate::schedules::schedules()?).source(Database::new(storage)))
}

/// Runs nothing but a beat, until it is told to stop by a signal.
///
/// # Errors
/// A schedule of the code that is none, or a setting that cannot be used. A Redis or a database that is away is waited for.
pub async fn run(args: &BeatArgs, settings: &Settings) -> anyhow::Result<()> {
    let mut config = cli::config()?;
    args.apply(&mut config);
    args.banner(&config, settings.broker_url.expose_secret());
    let stop = signalled()?;
    beat(config, settings).await?.run(stop).await;
    Ok(())
}
