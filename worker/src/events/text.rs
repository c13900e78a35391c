//! What the event types about texts share: where the text comes from.

use petiole_storage::StorageError;
use uuid::Uuid;

use super::registry::HandlerError;
use crate::services::Services;

/// English has about four letters to a token.
const LETTERS_PER_TOKEN: usize = 4;

/// The text of an event: its own, or a document's.
///
/// # Errors
/// Both or neither are given, there is no such document, or there is nothing in it.
pub(crate) async fn text_of(
    services: &Services,
    kind: &'static str,
    text: Option<String>,
    document_id: Option<Uuid>,
) -> Result<String, HandlerError> {
    let wrong = |reason: String| HandlerError::Data { kind, reason };
    let text = match (text, document_id) {
        (Some(text), None) => text,
        (None, Some(id)) => match services.storage.document_text(id).await {
            Ok(document) => document.content,
            Err(StorageError::NotFound { .. }) => return Err(wrong(format!("document_id: there is no document {id}"))),
            Err(error) => return Err(error.into()),
        },
        _ => return Err(wrong("either text or document_id must be given".to_owned())),
    };
    if text.trim().is_empty() {
        return Err(wrong("there is no text".to_owned()));
    }
    Ok(text)
}

/// The beginning of a text, as much as a language model is shown.
pub(crate) fn shown<'a>(services: &Services, text: &'a str) -> &'a str {
    let most = services.language.context_tokens * LETTERS_PER_TOKEN;
    &text[..text.floor_char_boundary(most)]
}
