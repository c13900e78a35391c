use sea_orm::entity::prelude::*;

use crate::documents::DocumentState;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "documents")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub title: Option<String>,
    pub collection: String,
    pub metadata: Json,
    pub language: String,
    pub media_type: String,
    pub content: String,
    pub content_hash: String,
    pub state: DocumentState,
    pub chunks: i32,
    pub chunks_done: i32,
    pub error: Option<String>,
    pub task_id: String,
    pub revision: i32,
    pub event_id: Option<Uuid>,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
