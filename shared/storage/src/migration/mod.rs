//! The schema's history: one file of SQL a step, never changed once it was released.

use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager};

pub(crate) struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(Sql {
                name: "m0001_events_documents_outbox",
                up: include_str!("m0001_events_documents_outbox.sql"),
            }),
            Box::new(Sql { name: "m0002_schedules", up: include_str!("m0002_schedules.sql") }),
            Box::new(Sql { name: "m0003_api_keys", up: include_str!("m0003_api_keys.sql") }),
            Box::new(Sql { name: "m0004_conversations", up: include_str!("m0004_conversations.sql") }),
            Box::new(Sql { name: "m0005_document_files", up: include_str!("m0005_document_files.sql") }),
            Box::new(Sql { name: "m0006_revisions", up: include_str!("m0006_revisions.sql") }),
            Box::new(Sql { name: "m0007_event_steps", up: include_str!("m0007_event_steps.sql") }),
            Box::new(Sql { name: "m0008_outbox_kept", up: include_str!("m0008_outbox_kept.sql") }),
        ]
    }
}

/// A step that is plain SQL. There is no way back: a released schema is mended by the next step.
struct Sql {
    name: &'static str,
    up: &'static str,
}

impl MigrationName for Sql {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Sql {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(self.up).await?;
        Ok(())
    }
}
