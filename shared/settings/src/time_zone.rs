//! The application's time zone (celery.app.base: timezone).

use petiole_protocol::time_zone::Zone;

use crate::reader::Reader;

/// The application's time zone: `TIMEZONE`; without it UTC, or the system's with `ENABLE_UTC=0`.
pub fn time_zone(reader: &mut Reader) -> Zone {
    let utc = reader.boolean(&["ENABLE_UTC", "CELERY_ENABLE_UTC"], true);
    let Some((name, zone)) = reader.text(&["TIMEZONE", "CELERY_TIMEZONE"]) else {
        return if utc { Zone::UTC } else { local_time_zone() };
    };
    zone.parse().unwrap_or_else(|_| {
        reader.problem(&name, Some(&zone), "a name of the time zone database, such as Europe/Berlin");
        Zone::UTC
    })
}

fn local_time_zone() -> Zone {
    let name = iana_time_zone::get_timezone().unwrap_or_default();
    name.parse().unwrap_or_else(|_| {
        tracing::warn!("the system's time zone is not known, UTC is taken");
        Zone::UTC
    })
}
