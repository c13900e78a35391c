//! Files become documents, and hostile ones become failed documents.

use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use petiole_storage::{DocumentState, NewDocument};
use petiole_worker::documents::extract::{ExtractError, Extractor, Format};
use petiole_worker::documents::{IngestError, ingest};
use serde_json::Map;
use uuid::Uuid;

use crate::database::{World, message, world};

const DOCX: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";

fn extractor() -> Extractor {
    Extractor::new(env!("CARGO_BIN_EXE_worker"))
}

/// An archive of one part, as `zip` writes it.
fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let mut deflated = DeflateEncoder::new(Vec::new(), Compression::fast());
    deflated.write_all(content).unwrap();
    let packed = deflated.finish().unwrap();
    let mut crc = flate2::Crc::new();
    crc.update(content);
    let sizes = |out: &mut Vec<u8>| {
        out.extend(crc.sum().to_le_bytes());
        out.extend((packed.len() as u32).to_le_bytes());
        out.extend((content.len() as u32).to_le_bytes());
        out.extend((name.len() as u16).to_le_bytes());
        out.extend(0_u16.to_le_bytes());
    };
    let mut out = b"PK\x03\x04\x14\0\0\0\x08\0\0\0\0\0".to_vec();
    sizes(&mut out);
    out.extend(name.bytes());
    out.extend(&packed);
    let directory = out.len() as u32;
    out.extend(b"PK\x01\x02\x14\0\x14\0\0\0\x08\0\0\0\0\0");
    sizes(&mut out);
    out.extend([0; 14]);
    out.extend(name.bytes());
    let length = out.len() as u32 - directory;
    out.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    out.extend(length.to_le_bytes());
    out.extend(directory.to_le_bytes());
    out.extend([0; 2]);
    out
}

fn docx(body: &str) -> Vec<u8> {
    archive("word/document.xml", format!("<w:document xmlns:w='x'><w:body>{body}</w:body></w:document>").as_bytes())
}

/// A PDF of one page, as any program writes it.
fn pdf(lines: &[&str]) -> Vec<u8> {
    let shown: Vec<_> = lines.iter().map(|line| format!("({line}) Tj T*")).collect();
    let content = format!("BT /F1 12 Tf 72 720 Td 14 TL {} ET", shown.join(" "));
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>"
            .to_owned(),
        format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
    ];
    let (mut out, mut places) = ("%PDF-1.4\n".to_owned(), Vec::new());
    for (n, object) in objects.iter().enumerate() {
        places.push(out.len());
        out += &format!("{} 0 obj\n{object}\nendobj\n", n + 1);
    }
    let table = out.len();
    out += &format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    places.iter().for_each(|place| out += &format!("{place:010} 00000 n \n"));
    out += &format!("trailer\n<< /Size {} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n", objects.len() + 1);
    out.into_bytes()
}

async fn document(world: &World, media_type: &str, file: Vec<u8>) -> Uuid {
    let id = Uuid::now_v7();
    let new = NewDocument {
        id,
        title: None,
        collection: "default".into(),
        metadata: Map::new(),
        language: "english".into(),
        media_type: media_type.into(),
        content: String::new(),
        file: Some(file),
        task_id: Uuid::new_v4().to_string(),
    };
    world.storage().create_document(new, message(), petiole_storage::OnDuplicate::Store, None).await.unwrap();
    id
}

