//! Collections: which there are, and what they hold.

use chrono::{DateTime, Utc};
use petiole_storage::Collection;
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};

use crate::failures::{Answer, List, One};
use crate::routes::Group;
use crate::routes::default_limit;
use crate::state::State;

#[derive(Clone, Default)]
pub(crate) struct Collections;

/// The documents of one name together.
#[derive(Debug, Object)]
#[oai(rename = "Collection")]
pub(crate) struct CollectionView {
    /// Its name.
    name: String,
    /// How many documents it has.
    documents: i64,
    /// How many passages they have.
    chunks: i64,
    /// How many of the documents wait for their task.
    queued: i64,
    /// How many are being cut and embedded.
    processing: i64,
    /// How many can be found.
    ready: i64,
    /// How many failed.
    failed: i64,
    /// When its oldest document was accepted.
    created_at: DateTime<Utc>,
    /// When one of its documents last changed.
    updated_at: DateTime<Utc>,
}

impl From<Collection> for CollectionView {
    fn from(of: Collection) -> Self {
        Self {
            name: of.name,
            documents: of.documents,
            chunks: of.chunks,
            queued: of.queued,
            processing: of.processing,
            ready: of.ready,
            failed: of.failed,
            created_at: of.created_at,
            updated_at: of.updated_at,
        }
    }
}

/// A page of collections.
#[derive(Debug, Object)]
pub(crate) struct CollectionPage {
    /// The collections, by their names.
    items: Vec<CollectionView>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

#[derive(ApiResponse)]
pub(crate) enum DeletedCollection {
    /// Its documents are gone, with their passages and vectors.
    #[oai(status = 204)]
    Deleted,
}

#[OpenApi]
impl Collections {
    /// List collections
    ///
    /// By their names, by pages: give `next_cursor` as `cursor` for the next one. A collection is there while it has
    /// documents.
    #[oai(path = "/v1/collections", method = "get", operation_id = "listCollections", tag = "Group::Documents")]
    async fn list(
        &self,
        state: Data<&State>,
        /// At most this many.
        #[oai(default = "default_limit", validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<u64>,
        /// Where the page begins: `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Answer<Json<CollectionPage>, List> {
        let after = cursor.0.as_deref().filter(|cursor| !cursor.is_empty());
        let (items, more) = state.storage.collections(after, limit.0).await?;
        let next_cursor = items.last().filter(|_| more).map(|last| last.name.clone());
        Ok(Json(CollectionPage { items: items.into_iter().map(Into::into).collect(), next_cursor }))
    }

    /// Look at a collection
    ///
    /// How many documents and passages it has, and how far they are.
    #[oai(path = "/v1/collections/:name", method = "get", operation_id = "getCollection", tag = "Group::Documents")]
    async fn get(
        &self,
        state: Data<&State>,
        /// The collection's name.
        name: Path<String>,
    ) -> Answer<Json<CollectionView>, One> {
        Ok(Json(state.storage.collection(&name.0).await?.into()))
    }

    /// Delete a collection
    ///
    /// All its documents go, with their passages and vectors.
    #[oai(
        path = "/v1/collections/:name",
        method = "delete",
        operation_id = "deleteCollection",
        tag = "Group::Documents"
    )]
    async fn delete(
        &self,
        state: Data<&State>,
        /// The collection's name.
        name: Path<String>,
    ) -> Answer<DeletedCollection, One> {
        state.storage.delete_collection(&name.0).await?;
        Ok(DeletedCollection::Deleted)
    }
}
