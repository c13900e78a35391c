//! Documents looked at, listed, deleted.

use sea_orm::prelude::Expr;
use sea_orm::{ColumnTrait, Condition, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::{Document, DocumentState, LIGHT};
use crate::cursor::{Cursor, Page};
use crate::entity::document;
use crate::error::{Result, StorageError};
use crate::expected::{self, Expected};
use crate::storage::{OPERATION, Storage, within};

/// A document with its text.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentText {
    /// The document.
    pub document: Document,
    /// Its text.
    pub content: String,
}

/// Which documents a list shows; everything that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct DocumentFilter {
    /// Only of this collection.
    pub collection: Option<String>,
    /// Only in this state.
    pub state: Option<DocumentState>,
    /// Only with this content: SHA-256 in hexadecimal.
    pub content_hash: Option<String>,
}

impl Storage {
    /// The document with this id.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], [`StorageError::Unavailable`].
    pub async fn document(&self, id: Uuid) -> Result<Document> {
        within(OPERATION, async {
            let query = document::Entity::find_by_id(id).select_only().columns(LIGHT);
            let row = query.into_model::<Document>().one(&self.db).await?;
            row.map(Document::restored).ok_or_else(|| StorageError::not_found("document", id))
        })
        .await
    }

    /// The document with this id and its text.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], [`StorageError::Unavailable`].
    pub async fn document_text(&self, id: Uuid) -> Result<DocumentText> {
        within(OPERATION, async {
            let row = document::Entity::find_by_id(id).one(&self.db).await?;
            let mut row = row.ok_or_else(|| StorageError::not_found("document", id))?;
            let content = std::mem::take(&mut row.content);
            Ok(DocumentText { document: row.into(), content })
        })
        .await
    }

    /// One page of at most `limit` documents, newest first, after the place `after`.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    pub async fn documents(
        &self,
        filter: &DocumentFilter,
        after: Option<Cursor>,
        limit: u64,
    ) -> Result<Page<Document>> {
        use document::Column as C;
        // no collection has such a name
        if filter.collection.as_deref().is_some_and(|name| name.contains('\0')) {
            return Ok(Page { items: vec![], next: None });
        }
        let mut condition = Condition::all();
        if let Some(collection) = &filter.collection {
            condition = condition.add(C::Collection.eq(collection));
        }
        if let Some(state) = filter.state {
            condition = condition.add(C::State.eq(state));
        }
        if let Some(hash) = &filter.content_hash {
            condition = condition.add(C::ContentHash.eq(hash));
        }
        if let Some(after) = after {
            let place = Expr::tuple([Expr::value(after.created_at), Expr::value(after.id)]);
            condition = condition.add(Expr::tuple([Expr::col(C::CreatedAt), Expr::col(C::Id)]).lt(place));
        }
        let rows = within(OPERATION, async {
            let query = document::Entity::find()
                .select_only()
                .columns(LIGHT)
                .filter(condition)
                .order_by_desc(C::CreatedAt)
                .order_by_desc(C::Id);
            Ok(query.limit(limit + 1).into_model::<Document>().all(&self.db).await?)
        })
        .await?;
        let rows = rows.into_iter().map(Document::restored).collect();
        Ok(Page::new(rows, limit, |document| Cursor { created_at: document.created_at, id: document.id }))
    }

    /// Deletes a document with its passages and vectors.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], [`StorageError::Unavailable`]; [`StorageError::Changed`] when it is not as `expected`.
    pub async fn delete_document(&self, id: Uuid, expected: Option<Expected<'_, Document>>) -> Result<()> {
        within(OPERATION, async {
            let transaction = self.begin().await?;
            let query = document::Entity::find_by_id(id).select_only().columns(LIGHT).lock_exclusive();
            let Some(row) = query.into_model::<Document>().one(&transaction).await? else {
                return Err(StorageError::not_found("document", id));
            };
            expected::check(expected, &row.restored(), "document")?;
            document::Entity::delete_by_id(id).exec(&transaction).await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }
}