#[tokio::test]
async fn files_are_found_by_their_text() {
    let mut world = world().await;
    world.services.extractor = extractor();
    let page = "<html><body><h1>Bees</h1><p>Bees dance to tell of flowers.</p><script>no()</script></body></html>";
    let word = docx("<w:p><w:r><w:t>Wasps build nests of paper.</w:t></w:r></w:p>");
    for (media_type, file, text) in [
        ("text/html; charset=utf-8", page.as_bytes().to_vec(), "# Bees\n\nBees dance to tell of flowers."),
        (DOCX, word, "Wasps build nests of paper."),
        (
            "application/pdf",
            pdf(&["Ants farm aphids", "on the stems of roses."]),
            "Ants farm aphids\non the stems of roses.",
        ),
    ] {
        let id = document(&world, media_type, file).await;
        ingest(&world.services, id).await.unwrap();
        let stored = world.storage().document_text(id).await.unwrap();
        assert_eq!((stored.document.state, stored.content.as_str()), (DocumentState::Ready, text));
        assert_eq!(world.storage().document_file(id).await.unwrap(), None);
        assert!(world.found("insects").await.contains(&text.to_owned()));
    }
}

#[tokio::test]
async fn a_file_that_gives_no_text_fails_with_its_reason() {
    let mut world = world().await;
    world.services.extractor = extractor();
    let id = document(&world, "text/html", b"<script>only()</script>".to_vec()).await;
    let error = ingest(&world.services, id).await.unwrap_err();
    assert!(matches!(error, IngestError::Extract(_)) && !error.is_transient(), "{error}");
    let failed = world.storage().document(id).await.unwrap();
    assert_eq!(failed.state, DocumentState::Failed);
    assert_eq!(failed.error.as_deref(), Some("the file cannot be read: it holds no text"));
    assert_eq!(world.storage().document_file(id).await.unwrap(), None, "it serves nobody");
    let cases: [(&str, &[u8], &str); 4] = [
        ("text/plain", b"\xff\xfe", "the file cannot be read: it is not text in UTF-8"),
        ("text/plain", b" \n", "the document has no text"),
        ("application/pdf", b"no PDF", "the file cannot be read: it is no PDF, or damaged"),
        ("image/png", b"\x89PNG", "files of the type image/png are not read here"),
    ];
    for (media_type, file, reason) in cases {
        let id = document(&world, media_type, file.to_vec()).await;
        ingest(&world.services, id).await.unwrap_err();
        assert_eq!(world.storage().document(id).await.unwrap().error.as_deref(), Some(reason), "{media_type}");
    }
}

/// Why a file cannot be read.
async fn refused(format: Format, file: Vec<u8>) -> String {
    match extractor().extract(format, file).await.unwrap_err() {
        ExtractError::File(reason) => reason,
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn hostile_files_end_no_worker() {
    let bomb = docx(&"<w:p/>".repeat(20_000_000));
    assert!(bomb.len() < 1 << 20);
    for (format, file, says) in [
        (Format::Docx, bomb, "unpacks to more than 100 MiB"),
        (Format::Docx, archive("other.xml", b"<a/>"), "no text part"),
        (Format::Docx, b"PK\x03\x04 and nothing else".to_vec(), "no DOCX"),
        (Format::Docx, docx("<w:p><w:t>&own;</w:t></w:p>"), "own"),
        (Format::Pdf, b"%PDF-1.7\ngarbage".to_vec(), "no PDF, or damaged"),
        (Format::Pdf, pdf(&["x"]).split_off(200), "no PDF, or damaged"),
        (Format::Pdf, pdf(&[]), "pages that are pictures"),
        // the walk over so deep a page runs out of stack, which ends its process
        (Format::Html, [b"<b>".repeat(200_000), b"deep".to_vec()].concat(), "damaged"),
    ] {
        let reason = refused(format, file).await;
        assert!(reason.contains(says), "{says} not in {reason}");
    }
}

#[tokio::test]
async fn a_tree_of_pages_that_bites_its_tail_ends() {
    let text = String::from_utf8(pdf(&["x"])).unwrap().replace("/Kids [3 0 R]", "/Kids [2 0 R]");
    refused(Format::Pdf, text.into_bytes()).await;
}

#[tokio::test]
async fn a_program_that_is_not_there_may_be_there_later() {
    let error = Extractor::new("/nonexistent").extract(Format::Html, b"<p>x".to_vec()).await.unwrap_err();
    assert!(IngestError::from(error).is_transient());
}
