//! Tasks that wait for their eta (kombu.asynchronous.timer).

use std::sync::Arc;

use chrono::Utc;

use crate::request::{Phase, Request};
use crate::worker::Worker;

/// Holds a request back until its eta, then hands it to the pool. A revoked one is settled at its time, as in Celery.
pub(crate) fn schedule(worker: &Arc<Worker>, request: Arc<Request>) {
    let Some(eta) = request.eta else { return };
    request.enter(Phase::Scheduled);
    worker.qos.begin_waiting();
    let worker = worker.clone();
    tokio::spawn(async move {
        loop {
            // The clock may be set meanwhile: look again at least every minute.
            let left = (eta - Utc::now()).to_std().unwrap_or_default();
            if left.is_zero() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(left.min(std::time::Duration::from_secs(60))) => {}
                () = worker.shutdown.wait_warm() => {
                    worker.qos.end_waiting();
                    return;
                }
            }
        }
        worker.qos.end_waiting();
        if !worker.shutdown.begun() {
            request.enter(Phase::Reserved);
            crate::trace::submit(&worker, request, None);
        }
    });
}
