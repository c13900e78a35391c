//! `worker --ping`: whether the worker of this name answers by remote control, as `celery inspect ping -d NAME` asks it.

use std::time::Duration;

use anyhow::{Context, ensure};
use petiole_client::{Client, ClientConfig};
use petiole_settings::{Reader, Settings};
use secrecy::ExposeSecret;

/// How long the worker has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the worker `node`.
///
/// # Errors
/// Redis is away, or no answer came in time.
pub(crate) async fn ask(settings: &Settings, node: &str) -> anyhow::Result<()> {
    let (broker, backend) = (settings.broker_url.expose_secret(), settings.result_backend.expose_secret());
    let config = ClientConfig::read(&mut Reader::from_env(), broker, backend);
    let client = Client::new(config).context("BROKER_URL or RESULT_BACKEND cannot be used")?;
    let destination = [node.to_owned()];
    // Connecting has a timeout of its own; this bounds all of it.
    let replies =
        tokio::time::timeout(PATIENCE * 2, client.inspect("ping", Default::default(), Some(&destination), PATIENCE))
            .await
            .context("Redis did not answer in time")??;
    ensure!(replies.contains_key(node), "{node} does not answer");
    println!("{node} answers");
    Ok(())
}
