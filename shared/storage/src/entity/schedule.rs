use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "schedules")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub name: String,
    pub task: String,
    pub args: Json,
    pub kwargs: Json,
    pub options: Json,
    pub crontab: Option<String>,
    pub every_seconds: Option<f64>,
    pub relative: bool,
    pub timezone: Option<String>,
    pub enabled: bool,
    pub active_since: DateTimeUtc,
    pub last_run_at: Option<DateTimeUtc>,
    pub total_run_count: i64,
    pub last_task_id: Option<String>,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
